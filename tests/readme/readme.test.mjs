// A stranger follows the README: its lines, and nothing else, make a page whose rows are in step with those of other windows.

import assert from "node:assert/strict";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { CHROMIUM_ARGUMENTS } from "../chromium_arguments.mjs";
import { installPackage, Service, tool } from "./stranger.mjs";

const repository = fileURLToPath(new URL("../../", import.meta.url));
const LIMIT_MS = 600_000;
const WAIT_MS = 120_000;
const CODE_LINES_MAX = 12;
const server = process.env.SYNCLINE_SERVER_BIN ?? join(repository, "target/debug/syncline");

test("the README's lines sync two windows, from Vite's dev server and built", {
  timeout: LIMIT_MS,
}, async (t) => {
  const readme = await readFile(join(repository, "README.md"), "utf8");
  const [shell, page, script] = ["sh", "html", "js"].map((language) => blocks(readme, language).at(-1));
  assert.match(shell, /^npm init -y && npm install vite /m);
  assert.match(shell, /\bsyncline dev\b/);
  assert.ok(codeLines(script) <= CODE_LINES_MAX, `more than ${CODE_LINES_MAX} lines:\n${script}`);

  // Inside the repository, so that Vite is found without being downloaded once more.
  const folder = join(repository, "artefacts/readme");
  const services = [];
  const start = async (...command) => {
    const service = new Service(...command);
    services.push(service);
    return await service.address();
  };
  const browser = await chromium.launch({
    executablePath: process.env.CHROME ?? "/usr/bin/chromium",
    args: CHROMIUM_ARGUMENTS,
  });
  try {
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    const began = Date.now();
    await installPackage(folder);
    const syncline = await start(server, ["dev", "--addr", "127.0.0.1:0"], folder);
    await writeFile(join(folder, "index.html"), page);
    await writeFile(
      join(folder, "main.js"),
      script.replace('"http://127.0.0.1:4321"', JSON.stringify(syncline)),
    );
    const dev = await start(process.execPath, [tool("vite")], folder);
    await twoWindows(browser, dev, "from the dev server");
    t.diagnostic(`rows in step ${((Date.now() - began) / 1000).toFixed(1)} s after the first line`);

    const built = new Service(process.execPath, [tool("vite"), "build"], folder);
    await built.success();
    const preview = await start(process.execPath, [tool("vite"), "preview"], folder);
    await twoWindows(browser, preview, "built");
  } catch (error) {
    for (const service of services) console.error(service.report());
    throw error;
  } finally {
    await browser.close();
    await Promise.all(services.map((service) => service.end()));
  }
});

/** Opens an address as two devices and writes on both; then the first is closed and opened by the address alone. */
async function twoWindows(browser, address, text) {
  const context = await browser.newContext();
  context.setDefaultTimeout(WAIT_MS);
  const said = [];
  const open = async (search) => {
    const page = await context.newPage();
    page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => said.push(`exception: ${error.stack ?? error}`));
    await page.goto(address + search);
    return page;
  };
  const write = async (page, words) => {
    await page.getByPlaceholder("What to do").fill(words);
    await page.getByPlaceholder("What to do").press("Enter");
  };
  const shows = (page, words) => page.locator("pre", { hasText: words }).waitFor();
  const one = await open("?one");
  const two = await open("?two");
  // The page listens to the form when its engine has started; before that, Enter would load the page again.
  for (const page of [one, two])
    await page.waitForFunction(() => document.querySelector("form").onsubmit !== null);
  await write(one, `First ${text}`);
  await shows(two, `First ${text}`);
  await write(two, `Second <b>${text}</b>`);
  await shows(one, `Second <b>${text}</b>`);
  await one.close();
  await shows(await open(""), `First ${text}\nSecond <b>${text}</b>`);
  await context.close();
  // Vite's dev server says in each window that it is there.
  assert.deepEqual(
    said.filter((line) => !line.startsWith("debug: [vite]")),
    [],
    "the console",
  );
}

/** The code blocks of a language in a Markdown text. */
function blocks(text, language) {
  return [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)]
    .filter(([, name]) => name === language)
    .map(([, , code]) => code);
}

function codeLines(script) {
  return script.split("\n").filter((line) => line.trim() !== "" && !line.trim().startsWith("//")).length;
}
