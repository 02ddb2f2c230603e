// A guest's unsent writes go to the account on request: none is lost, none is sent twice, whenever the page dies.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { isSynced, jwt, Stage, shows, start, until } from "./stage.mjs";

let stage;

before(async () => {
  stage = await Stage.set();
});
after(() => stage.strike());
afterEach(() => stage.clear());

/** A guest who wrote three times, twice to the same row, without a network. */
async function guest(context) {
  const page = await stage.page(context);
  await start(page);
  await page.evaluate(async () => {
    window.engine.pause();
    await window.engine.insert("private", { title: "first" });
    const second = window.engine.insert("private", { title: "second" });
    await second;
    // What was discarded leaves a mark on the disk, which is nobody's.
    const never = window.engine.insert("private", { title: "never" });
    await never;
    window.engine.mutations.remove(never.opId);
    // In a transaction of two rows it stays what it is: nothing is folded.
    await window.engine.transaction((tx) => {
      tx.update("private", second.id, { title: "second, changed" });
      tx.insert("private", { title: "third" });
    });
    window.opIds = window.engine.mutations.list().map(({ opId }) => opId);
  });
  return page;
}

function carry(page, token) {
  return page.evaluate((token) => window.engine.notifySessionChanged(token, { unsent: "carry" }), token);
}

/** Has a device know whose a token is, so that a start with it needs no network. */
async function makeKnown(context, token) {
  const page = await stage.page(context);
  await start(page, { token });
  await isSynced(page);
  await page.evaluate(() => window.engine.stop());
  await page.close();
}

/** What lies in a queue on disk. */
function queueOnDisk(page, name) {
  return page.evaluate(async (name) => {
    const done = (request) => new Promise((resolve) => (request.onsuccess = () => resolve(request.result)));
    const database = await done(indexedDB.open(name));
    const records = await done(
      database.transaction("pendingMutations").objectStore("pendingMutations").getAll(),
    );
    database.close();
    const states = records.map((bytes) => JSON.parse(new TextDecoder().decode(bytes)).state);
    return states.filter((state) => state !== "discarded");
  }, name);
}

const databases = (page) => page.evaluate(async () => (await indexedDB.databases()).map(({ name }) => name));

const CARRIED = ["first", "second, changed", "third"];

for (const [what, more] of [
  ["of no organisation", {}],
  ["of an organisation", { org: "red" }],
]) {
  test(`unsent writes go to an account ${what}, in order, under their op_ids`, async () => {
    const context = await stage.browser();
    const token = jwt(`ann ${what}`, { more });
    await makeKnown(context, token);
    const before = await databases(await stage.page(context));
    const page = await guest(context);
    const [guestsName] = (await databases(page)).filter((name) => !before.includes(name));
    await page.evaluate(() => {
      window.open = window.engine.insert("private", { title: "open" });
      return window.open;
    });
    assert.deepEqual(await queueOnDisk(page, guestsName), ["pending", "pending", "pending", "pending"]);
    await carry(page, token);
    await shows(page, ...CARRIED, "open");
    await until(page, () => localStorage.getItem("syncline_default_carry") === null);
    const opIds = await page.evaluate(() => window.engine.mutations.list().map(({ opId }) => opId));
    assert.deepEqual(opIds.slice(0, 3), await page.evaluate(() => window.opIds));
    assert.deepEqual(await queueOnDisk(page, guestsName), []);
    assert.equal(await page.evaluate(() => localStorage.getItem("syncline_default_carry")), null);
    await page.evaluate(() => window.engine.resume());
    await isSynced(page);
    // The promise that the guest was given is kept by the account.
    assert.equal(await page.evaluate(() => window.open.confirmed.then(({ opId }) => opId)), opIds[3]);
    assert.deepEqual(await stage.titles("private", token), [...CARRIED, "open"].sort());
    await page.evaluate(() => window.engine.signOut());
    await shows(page);
    assert.deepEqual(await page.evaluate(() => window.engine.mutations.list()), []);
  });
}

test("what may have reached the server stays, and what depends on it, too", async () => {
  const context = await stage.browser();
  const token = jwt("ben");
  await makeKnown(context, token);
  const page = await stage.page(context);
  const before = await databases(page);
  await start(page);
  const [guestsName] = (await databases(page)).filter((name) => !before.includes(name));
  await isSynced(page);
  await page.evaluate(() => {
    // The server never hears of it, and the page cannot know that.
    const { send } = WebSocket.prototype;
    WebSocket.prototype.send = function (message) {
      if (!message.includes('"push"')) send.call(this, message);
    };
    window.sent = window.engine.insert("todo", { title: "sent" });
  });
  await until(page, () => window.engine.mutations.list()[0]?.status === "sent");
  await page.evaluate(async () => {
    window.engine.pause();
    await window.engine.update("todo", window.sent.id, { title: "depends on it" });
    await window.engine.insert("todo", { title: "free" });
  });
  await carry(page, token);
  // A session that stays away from the network is not waited for.
  await until(page, () => localStorage.getItem("syncline_default_carry") === null);
  assert.deepEqual(
    await page.evaluate(() => window.engine.mutations.list().map(({ changes }) => changes[0].data.title)),
    ["free"],
  );
  assert.deepEqual(await queueOnDisk(page, guestsName), ["sent", "pending"]);
});

test("a page that dies on the way goes on with it, and nothing arrives twice", async () => {
  const context = await stage.browser();
  const token = jwt("cora");
  await makeKnown(context, token);
  let deaths = 0;
  for (let count = 1; ; count += 1) {
    const page = await guest(context);
    // The page freezes before this strict transaction of the carrying: what came before is on disk, nothing else.
    await page.evaluate((count) => {
      let left = count;
      const { transaction } = IDBDatabase.prototype;
      IDBDatabase.prototype.transaction = function (stores, mode, options) {
        left -= Number(options?.durability === "strict");
        if (left <= 0) throw new Error("the page is dead");
        return transaction.call(this, stores, mode, options);
      };
    }, count);
    await carry(page, token);
    const isDone = await page
      .waitForFunction(() => localStorage.getItem("syncline_default_carry") === null, undefined, {
        timeout: 2_000,
      })
      .then(
        () => true,
        () => false,
      );
    await page.close();
    const next = await stage.page(context);
    await start(next, { token });
    await until(next, () => localStorage.getItem("syncline_default_carry") === null);
    await isSynced(next);
    const titles = (await stage.titles("private", token)).sort();
    assert.deepEqual(
      titles,
      Array.from({ length: count }, () => CARRIED)
        .flat()
        .sort(),
      `after ${count} deaths`,
    );
    await next.evaluate(() => window.engine.stop());
    await next.close();
    if (isDone) break;
    deaths += 1;
  }
  assert.ok(deaths >= 3, `${deaths} points to die at`);
});
