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
  seen.gateway = await text("[data-sum=cpu_detail]");
  seen.trouble = await text("[data-flow=office] .trouble");

  await page.click("[data-flow=line] h2 a");
  await page.waitForSelector("[data-link=live]");
  await page.waitForFunction(() => document.querySelector(".node[data-node=verdict] .rate b").textContent === "7.0");
  seen["rate of verdict"] = await text(".node[data-node=verdict] .rate b");
  await page.waitForSelector(".flow .alarm:not([hidden])");
  seen.alarm = [await text(".flow .alarm"), await text(".ledger [data-field=balance]")];
  seen.stored = await text(".ledger [data-field=stored]");
  seen.fullest = [await text(".flow [data-field=fill]"), await page.getAttribute(".flow [data-of=fill]", "title")];
  seen.steps = await page.$$eval("#steps .what b", (names) => names.map((name) => name.textContent));
  seen.queues = await page.$$eval("#queues .what b", (names) => names.map((name) => name.textContent));
  seen["cost of on_line"] = await page.$$eval(".node[data-node=on_line] .cost span", (spans) => spans.map((span) => span.textContent).join(" "));
  seen["queue of results"] = await page.$eval(".node[data-node=results] [data-bar=fill] i", (bar) => bar.style.width);
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
  const shares = [0, 0.0004, 0.004, 0.0994, 0.0996, 1.37], micros = [null, 0.8, 340, 1_400], ages = [0.01, 0.4, 12, 312];
  [seen.numbers, seen.durations] = await page.evaluate(async ([numbers, seconds]) => {
    const { format } = await import("/static/format.js");
    return [numbers.map((n) => [format.count(n), format.rate(n), format.size(n)]), seconds.map(format.duration)];
  }, [numbers, seconds]);
  [seen.shares, seen["times of an event"], seen.ages] = await page.evaluate(async ([shares, micros, ages]) => {
    const { format } = await import("/static/format.js");
    return [shares.map(format.percent), micros.map(format.micros), ages.map(format.age)];
  }, [shares, micros, ages]);

  await page.click("text=Log out");
  await page.waitForURL("**/console/login");
  seen["after logout"] = new URL(page.url()).pathname;
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
