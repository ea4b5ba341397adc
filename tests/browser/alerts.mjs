// Uses the page of alerts as a person would; prints what it saw as one JSON object.   usage: node alerts.mjs URL TOKEN [PICTURE]
import { launch } from "./launch.mjs";

const [base, token, picture] = process.argv.slice(2);
const browser = await launch();
const seen = { errors: [] };
try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 700 } });
  await context.addCookies([{ name: "millstream_session", value: token, url: base, httpOnly: true, sameSite: "Strict" }]);
  const page = await context.newPage();
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  const card = (key) => page.locator(`.alert[data-key="${key}"]`);

  await page.goto(base + "/console");
  await page.click(".bar >> text=Alerts");
  await page.waitForSelector("[data-link=live]");
  seen.keys = (await page.$$eval(".alert", (cards) => cards.map((one) => one.dataset.key))).sort();
  seen.text = await card("7").locator(".text").textContent();
  await card("7").locator("[data-do=acknowledge]").click();
  await page.waitForSelector('.alert[data-key="7"][data-state=acknowledged]');
  seen.by = (await card("7").locator("p.muted").textContent()).includes("acknowledged by admin");
  await card("8").locator("[data-do=mute]").click();
  await card("8").locator("text=Unmute").waitFor();
  seen.muted = await card("8").locator(".pill", { hasText: "muted" }).count();
  if (picture) await page.screenshot({ path: picture });
  await page.setViewportSize({ width: 360, height: 740 });
  seen["on a phone"] = await page.evaluate(() => document.documentElement.scrollWidth <= 360);
  await page.setViewportSize({ width: 1280, height: 700 });
  await card("9").locator("[data-do=clear]").click();
  seen["asks first"] = await card("9").locator("[data-do=clear]").textContent();
  await card("9").locator("[data-do=clear]").click();
  await card("9").waitFor({ state: "detached" });
  await page.click(".tabs >> text=cleared");
  await card("9").waitFor();
  seen.cleared = await page.$$eval(".alert", (cards) => cards.map((one) => one.dataset.key));
  seen["buttons of what is over"] = await page.locator(".alert button").count();
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
