// Looks at a wire of a flow as a person would; prints what it saw as one JSON object.   usage: node tap.mjs URL TOKEN
import { launch } from "./launch.mjs";

const [base, token] = process.argv.slice(2);
const browser = await launch();
const seen = { errors: [] };
try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  await context.addCookies([{ name: "millstream_session", value: token, url: base, httpOnly: true, sameSite: "Strict" }]);
  const page = await context.newPage();
  page.on("pageerror", (error) => seen.errors.push(error.message));
  const post = (n) => fetch(base + "/gate", {
    method: "POST", headers: { "content-type": "application/json" },
    body: JSON.stringify([{ device: "<b>LED</b>", n, at: "2026-03-01T08:00:00Z" }, { device: "LED", n: "many", at: "2026-03-01T08:00:00Z" }]),
  });
  const click = (source, port) => page.locator(`.hit[data-source=${source}][data-port="${port}"]`).first().dispatchEvent("click");
  const until = async (count) => {
    for (let n = 7; await page.locator(".tap li").count() < count; n++) {
      await post(n);
      await page.waitForTimeout(50);
    }
  };
  await page.goto(base + "/console/flows/line");
  await page.waitForSelector("[data-link=live]");
  await click("big", "");
  await until(2);
  seen.wire = await page.locator("#detail h2").textContent();
  seen.data = JSON.parse(await page.locator(".tap li pre").first().textContent()).device;
  await click("checked", "rejected");
  await page.locator("#detail h2:text('checked.rejected')").waitFor();
  await until(1);
  seen.reason = JSON.parse(await page.locator(".tap li pre").first().textContent()).reason;
  await page.locator("#detail .close").click();
  seen.closed = await page.locator("#detail").isHidden();
  await page.locator(".node[data-node=big]").click();
  await page.locator("#detail h2:text('big')").waitFor();
  seen.node = await page.locator("#detail .tap").count();
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
