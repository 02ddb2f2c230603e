// The browser loses its IndexedDB, whole and without a word, and files are what is left: every write that was on disk is there
// again.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { insert, isSynced, jwt, Stage, shows, start, until } from "./stage.mjs";

let stage;

before(async () => {
  stage = await Stage.set();
});
after(() => stage.strike());
afterEach(() => stage.clear());

/** Deletes every database of the site, as a crash was seen to do, and leaves everything else. */
function wipe(page) {
  return page.evaluate(async () => {
    const names = (await indexedDB.databases()).map(({ name }) => name);
    const gone = (name) =>
      new Promise((resolve, reject) => {
        const request = indexedDB.deleteDatabase(name);
        request.onsuccess = resolve;
        request.onerror = () => reject(request.error);
      });
    await Promise.all(names.map(gone));
    return names.length;
  });
}

/** Opens the page of the site whose engine was ended with its page, and loses the databases on the way. */
async function afterWipe(context, page) {
  await page.close();
  const next = await stage.page(context);
  assert.ok((await wipe(next)) > 0);
  return next;
}

const queue = (page) =>
  page.evaluate(() => window.engine.mutations.list().map(({ opId, status }) => [opId, status]));
const notices = (page) => page.evaluate(() => window.notices);

test("what was written without a network comes back, with its op_ids and in its order", async () => {
  const context = await stage.browser();
  const page = await stage.page(context);
  const token = jwt("ann");
  await start(page, { token });
  await insert(page, "private", "of the server");
  await isSynced(page);
  await page.evaluate(() => window.engine.pause());
  await insert(page, "private", "first", "second", "third");
  await page.evaluate(async () => {
    const [gone] = window.engine.store.list("private").filter(({ title }) => title === "third");
    const opId = window.engine.mutations.list().find(({ changes }) => changes[0].rowId === gone.id).opId;
    window.engine.mutations.remove(opId);
    await window.engine.insert("private", { title: "fourth" });
  });
  const before = await queue(page);
  assert.equal(before.length, 3);
  assert.deepEqual(await notices(page), []);

  const next = await afterWipe(context, page);
  await next.evaluate((token) => window.make({ token }), token);
  await next.evaluate(() => window.engine.pause());
  await next.evaluate(() => window.engine.start());
  assert.deepEqual(await queue(next), before);
  assert.deepEqual(await notices(next), [{ kind: "lost", recovered: 3 }]);
  await shows(next, "first", "second", "fourth");

  await next.evaluate(() => window.engine.resume());
  await isSynced(next);
  await shows(next, "of the server", "first", "second", "fourth");
  assert.deepEqual(await stage.titles("private", token), ["first", "fourth", "of the server", "second"]);
});

test("two tabs wrote, one discarded and sent what the other wrote", async () => {
  const context = await stage.browser();
  const [leader, follower] = [await stage.page(context), await stage.page(context)];
  const token = jwt("ben");
  await start(leader, { token });
  await isSynced(leader);
  await start(follower, { token });
  assert.equal(await follower.evaluate(() => window.engine.status.role), "follower");
  await insert(follower, "private", "sent");
  await isSynced(follower);
  await shows(leader, "sent");
  await leader.evaluate(() => window.engine.pause());
  await until(follower, () => window.engine.status.connection.state === "paused");
  await insert(follower, "private", "one", "two");
  await insert(leader, "private", "three");
  await shows(leader, "sent", "one", "two", "three");
  await leader.evaluate(() => {
    const [one] = window.engine.mutations.list();
    window.engine.mutations.remove(one.opId);
  });
  await shows(follower, "sent", "two", "three");
  const before = await queue(follower);
  // What it was told to discard is certain once it has stopped.
  await leader.evaluate(() => window.engine.stop());
  await leader.close();
  await until(follower, () => window.engine.status.role === "leader");
  // With this one it takes over the file of the tab that is gone.
  await insert(follower, "private", "four");
  await shows(follower, "sent", "two", "three", "four");
  const after = [before[0], before[1], (await queue(follower)).at(-1)];

  const next = await afterWipe(context, follower);
  await next.evaluate((token) => window.make({ token }), token);
  await next.evaluate(() => window.engine.pause());
  await next.evaluate(() => window.engine.start());
  assert.deepEqual(await queue(next), after);
  await next.evaluate(() => window.engine.resume());
  await isSynced(next);
  await shows(next, "sent", "two", "three", "four");
});

