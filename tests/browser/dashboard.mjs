// Drives one browser page by JSON lines: reads {"do", ...} from stdin, answers {"answer"} or {"fault"} on stdout.
import { createInterface } from "node:readline";
import { launch } from "./launch.mjs";

const WITHIN = 30_000;
const browser = await launch();
const context = await browser.newContext({ locale: "en-US", viewport: { width: 1400, height: 900 } });
const page = await context.newPage();
page.setDefaultTimeout(WITHIN);
const faults = [], hosts = new Set();
page.on("pageerror", (error) => faults.push(String(error)));
page.on("console", (line) => { if (/Content.Security.Policy/i.test(line.text())) faults.push(line.text()); });
page.on("request", (request) => hosts.add(new URL(request.url()).host));
page.on("websocket", (socket) => hosts.add(new URL(socket.url()).host));

// Playwright's own waiting evaluates inside the page, which the page's Content-Security-Policy forbids.
async function until(expression) {
  const end = Date.now() + WITHIN;
  while (!(await page.evaluate(expression).catch(() => false))) {
    if (Date.now() > end) throw new Error(`waited in vain: ${expression}; now ${JSON.stringify(faults)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return null;
}

const commands = {
  open: ({ url }) => page.goto(url).then(() => null),
  reload: () => page.reload().then(() => null),
  click: ({ selector }) => page.click(selector).then(() => null),
  fill: ({ selector, text }) => page.fill(selector, text).then(() => null),
  press: ({ key }) => page.keyboard.press(key).then(() => null),
  wait: ({ expression }) => until(expression),
  value: ({ expression }) => page.evaluate(expression),
  size: ({ width, height }) => page.setViewportSize({ width, height }).then(() => null),
  seen: () => ({ faults, hosts: [...hosts] }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: command, ...given } = JSON.parse(line);
  try {
    console.log(JSON.stringify({ answer: await commands[command](given) }));
  } catch (error) {
    console.log(JSON.stringify({ fault: String(error), page: await page.innerText("body").catch(() => "") }));
  }
}
await browser.close();
