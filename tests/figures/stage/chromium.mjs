// Headless Chromium with a profile on disk, and calls into the page that fail with a sentence instead of hanging.

import { chromium } from "playwright-core";
import { CHROMIUM_ARGUMENTS } from "../../chromium_arguments.mjs";

/** Starts the browser with its profile in `folder`. */
export async function startChromium(folder) {
  const executablePath = process.env.CHROME ?? "/usr/bin/chromium";
  return chromium.launchPersistentContext(folder, {
    executablePath,
    headless: true,
    args: CHROMIUM_ARGUMENTS,
  });
}

/** Opens a page; what goes wrong in it is collected in `problems`. */
export async function openPage(context, url, problems = []) {
  const page = await context.newPage();
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(message.text());
  });
  await page.goto(url, { waitUntil: "load" });
  return page;
}

/** Calls `window.stage[name](argument)` in the page. */
export async function call(page, name, argument, msMax = 180_000) {
  const late = new Promise((_, reject) => {
    const timer = setTimeout(() => reject(new Error(`${name} took longer than ${msMax / 1000} s`)), msMax);
    timer.unref();
  });
  const answer = page.evaluate(([name, argument]) => window.stage[name](argument), [name, argument]);
  return Promise.race([answer, late]);
}
