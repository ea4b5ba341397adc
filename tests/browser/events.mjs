// A page that listens by EventSource; prints the events of NAME that it got, once it has COUNT, and its connections.
// Makes the file BEGUN when the first has come.
//   usage: node events.mjs URL PATH NAME COUNT BEGUN
import { writeFileSync } from "node:fs";
import { launch } from "./launch.mjs";

const [url, path, name, count, begun] = process.argv.slice(2);
const browser = await launch();
try {
  const page = await browser.newPage();
  await page.goto(url + "/static/live.js");
  await page.evaluate(([path, name]) => {
    globalThis.got = [];
    globalThis.opened = 0;
    globalThis.events = new EventSource(path);
    events.onopen = () => (opened += 1);
    events.addEventListener(name, (event) => got.push([event.lastEventId, JSON.parse(event.data)]));
  }, [path, name]);
  await page.waitForFunction(() => got.length > 0);
  writeFileSync(begun, "");
  await page.waitForFunction((count) => got.length >= count || events.readyState === EventSource.CLOSED, Number(count), { timeout: 0 });
  console.log(JSON.stringify(await page.evaluate(() => ({ got, opened }))));
} finally {
  await browser.close();
}
