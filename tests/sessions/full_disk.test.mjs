// The disk is full of rows that can be fetched again, and a write that nobody else has must still go there.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, afterEach, before, test } from "node:test";
import { insert, isSynced, jwt, Stage, start, until } from "./stage.mjs";

const QUOTA_BYTES = 2_000_000;
const ROW_BYTES = 100_000;

let stage;

before(async () => {
  stage = await Stage.set();
});
after(() => stage.strike());
afterEach(() => stage.clear());

/** Titles that do not get shorter. */
const titles = (count) =>
  Array.from({ length: count }, () => randomBytes((ROW_BYTES / 4) * 3).toString("base64"));

/** A page of a browser that has little room. */
async function crampedPage(context) {
  const page = await stage.page(context);
  const devtools = await context.newCDPSession(page);
  const { origin } = new URL(stage.url);
  await devtools.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: QUOTA_BYTES });
  return page;
}

/** Waits until the page shows exactly these titles, which are too long to be handed over again and again. */
async function has(page, ...lists) {
  const wanted = lists.flat();
  await until(page, (count) => window.engine.store.list("private").length === count, wanted.length);
  const shown = await page.evaluate(() => window.engine.store.list("private").map(({ title }) => title));
  assert.ok(wanted.every((title) => shown.includes(title)));
}

test("rows make room for writes, stay shown, and are fetched again by the next start", async () => {
  const token = jwt("ann");
  const rows = titles(12);
  const author = await stage.page(await stage.browser());
  await start(author, { token });
  await insert(author, "private", ...rows);
  await isSynced(author);

  const context = await stage.browser();
  const page = await crampedPage(context);
  await start(page, { token });
  await isSynced(page);
  await has(page, rows);
  await page.evaluate(() => window.engine.pause());
  const unsent = titles(10);
  await insert(page, "private", ...unsent);
  await has(page, rows, unsent);
  assert.deepEqual(await page.evaluate(() => window.errors), []);
  assert.equal(await page.evaluate(() => window.engine.storage.kind), "indexeddb");
  await page.close();

  const next = await crampedPage(context);
  await next.evaluate((token) => window.make({ token }), token);
  await next.evaluate(() => window.engine.pause());
  await next.evaluate(() => window.engine.start());
  await has(next, unsent);
  await next.evaluate(() => window.engine.resume());
  await isSynced(next);
  await has(next, rows, unsent);
});

test("a database that works again is used again", async () => {
  const context = await stage.browser();
  const page = await stage.page(context);
  const token = jwt("ben");
  await start(page, { token });
  await insert(page, "private", "before");
  await isSynced(page);
  await page.evaluate(() => {
    const { transaction } = IDBDatabase.prototype;
    window.mend = () => {
      IDBDatabase.prototype.transaction = transaction;
    };
    IDBDatabase.prototype.transaction = () => {
      throw new DOMException("Connection to Indexed Database server lost.", "UnknownError");
    };
  });
  await insert(page, "private", "in memory");
  await until(page, () => window.engine.storage.kind === "memory");
  await isSynced(page);
  await page.evaluate(() => window.mend());
  await until(page, () => window.engine.storage.kind === "indexeddb");
  await isSynced(page);
  await insert(page, "private", "after");
  await isSynced(page);

  const next = await stage.page(context);
  await page.close();
  await next.evaluate((token) => window.make({ token }), token);
  await next.evaluate(() => window.engine.pause());
  await next.evaluate(() => window.engine.start());
  await until(next, () => window.engine.storage.kind === "indexeddb");
  assert.equal(await next.evaluate(() => window.shown()), "after,before,in memory");
});
