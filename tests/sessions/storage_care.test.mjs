// What the engine asks of the browser about its storage, and when.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { insert, isSynced, jwt, Stage, start, until } from "./stage.mjs";

let stage;

before(async () => {
  stage = await Stage.set();
});
after(() => stage.strike());
afterEach(() => stage.clear());

/** A page whose browser has this much room, and notes what it is asked. */
async function pageWith(context, { used, quota }) {
  const page = await stage.page(context);
  await page.evaluate(
    ([used, quota]) => {
      window.asks = [];
      StorageManager.prototype.persist = async () => window.asks.push("persist");
      StorageManager.prototype.estimate = async () => {
        window.asks.push("estimate");
        return { usage: used, quota };
      };
    },
    [used, quota],
  );
  return page;
}

const asks = (page) => page.evaluate(() => window.asks);

test("the browser is asked to keep the data once, and not before something was written", async () => {
  const context = await stage.browser();
  const page = await pageWith(context, { used: 1e6, quota: 1e9 });
  await start(page, { token: jwt("ann") });
  await isSynced(page);
  await until(page, () => window.asks.length > 0);
  assert.deepEqual(await asks(page), ["estimate"]);
  await insert(page, "private", "one", "two");
  await until(page, () => window.asks.length > 2);
  assert.deepEqual(await asks(page), ["estimate", "persist", "estimate"]);
  assert.deepEqual(await page.evaluate(() => window.notices), []);

  const other = await pageWith(context, { used: 1e6, quota: 1e9 });
  await start(other, { token: jwt("ann") });
  await insert(other, "private", "three");
  await until(other, () => window.asks.length > 0);
  assert.ok(!(await asks(other)).includes("persist"));
  assert.equal(await other.evaluate(() => window.engine.persistStorage().then(Boolean)), true);
  assert.ok((await asks(other)).includes("persist"));
});

test("little room is told before nothing fits any more", async () => {
  const page = await pageWith(await stage.browser(), { used: 95e6, quota: 100e6 });
  await start(page, { token: jwt("ben") });
  await isSynced(page);
  await insert(page, "private", "one");
  await until(page, () => window.notices.length > 0);
  assert.deepEqual(await page.evaluate(() => window.notices), [
    { kind: "nearly_full", usedBytes: 95e6, quotaBytes: 100e6 },
  ]);
});
