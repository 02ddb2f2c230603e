// A new build of the page replaces the old one whole: no window ever runs one build's script with another's files.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { ChatWindow } from "./chat_window.mjs";
import { ChatServer, pages } from "./server.mjs";

const repository = fileURLToPath(new URL("../../", import.meta.url));
const NEXT = "Syncline Chat, next edition";

test("a new build replaces the old one without mixing, also offline", { timeout: 180_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), "syncline-worker-"));
  const site = join(folder, "site");
  await cp(pages, site, { recursive: true });
  const server = new ChatServer(folder, site);
  const window = new ChatWindow("wendy", join(folder, "profile"));
  try {
    const next = await buildNext();
    await server.start();
    await window.signIn(server.url);
    await window.createChannel("updates", []);
    const { page } = window;
    const [oldCache] = await cachesOf(page);
    assert.deepEqual(await foreignFiles(page, await readdir(site)), []);
    const stays = await page.context().newPage();
    await stays.goto(`${server.url}/?user=otto`);

    // A deployment: the files of the old build are gone from the server.
    await rm(site, { recursive: true });
    await cp(next, site, { recursive: true });
    const names = await readdir(site);
    await page.reload();
    await page.evaluate(untilReplaced, oldCache);
    assert.deepEqual(await foreignFiles(page, names), [], "files of another build");
    await page.goto(`${server.url}/`);
    await page.getByRole("heading", { name: NEXT }).waitFor();
    assert.equal(
      await stays.getByRole("heading", { level: 1 }).textContent(),
      "Syncline Chat",
      "an open window changed under its user",
    );

    // Whatever the network says now, all that is left is the new build.
    await server.kill();
    await page.goto(`${server.url}/?user=wendy`);
    await page.getByRole("link", { name: "updates" }).waitFor();
    assert.deepEqual(await foreignFiles(page, names), [], "files of another build, offline");
    await stays.reload();
    await stays.getByRole("heading", { name: NEXT }).waitFor();
    assert.deepEqual(await foreignFiles(stays, names), []);
    assert.deepEqual(window.complaints(), []);
  } finally {
    await window.close();
    await server.kill();
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
});

/** Builds the page as it would be after somebody changed script and style, and returns its folder. */
async function buildNext() {
  // Inside the repository, so that Vite and the packed package are found as they are for the page itself.
  const work = join(repository, "artefacts/next-www");
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { recursive: true });
  for (const name of ["src", "static", "package.json", "vite.config.mjs", "service_worker.config.mjs"]) {
    await cp(join(repository, "www", name), join(work, name), { recursive: true });
  }
  await symlink(join(repository, "www/node_modules"), join(work, "node_modules"), "junction");
  const script = join(work, "src/view/sign_in.ts");
  const changed = (await readFile(script, "utf8")).replace('"Syncline Chat"', JSON.stringify(NEXT));
  await writeFile(script, changed);
  await writeFile(join(work, "src/style/sign_in.css"), ".sign-in { padding: 1rem; }\n", { flag: "a" });
  const PATH = [join(repository, "node_modules/.bin"), process.env.PATH].join(delimiter);
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  await promisify(execFile)(npm, ["run", "--silent", "build"], { cwd: work, env: { ...process.env, PATH } });
  return join(work, "dist");
}

/** Runs in the page: resolves when the old build's files are gone and another's are there. */
async function untilReplaced(old) {
  for (;;) {
    const keys = await caches.keys();
    if (keys.length === 1 && keys[0] !== old) return;
    await new Promise((resolve) => requestAnimationFrame(resolve));
  }
}

async function cachesOf(page) {
  return await page.evaluate(() => caches.keys());
}

/** Files that the page loaded or that are stored for it, and that are not of this build. */
async function foreignFiles(page, names) {
  const used = await page.evaluate(async () => {
    const loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
    const stored = [];
    for (const key of await caches.keys()) {
      for (const request of await (await caches.open(key)).keys()) stored.push(request.url);
    }
    return [...loaded, ...stored]
      .map((url) => new URL(url).pathname)
      .filter((path) => !path.startsWith("/api/"));
  });
  assert.ok(used.length > 0, "nothing was loaded");
  return [...new Set(used)].filter((path) => path !== "/" && !names.includes(path.slice(1)));
}