test("a store that cannot be opened is made anew, after the copy was read", async () => {
  const context = await stage.browser();
  const page = await stage.page(context);
  const token = jwt("cora");
  await start(page, { token });
  await isSynced(page);
  await page.evaluate(() => window.engine.pause());
  await insert(page, "private", "unsent");
  await page.close();

  const next = await stage.page(context);
  await next.evaluate(() => {
    const { open, deleteDatabase } = IDBFactory.prototype;
    window.calls = [];
    IDBFactory.prototype.open = function (...given) {
      window.calls.push("open");
      if (window.calls.includes("delete")) return open.apply(this, given);
      const request = {};
      request.error = new DOMException(
        "Internal error opening backing store for indexedDB.open.",
        "UnknownError",
      );
      setTimeout(() => request.onerror());
      return request;
    };
    IDBFactory.prototype.deleteDatabase = function (...given) {
      window.calls.push("delete");
      return deleteDatabase.apply(this, given);
    };
  });
  await next.evaluate((token) => window.make({ token }), token);
  await next.evaluate(() => window.engine.pause());
  await next.evaluate(() => window.engine.start());
  assert.deepEqual(await next.evaluate(() => window.calls), ["open", "open", "open", "delete", "open"]);
  assert.deepEqual(await notices(next), [{ kind: "lost", recovered: 1 }]);
  assert.deepEqual(await next.evaluate(() => window.engine.status.storage), {
    kind: "indexeddb",
    hasCopy: true,
  });
  await shows(next, "unsent");
});

test("a database that is new and one that is only closed lost nothing", async () => {
  const context = await stage.browser();
  const page = await stage.page(context);
  const token = jwt("dan");
  await start(page, { token });
  await isSynced(page);
  await insert(page, "private", "kept");
  await page.evaluate(() => window.engine.stop());
  await page.reload();
  await start(page, { token });
  await shows(page, "kept");
  assert.deepEqual(await notices(page), []);
});

test("rows alone are fetched again, and the loss is told", async () => {
  const context = await stage.browser();
  const page = await stage.page(context);
  await stage.page(context).then(async (other) => {
    await start(other, { token: jwt("eve"), appName: "other" });
    await insert(other, "private", "of the server");
    await isSynced(other);
    await other.close();
  });
  await start(page, { token: jwt("eve") });
  await shows(page, "of the server");
  const next = await afterWipe(context, page);
  await start(next, { token: jwt("eve") });
  await shows(next, "of the server");
  assert.deepEqual(await notices(next), [{ kind: "lost", recovered: 0 }]);
});

test("without a worker the database alone counts, and says so once", async () => {
  const context = await stage.browser();
  const page = await stage.page(context);
  await page.route("**/queue_copy_worker.js", (route) => route.abort());
  await start(page, { token: jwt("finn") });
  await isSynced(page);
  assert.equal(await page.evaluate(() => window.engine.storage.hasCopy), true);
  await page.evaluate(() => window.engine.pause());
  await insert(page, "private", "one", "two", "three", "four", "five");
  assert.equal(await page.evaluate(() => window.engine.storage.hasCopy), false);
  const [{ kind, reason }, ...others] = await notices(page);
  assert.equal(kind, "copy_failed");
  assert.ok(reason.length > 0);
  assert.deepEqual(others, []);
  await page.reload();
  await start(page, { token: jwt("finn") });
  await shows(page, "one", "two", "three", "four", "five");
});

test("the files stay small, and those of tabs that are gone are taken over", async () => {
  const context = await stage.browser();
  const page = await stage.page(context);
  const token = jwt("gus");
  await start(page, { token });
  await page.evaluate(async () => {
    for (let round = 0; round < 40; round += 1) {
      const writes = [];
      for (let count = 0; count < 10; count += 1)
        writes.push(window.engine.insert("private", { title: "x".repeat(2_000) }));
      await Promise.all(writes.map(({ confirmed }) => confirmed));
    }
  });
  await isSynced(page);
  await untilFiles(page, (found) => found.length === 1 && found[0].size < 70_000);
  await page.reload();
  await start(page, { token });
  await page.evaluate(() => window.engine.pause());
  await insert(page, "private", "last");
  await untilFiles(page, (found) => found.length === 1 && found[0].size < 1_000);
});

