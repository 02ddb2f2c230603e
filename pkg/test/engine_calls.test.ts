// The calls beside reading and writing: pages, sending now, signing out, looking inside.

import assert from "node:assert/strict";
import { test } from "node:test";
import { checkConfig } from "../src/config.ts";
import type { SyncEngine } from "../src/types.ts";
import { code, known, make, settle, started, type Todos } from "./engine_harness.ts";

test("an update may be made from the row as it stands, alone and inside a transaction", async () => {
  const { engine } = await started();
  void engine.insert("todo", { id: "a", title: "one" });
  void engine.update("todo", "a", (row) => ({ title: `${row.title}!` }));
  void engine.transaction((tx) => {
    tx.update("todo", "a", { done: true });
    tx.update("todo", "a", (row) => ({ title: `${row.title} ${row.done}` }));
  });
  assert.deepEqual(engine.store.get("todo", "a"), { id: "a", title: "one! true", done: true });
  assert.throws(() => engine.update("todo", "b", () => ({ title: "x" })), code("ROW_NOT_FOUND"));
  assert.throws(
    () => engine.update("todo", "a", (async () => ({})) as unknown as () => object),
    code("INVALID_VALUE"),
  );
  assert.equal(engine.mutations.list().length, 3);
});

test("pages grow and stay right while rows come, change and go", async () => {
  const { engine, world } = await started();
  world.engine.live();
  const query = engine.createInfiniteQuery("todo", {
    pageSize: 2,
    filter: (row) => row.done !== true,
    order: (left, right) => left.title.localeCompare(right.title),
  });
  const titles = (): string => query.data.map((row) => row.title).join("");
  const heard: string[] = [];
  const end = query.subscribe(() => heard.push(titles()));
  for (const title of ["d", "b", "e", "c"]) void engine.insert("todo", { id: title, title });
  assert.deepEqual([query.data.length, query.hasMore, heard], [0, true, []]);
  await query.loadMore();
  assert.deepEqual([titles(), query.hasMore, heard.splice(0)], ["bc", true, ["bc"]]);
  const { data } = query;
  world.engine.receive("note", { id: "n", text: "elsewhere" });
  world.engine.receive("todo", { id: "z", title: "z" });
  assert.deepEqual([query.data === data, heard], [true, []]);
  world.engine.receive("todo", { id: "a", title: "a" });
  void engine.update("todo", "b", { done: true });
  assert.deepEqual(heard.splice(0), ["ab", "ac"]);
  await query.loadMore();
  await query.loadMore();
  assert.deepEqual([titles(), query.hasMore], ["acdez", false]);
  query.reset();
  assert.deepEqual(query.data, []);
  end();
  await query.loadMore();
  assert.deepEqual(heard, ["acde", "acdez", ""]);
  assert.ok(Object.isFrozen(query.data));
  assert.throws(() => engine.createInfiniteQuery("todo", { pageSize: 0 }), code("INVALID_QUERY"));
});

test("a page waits for the first pull, and for nothing when there is no server", async () => {
  const { engine, world } = await started();
  const query = engine.createInfiniteQuery("todo", { pageSize: 2 });
  let isLoaded = false;
  const loading = query.loadMore().then(() => {
    isLoaded = true;
  });
  world.engine.receive("todo", { id: "a", title: "one" });
  await settle();
  assert.equal(isLoaded, false);
  world.engine.receive("todo", { id: "b", title: "two" });
  await loading;
  assert.equal(query.data.length, 2);
  const further = query.loadMore();
  world.engine.unavailable();
  await further;
  await make().engine.createInfiniteQuery("todo").loadMore();
});

