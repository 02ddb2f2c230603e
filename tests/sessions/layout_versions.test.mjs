// A version of the package whose database has another layout comes, and goes again: nothing that was written is lost, and who does
// not understand what lies on the disk says so and leaves it alone.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { insert, isSynced, jwt, Stage, shows, start, until } from "./stage.mjs";

let stage;

before(async () => {
  stage = await Stage.set({ later: true });
});
after(() => stage.strike());
afterEach(() => stage.clear());

const queue = (page) => page.evaluate(() => window.engine.mutations.list().map(({ opId }) => opId));
const codes = (page) => page.evaluate(() => window.errors.map(({ code }) => code));

/** A page whose engine is started before it may talk to the server. */
async function startPaused(context, config) {
  const page = await stage.page(context);
  await page.evaluate((config) => window.make(config), config);
  await page.evaluate(() => window.engine.pause());
  await page.evaluate(() => window.engine.start());
  return page;
}

/** A database of the released version: a row of the server's, and writes that were never sent. */
async function written(context, token) {
  const page = await stage.page(context);
  await start(page, { token });
  await insert(page, "private", "of the server");
  await isSynced(page);
  await page.evaluate(() => window.engine.pause());
  await insert(page, "private", "first", "second");
  return page;
}

test("a database goes through several versions at once and keeps rows and queue", async () => {
  const context = await stage.browser();
  const token = jwt("ann");
  const page = await written(context, token);
  const before = await queue(page);
  await page.close();
  const next = await startPaused(context, { token, layoutVersion: 4 });
  await shows(next, "of the server", "first", "second");
  assert.deepEqual(await queue(next), before);
  assert.deepEqual(await next.evaluate(() => indexedDB.databases().then(([{ version }]) => version)), 4);
  await next.evaluate(() => window.engine.resume());
  await isSynced(next);
  assert.deepEqual(await stage.titles("private", token), ["first", "of the server", "second"]);
  assert.deepEqual(await codes(next), []);
});

test("an application that is rolled back says so, and loses nothing of what the later one wrote", async () => {
  const context = await stage.browser();
  const token = jwt("ben");
  await (await written(context, token)).close();
  const later = await startPaused(context, { token, layoutVersion: 2 });
  await insert(later, "private", "third");
  const before = await queue(later);
  assert.equal(before.length, 3);
  await later.close();

  const former = await stage.page(context);
  await start(former, { token });
  assert.deepEqual(await codes(former), ["STORAGE_TOO_NEW"]);
  assert.equal(await former.evaluate(() => window.engine.status.storage.kind), "memory");
  await isSynced(former);
  await shows(former, "of the server");
  await insert(former, "private", "meanwhile");
  await isSynced(former);
  assert.deepEqual(await stage.titles("private", token), ["meanwhile", "of the server"]);
  await former.close();

  const again = await startPaused(context, { token, layoutVersion: 2 });
  assert.deepEqual(await queue(again), before);
  await shows(again, "of the server", "first", "second", "third");
  await again.evaluate(() => window.engine.resume());
  await isSynced(again);
  await shows(again, "of the server", "meanwhile", "first", "second", "third");
  assert.deepEqual(await again.evaluate(() => window.notices), []);
});

test("a tab of the former version makes way, keeps what it was given, and takes nothing more", async () => {
  const context = await stage.browser();
  const token = jwt("cora");
  const former = await written(context, token);
  // Not awaited: it is on its way to the disk when the other one comes.
  await former.evaluate(() => {
    window.last = window.engine.insert("private", { title: "last" });
  });
  const later = await startPaused(context, { token, layoutVersion: 2 });
  await until(former, () => window.errors.some(({ code }) => code === "RELOAD_REQUIRED"));
  await former.evaluate(() => window.last);
  const refused = await former.evaluate(() => {
    try {
      return window.engine.insert("private", { title: "too late" }).then(String, ({ code }) => code);
    } catch ({ code }) {
      return code;
    }
  });
  assert.equal(refused, "RELOAD_REQUIRED");
  await shows(later, "of the server", "first", "second", "last");
  await until(later, () => window.engine.status.role === "leader");
  await later.evaluate(() => window.engine.resume());
  await isSynced(later);
  assert.deepEqual(await stage.titles("private", token), ["first", "last", "of the server", "second"]);
});
