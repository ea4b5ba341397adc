// The distribution's Chromium, with the path and flags that tests/services.py passes.
import { chromium } from "playwright-core";

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: JSON.parse(process.env.CHROMIUM_FLAGS),
  });
}