test("a filter that throws rejects who waits for its rows, and nobody else", async () => {
  const { engine, world } = await started();
  let isStrict = false;
  const query = engine.createInfiniteQuery("todo", {
    pageSize: 2,
    filter: ({ title }) => {
      if (isStrict && title === "odd") throw new Error("no such title");
      return true;
    },
  });
  const loading = query.loadMore();
  const synced = engine.synced();
  isStrict = true;
  world.engine.receive("todo", { id: "x", title: "odd" });
  await assert.rejects(loading, /no such title/);
  world.engine.live();
  await synced;
  assert.equal(engine.insert("todo", { title: "odd" }).id.length > 0, true);
});

test("push resolves when everything queued before has its answer", async () => {
  const { engine, world } = await started();
  const [good, bad] = [engine.insert("todo", { title: "1" }), engine.insert("todo", { title: "2" })];
  let isDone = false;
  const pushing = engine.push().then(() => {
    isDone = true;
  });
  await settle();
  assert.deepEqual(world.engine.calls, ["wake"]);
  world.engine.confirm(good.opId);
  void engine.insert("todo", { title: "later" });
  await settle();
  assert.equal(isDone, false);
  world.engine.fail(bad.opId, { code: "POLICY_DENIED", message: "no" });
  await pushing;
});

test("push says when the server cannot be reached, and needs a running engine", async () => {
  const { engine, world } = await started();
  await engine.push();
  void engine.insert("todo", { title: "1" });
  const pushing = engine.push();
  await settle();
  world.engine.unavailable();
  await assert.rejects(pushing, code("NETWORK_UNAVAILABLE"));
  engine.pause();
  await assert.rejects(engine.push(), { ...code("NETWORK_UNAVAILABLE"), hint: "Call resume() first." });
  engine.resume();
  const stopped = assert.rejects(engine.push(), code("NOT_STARTED"));
  await settle();
  for (const { opId } of engine.mutations.list()) world.engine.durable(opId);
  await engine.stop();
  await stopped;
  await assert.rejects(engine.push(), code("NOT_STARTED"));
});

test("pull resolves when everything is here that the server had then", async () => {
  const { engine, world } = await started();
  world.engine.live();
  let isDone = false;
  const pulling = engine.pull().then(() => {
    isDone = true;
  });
  await settle();
  world.engine.receive("todo", { id: "a", title: "one" });
  await settle();
  assert.deepEqual([isDone, world.engine.calls], [false, ["pull"]]);
  world.engine.live();
  await pulling;
  const failing = engine.pull();
  await settle();
  world.engine.unavailable();
  await assert.rejects(failing, code("NETWORK_UNAVAILABLE"));
});

test("pulls asked for during another share the next one", async () => {
  const { engine, world } = await started();
  const pulls = [engine.pull()];
  await settle();
  pulls.push(engine.pull(), engine.pull());
  await settle();
  assert.deepEqual(world.engine.calls, ["pull"]);
  world.engine.live();
  await pulls[0];
  await settle();
  assert.deepEqual(world.engine.calls, ["pull", "pull"]);
  world.engine.live();
  await Promise.all(pulls);
  // The last one's failure is not the next one's.
  const failing = engine.pull();
  await settle();
  const next = engine.pull();
  world.engine.unavailable();
  await assert.rejects(failing, code("NETWORK_UNAVAILABLE"));
  await assert.rejects(next, code("NETWORK_UNAVAILABLE"));
});

test("a reset fetches everything anew and keeps unsent writes", async () => {
  const { engine, world } = await started();
  world.engine.live();
  world.engine.receive("todo", { id: "a", title: "one" });
  const write = engine.insert("todo", { id: "b", title: "unsent" });
  let isDone = false;
  const resetting = engine.resetReplica().then(() => {
    isDone = true;
  });
  await settle();
  assert.deepEqual([isDone, engine.status.synced, world.engine.calls], [false, false, ["resync"]]);
  assert.equal(engine.store.list("todo").length, 2);
  world.engine.live();
  await resetting;
  assert.equal(engine.mutations.list()[0]?.opId, write.opId);
  const { engine: unknown } = make({ token: "new" });
  await unknown.start();
  await assert.rejects(unknown.resetReplica(), code("NOT_STARTED"));
});

