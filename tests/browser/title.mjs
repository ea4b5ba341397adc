// Prints the title that a page has once its scripts have run.   usage: node title.mjs URL
import { launch } from "./launch.mjs";

const browser = await launch();
try {
  const page = await browser.newPage();
  await page.goto(process.argv[2]);
  console.log(await page.title());
} finally {
  await browser.close();
}
