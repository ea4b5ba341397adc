// Uses the console as a person would; prints what it saw as one JSON object.   usage: node console.mjs URL
import { launch } from "./launch.mjs";

const base = process.argv[2];
const browser = await launch();
const seen = { errors: [] };
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  const text = (selector) => page.textContent(selector);

  await page.goto(base + "/console");
  await page.fill("[name=username]", "ada");
  await page.fill("[name=password]", "ada's password");
  await page.click("button.main");
  await page.waitForSelector("[data-link=live]");
  seen["after login"] = new URL(page.url()).pathname;
  seen.flows = await page.$$eval(".flow", (cards) => Object.fromEntries(cards.map((card) => [card.dataset.flow, card.dataset.state])));
  seen.sum = await text("[data-sum=running]");
  seen.trouble = await text("[data-flow=office] .trouble");

  await page.click("[data-flow=line] h2 a");
  await page.waitForSelector("[data-link=live]");
  await page.waitForFunction(() => document.querySelector(".node[data-node=verdict] .rate b").textContent === "7.0");
  seen["rate of verdict"] = await text(".node[data-node=verdict] .rate b");
  await page.waitForSelector(".flow .alarm:not([hidden])");
  seen.alarm = [await text(".flow .alarm"), await text(".ledger [data-field=balance]")];
  seen.stored = await text(".ledger [data-field=stored]");
  seen["busy wires"] = (await page.$$(".wire.busy")).length > 0;

  await page.click(".node[data-node=verdict]");
  await page.waitForSelector("#detail:not([hidden])");
  seen.node = await text("#detail h2");
  seen.options = (await text("#detail .options")).includes("one_of");
  seen.docs = (await text("#detail .docs")).length > 20;
  seen.letters = (await page.$$("#detail .letters li")).length;
  await page.keyboard.press("Escape");
  seen["closed by Escape"] = await page.isHidden("#detail");

  await page.setViewportSize({ width: 360, height: 740 });
  seen["on a phone"] = await page.evaluate(() => document.documentElement.scrollWidth <= 360);

  const numbers = [0, 0.01, 0.4, 9.96, 10, 950, 9999, 10_000, 12_345, 999_999, 4_100_000, 2e9];
  const seconds = [0, 42, 312, 11_040, 1_047_600];
  [seen.numbers, seen.durations] = await page.evaluate(async ([numbers, seconds]) => {
    const { format } = await import("/static/console.js");
    return [numbers.map((n) => [format.count(n), format.rate(n), format.size(n)]), seconds.map(format.duration)];
  }, [numbers, seconds]);

  await page.click("text=Log out");
  await page.waitForURL("**/console/login");
  seen["after logout"] = new URL(page.url()).pathname;
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