test("signing out keeps unsent writes for their user, or discards them", async () => {
  const world = known();
  const { engine } = make({ token: "a" }, world);
  await engine.start();
  const kept = engine.insert("todo", { title: "kept" });
  const alice = world.engine;
  const leaving = engine.signOut();
  await settle();
  assert.deepEqual([engine.store.list("todo"), alice.calls], [[], ["stop"]]);
  alice.durable(kept.opId);
  await leaving;
  assert.deepEqual(
    [engine.resolvedSession(), world.engine.token],
    [{ userId: null, tenantId: null }, undefined],
  );

  await engine.notifySessionChanged("a");
  const [base, dependent, sent, failed] = ["1", "2", "3", "4"].map((title) =>
    engine.insert("todo", { title }),
  );
  assert.ok(base && dependent && sent && failed);
  for (const { opId } of [base, dependent, sent, failed]) world.engine.durable(opId);
  world.engine.sent(sent.opId);
  world.engine.fail(failed.opId, { code: "POLICY_DENIED", message: "no" });
  const removed: string[] = [];
  engine.mutations.subscribe(({ status, mutation }) => status === "removed" && removed.push(mutation.opId));
  const bye = engine.signOut({ unsent: "discard" });
  await assert.rejects(base.confirmed, code("DISCARDED"));
  // What others depend on goes last, and what the server may have stays.
  assert.deepEqual(removed, [failed.opId, dependent.opId, base.opId, kept.opId]);
  await bye;
  await engine.stop();
  await assert.rejects(engine.signOut({ unsent: "discard" }), code("NOT_STARTED"));
});

test("inspect shows rows, queue, cursor and storage, and export is the same as a file", async () => {
  const { engine, world } = await started();
  world.engine.live();
  world.engine.receive("note", { id: "n", text: "a note" });
  const write = engine.insert("todo", { id: "a", title: "one" });
  world.engine.fail(write.opId, { code: "POLICY_DENIED", message: "not yours" });
  const { rows, queue, cursor, storage, identity } = await engine.inspect();
  assert.deepEqual(rows, { note: [{ id: "n", text: "a note" }], todo: [] });
  assert.equal(queue, engine.mutations.list());
  assert.deepEqual(
    [cursor, storage.kind, identity],
    [{ seq: 0, serverHead: null, synced: true }, "memory", { userId: null, tenantId: null }],
  );
  const file = await engine.export();
  const { format, exportedAt, ...rest } = JSON.parse(await file.text());
  assert.deepEqual([file.type, format, Number.isNaN(Date.parse(exportedAt))], ["application/json", 1, false]);
  assert.deepEqual(rest.rows, rows);
  assert.deepEqual(rest.queue[0].error, { code: "POLICY_DENIED", message: "not yours" });
  assert.deepEqual(rest.queue[0].changes, [
    { entity: "todo", rowId: "a", kind: "insert", data: { title: "one" } },
  ]);
});

test("what comes later says so with a code", () => {
  const engine: SyncEngine<Todos> = make().engine;
  for (const call of [
    () => engine.setPresence({ x: 1 }),
    () => engine.publishTopic("chat", "hi"),
    () => engine.subscribeCrdt("todo", "a"),
    () => engine.unsubscribeCrdt("todo", "a"),
  ])
    assert.throws(call, (error: Error & { code?: string }) => {
      assert.match(error.message, /comes? with 0\.2/);
      return error.code === "NOT_SUPPORTED";
    });
});

test("where rows are kept may be said by name", () => {
  const config = { baseUrl: "http://x", persistence: "indexeddb" } as const;
  assert.equal(checkConfig(config).persist, true);
  assert.equal(checkConfig({ ...config, persistence: "memory" }).persist, false);
  assert.throws(() => checkConfig({ ...config, persist: false }), code("INVALID_CONFIG"));
  assert.throws(() => checkConfig({ ...config, persistence: "floppy" as "memory" }), code("INVALID_CONFIG"));
});
