// Uses the page of dead letters as a person would; prints what it saw as one JSON object.   usage: node letters.mjs URL TOKEN
import { launch } from "./launch.mjs";

const [base, token] = process.argv.slice(2);
const browser = await launch();
const seen = { errors: [] };
try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  await context.addCookies([{ name: "millstream_session", value: token, url: base, httpOnly: true, sameSite: "Strict" }]);
  const page = await context.newPage();
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  const group = page.locator(".cause[data-node=verdict]"), letters = group.locator(".letter");
  const tabs = () => page.$$eval("[data-many]", (places) => places.map((place) => place.textContent));

  await page.goto(base + "/console/flows/line");
  await page.click("text=Dead letters by cause");
  await page.waitForSelector("[data-link=live]");
  seen.path = new URL(page.url()).pathname;
  seen.tabs = await tabs();
  seen.count = await group.locator(".count").textContent();
  await group.locator(".reason").click();
  await letters.first().waitFor();
  seen.page = await letters.count();
  await group.locator(".more").click();
  await letters.nth(20).waitFor();
  seen["with earlier ones"] = await letters.count();
  await page.setViewportSize({ width: 360, height: 740 });
  seen["on a phone"] = await page.evaluate(() => document.documentElement.scrollWidth <= 360);
  await page.setViewportSize({ width: 1280, height: 900 });

  const first = letters.first(), area = first.locator("textarea");
  await area.fill('{"device": ');
  seen["no JSON"] = [await first.locator("[data-do=retry]").isDisabled(), (await first.locator(".sides .fault").textContent()).length > 5];
  await area.fill('{"device": "a"}');
  seen["as edited"] = await first.locator("[data-do=retry]").textContent();
  await first.locator("[data-do=fix]").click();
  await page.waitForSelector(".letter .pill:text('edited')");
  seen.original = await letters.first().locator(".data").textContent();
  seen.edited = JSON.parse(await letters.first().locator("textarea").inputValue());
  await letters.first().locator("[data-do=retry]").click();
  await letters.first().locator(".said:text('In the flow again.')").waitFor();

  const drop = letters.nth(1).locator("[data-do=drop]");
  await drop.click();
  seen["asks first"] = await drop.textContent();
  await drop.click();
  await letters.nth(1).locator(".said:text('Dropped.')").waitFor();
  await page.waitForFunction(() => document.querySelector("[data-many=dropped]").textContent === "1");
  seen["tabs after"] = await tabs();

  await group.locator("summary [data-do=retry]").click();
  await page.waitForSelector(".cause.done");
  seen.all = await group.locator("summary .do").textContent();
  await page.click(".tabs a:has-text('retried')");
  await page.waitForSelector("[data-link=live]");
  seen.retried = await group.locator(".count").textContent();
  await group.locator(".reason").click();
  await letters.first().waitFor();
  seen["buttons of what is done"] = await page.locator("main button:visible").count() - await page.locator(".more").count();
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