/** The files of all copies: their names and sizes. */
function files(page) {
  return page.evaluate(async () => {
    const found = [];
    for await (const folder of (await navigator.storage.getDirectory()).values()) {
      for await (const file of folder.values()) {
        // Whoever writes it anew removes it, perhaps just now.
        const { size } = await file.getFile().catch(() => ({ size: undefined }));
        if (size !== undefined) found.push({ folder: folder.name, name: file.name, size });
      }
    }
    return found;
  });
}

async function untilFiles(page, isWanted) {
  const late = performance.now() + 20_000;
  for (;;) {
    const found = await files(page);
    if (isWanted(found)) return;
    if (performance.now() > late) throw new Error(`never: ${JSON.stringify(found)}`);
  }
}

/** Everything of the site that names one of its databases. */
function traces(page) {
  return page.evaluate(async () => {
    const databases = (await indexedDB.databases()).map(({ name }) => name);
    const folders = [];
    for await (const name of (await navigator.storage.getDirectory()).keys()) folders.push(name);
    return [...databases, ...folders, ...Object.keys(localStorage)].filter((name) =>
      /_[0-9a-f]{32}/.test(name),
    );
  });
}

test("who signs out for good leaves nothing behind, in no tab", async () => {
  const context = await stage.browser();
  const [page, other] = [await stage.page(context), await stage.page(context)];
  const token = jwt("hal");
  for (const tab of [page, other]) {
    await start(tab, { token });
    await insert(tab, "private", "of the server");
  }
  await isSynced(page);
  await page.evaluate(() => window.engine.pause());
  await insert(page, "private", "unsent");
  await insert(other, "private", "unsent");
  const own = await traces(page);
  assert.equal(new Set(own).size, 2, String(own));

  await page.evaluate(() => window.engine.signOut({ erase: true }));
  await shows(page, "");
  await shows(other, "");
  // What is left is of the session without a token, which every tab is in now.
  const left = await traces(page);
  assert.deepEqual(
    left.filter((name) => own.includes(name)),
    [],
  );
  assert.equal(await page.evaluate(() => JSON.stringify(Object.values(localStorage)).includes("hal")), false);

  await page.evaluate((token) => window.engine.notifySessionChanged(token), token);
  await page.evaluate(() => window.engine.resume());
  await isSynced(page);
  await shows(page, "of the server", "of the server");
  assert.deepEqual(await notices(page), []);
});

test("what could not be erased while the page lived is erased at the next start", async () => {
  const context = await stage.browser();
  const page = await stage.page(context);
  await start(page, { token: jwt("ida") });
  await isSynced(page);
  await insert(page, "private", "unsent");
  const own = await traces(page);
  // The page dies in the middle: nothing of it is erased yet.
  await page.evaluate(() => {
    FileSystemDirectoryHandle.prototype.removeEntry = () => new Promise(() => {});
    void window.engine.signOut({ erase: true });
  });
  await until(page, () => localStorage.getItem("syncline_default_erase") !== null);
  await page.close();
  const next = await stage.page(context);
  assert.equal((await traces(next)).filter((name) => own.includes(name)).length, own.length);
  await start(next, {});
  const left = await traces(next);
  assert.deepEqual(
    left.filter((name) => own.includes(name)),
    [],
  );
  assert.equal(await next.evaluate(() => localStorage.getItem("syncline_default_erase")), null);
});

test("what was carried over to another session does not come back to the one that wrote it", async () => {
  const context = await stage.browser();
  const page = await stage.page(context);
  await start(page, {});
  await isSynced(page);
  await page.evaluate(() => window.engine.pause());
  await insert(page, "todo", "of the guest");
  await page.evaluate(
    (token) => window.engine.notifySessionChanged(token, { unsent: "carry" }),
    jwt("kim", { more: { org: "acme" } }),
  );
  await page.evaluate(() => window.engine.resume());
  await isSynced(page);
  await shows(page, "of the guest");
  // It is shown as soon as it is queued; only then does it leave the database and the copy of the guest.
  await until(page, () => localStorage.getItem("syncline_default_carry") === null);

  const next = await afterWipe(context, page);
  await next.evaluate(() => window.make({}));
  await next.evaluate(() => window.engine.pause());
  await next.evaluate(() => window.engine.start());
  assert.deepEqual(await notices(next), [{ kind: "lost", recovered: 0 }]);
  assert.deepEqual(await queue(next), []);
});
