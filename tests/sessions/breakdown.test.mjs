// The real module traps under a running page, because its memory is full. The page sees one error and its data again.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { insert, isSynced, jwt, Stage, shows, start, until } from "./stage.mjs";

let stage;
let page;

before(async () => {
  stage = await Stage.set();
});
after(() => stage.strike());
afterEach(() => stage.clear());

/** A page with a row of the server, one on disk that was never sent, and an engine that stays away from the network. */
async function used(user) {
  page = await stage.page(await stage.browser());
  await start(page, { token: jwt(user) });
  await insert(page, "private", "of the server");
  await isSynced(page);
  await page.evaluate(() => window.engine.pause());
  await insert(page, "private", "unsent");
  return page;
}

/** Takes all memory that the module may have, and writes a row that needs more. */
function exhaust(page) {
  return page.evaluate(() => {
    const memory = window.memories.at(-1);
    window.doomed = [];
    for (let pages = 65536; pages >= 1; pages = Math.floor(pages / 2)) {
      try {
        for (;;) memory.grow(pages);
      } catch {
        // Not so much any more.
      }
    }
    for (let count = 0; ; count += 1) {
      try {
        const write = window.engine.insert("private", { title: `${count}`.padEnd(200_000, "x") });
        window.doomed.push(write);
        write.catch(() => {});
      } catch ({ code, message }) {
        return { code, message };
      }
    }
  });
}

test("a full memory: one error, and rows, queue and promises go on", async () => {
  await used("ann");
  const [opId] = await page.evaluate(() => {
    window.kept = window.engine.insert("private", { title: "open" });
    return window.kept.then(() => [window.kept.opId]);
  });
  const memories = await page.evaluate(() => window.memories.length);
  const thrown = await exhaust(page);
  assert.equal(thrown.code, "INTERNAL");
  await until(
    page,
    () => window.engine.status.identity !== null && window.engine.status.storage.kind === "indexeddb",
  );
  assert.equal(await page.evaluate(() => window.memories.length), memories + 1);
  const errors = await page.evaluate(() => window.errors);
  assert.deepEqual(
    errors.map(({ code }) => code),
    ["INTERNAL"],
  );
  assert.match(errors[0].hint, /opened again/);
  // What was taken in the same turn never reached the disk, and says so; everything older is there.
  const doomed = await page.evaluate(async () =>
    (await Promise.allSettled(window.doomed)).map(({ status, reason }) => reason?.code ?? status),
  );
  assert.ok(
    doomed.every((code) => code === "INTERNAL"),
    String(doomed),
  );
  await shows(page, "of the server", "open", "unsent");
  assert.deepEqual(
    await page.evaluate(() => window.engine.mutations.list().map(({ changes }) => changes[0].data.title)),
    ["unsent", "open"],
  );
  await page.evaluate(() => window.engine.resume());
  await isSynced(page);
  assert.deepEqual(await page.evaluate(() => window.kept.confirmed.then(({ opId }) => [opId])), [opId]);
  assert.deepEqual(await stage.titles("private", jwt("ann")), ["of the server", "open", "unsent"]);
});

test("a second breakdown within 30 s fetches the rows again and offers the export", async () => {
  await used("cora");
  await exhaust(page);
  await shows(page, "of the server", "unsent");
  await exhaust(page);
  await shows(page, "unsent");
  assert.match(await page.evaluate(() => window.errors[1].hint), /export\(\)/);
  const exported = await page.evaluate(async () => (await window.engine.export()).text());
  assert.deepEqual(
    JSON.parse(exported).queue.map(({ changes }) => changes[0].data.title),
    ["unsent"],
  );
  await page.evaluate(() => window.engine.resume());
  await isSynced(page);
  await shows(page, "of the server", "unsent");
  await page.evaluate(() => window.engine.stop());
  await page.reload();
  await start(page, { token: jwt("cora") });
  await shows(page, "of the server", "unsent");
});

test("every engine of the page goes on after one of them broke down", async () => {
  await used("dan");
  await page.evaluate(async () => {
    const first = window.engine;
    await window.start({ appName: "other" });
    [window.engine, window.other] = [first, window.engine];
    window.other.pause();
    await window.other.insert("todo", { title: "of the other" });
  });
  await exhaust(page);
  await shows(page, "of the server", "unsent");
  await until(
    page,
    () => window.other.status.identity !== null && window.other.store.list("todo").length === 1,
  );
  await page.evaluate(() => window.other.insert("todo", { title: "after" }));
  assert.equal(await page.evaluate(() => window.other.store.list("todo").length), 2);
});
