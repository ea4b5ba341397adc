// A page that uses live.js as a pack's page would; prints the events that it got, once it has COUNT.
//   usage: node live.mjs URL COUNT
import { launch } from "./launch.mjs";

const [url, count] = process.argv.slice(2);
const browser = await launch();
try {
  const page = await browser.newPage();
  await page.goto(url + "/static/live.js");
  await page.evaluate(async () => {
    const { channel } = await import("/static/live.js");
    globalThis.got = [];
    globalThis.states = [];
    channel("/ws/dashboard").on("*", (data, event) => got.push([event, data])).onState((state) => states.push(state));
  });
  await page.waitForFunction((count) => got.length >= count, Number(count));
  console.log(JSON.stringify(await page.evaluate(() => ({ got, states }))));
} finally {
  await browser.close();
}
