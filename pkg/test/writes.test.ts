import assert from "node:assert/strict";
import { test } from "node:test";
import { mutationQueueListener } from "../src/mutation_queue.ts";
import { code, make, settle, started } from "./engine_harness.ts";

test("a write has its id and op_id at once, resolves on disk and is confirmed by the server", async () => {
  const { engine, world } = await started();
  const write = engine.insert("todo", { title: "one" });
  assert.match(write.id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(engine.store.get("todo", write.id)?.title, "one");
  let isDurable = false;
  void write.then(() => {
    isDurable = true;
  });
  await settle();
  assert.equal(isDurable, false);
  world.engine.durable(write.opId);
  assert.equal(await write, write.id);
  world.engine.confirm(write.opId);
  assert.deepEqual(await write.confirmed, { opId: write.opId, seq: 7 });
});

test("ids sort in the order in which they were made", async () => {
  const { engine } = await started();
  const ids = Array.from(
    { length: 5000 },
    (_, n) => engine.transaction((tx) => tx.insert("todo", { title: `${n}` })).id,
  );
  assert.deepEqual([...ids].sort(), ids);
});

test("a refused write disappears from the rows, stays in the queue and rejects `confirmed` quietly", async () => {
  const { engine, world } = await started();
  const ignored = engine.insert("todo", { title: "ignored" });
  const looked = engine.insert("todo", { title: "looked at" });
  for (const { opId } of [ignored, looked]) {
    world.engine.durable(opId);
    world.engine.fail(opId, { code: "POLICY_DENIED", message: "not yours", hint: "ask" });
  }
  // An unhandled rejection would fail this test.
  await settle();
  await assert.rejects(looked.confirmed, {
    ...code("POLICY_DENIED"),
    message: "not yours",
    hint: "ask",
    retryable: false,
  });
  assert.equal(await looked, looked.id);
  assert.deepEqual(engine.store.list("todo"), []);
  assert.deepEqual(
    engine.mutations.list().map(({ status, error }) => [status, error?.code]),
    [
      ["failed", "POLICY_DENIED"],
      ["failed", "POLICY_DENIED"],
    ],
  );
});

test("a write that was rolled back rejects", async () => {
  const { engine, world } = await started();
  const write = engine.insert("todo", { title: "one" });
  world.engine.lose(write.opId, { code: "STORAGE_FULL", message: "no space" });
  await assert.rejects(write, code("STORAGE_FULL"));
  await assert.rejects(write.confirmed, { ...code("STORAGE_FULL"), retryable: true });
});

test("what cannot be stored is refused before anything is written", async () => {
  const { engine } = await started();
  assert.throws(() => engine.insert("todo", { title: "a\0" }), code("INVALID_TEXT"));
  assert.throws(() => engine.update("todo", "missing", { title: "x" }), code("ROW_NOT_FOUND"));
  assert.throws(() => engine.update("todo", "a", { id: "b" } as object), code("INVALID_VALUE"));
  assert.throws(
    () =>
      engine.transaction((tx) => {
        tx.insert("todo", { title: "never seen" });
        throw new RangeError("changed my mind");
      }),
    RangeError,
  );
  assert.deepEqual([engine.store.list("todo"), engine.mutations.list()], [[], []]);
});

test("a transaction reads its own writes and is one entry of the queue", async () => {
  const { engine, world } = await started();
  void engine.insert("todo", { id: "old", title: "old" });
  void engine.insert("todo", { id: "gone", title: "gone" });
  const before = engine.store.list("todo");
  const write = engine.transaction((tx) => {
    const id = tx.insert("todo", { id: "new", title: "new" });
    tx.update("todo", "old", { title: "newer" });
    tx.update("todo", "old", { done: true });
    tx.delete("todo", "gone");
    assert.deepEqual(tx.get("todo", "old"), { id: "old", title: "newer", done: true });
    assert.equal(tx.get("todo", "gone"), undefined);
    assert.equal(engine.store.list("todo"), before);
    return [id, tx.list("todo").map((row) => row.id)] as const;
  });
  assert.equal(engine.mutations.list().length, 3);
  assert.equal(engine.mutations.list()[2]?.changes.length, 4);
  world.engine.durable(write.opId);
  assert.deepEqual(await write, ["new", ["new", "old"]]);
  assert.equal(write.id, "new");
});

test("a transaction may neither be async nor outlive its function", async () => {
  const { engine } = await started();
  assert.throws(
    () =>
      engine.transaction(async (tx) => {
        tx.insert("todo", { title: "one" });
        await settle();
        tx.insert("todo", { title: "two" });
      }),
    code("NOT_SUPPORTED"),
  );
  await settle();
  assert.deepEqual(engine.store.list("todo"), []);
  let leaked: { list(entity: "todo"): unknown } | undefined;
  const empty = engine.transaction((tx) => {
    leaked = tx;
    return 5;
  });
  assert.deepEqual([await empty, empty.opId, await empty.confirmed], [5, "", { opId: "", seq: 0 }]);
  assert.throws(() => leaked?.list("todo"), code("NOT_SUPPORTED"));
});

test("the queue's listener hears each step of each transaction once", async () => {
  const { engine, world } = await started();
  const steps: string[] = [];
  const end = mutationQueueListener(engine.mutations, ({ status, change, error, mutation }) => {
    steps.push(
      `${status} ${change.kind} ${change.entity} ${mutation.changes.length} ${error?.code ?? ""}`.trim(),
    );
  });
  const good = engine.insert("todo", { id: "a", title: "one" });
  const bad = engine.update("todo", "a", { title: "two" });
  world.engine.sent(good.opId);
  world.engine.sent(bad.opId);
  world.engine.confirm(good.opId);
  world.engine.fail(bad.opId, { code: "TYPE_MISMATCH", message: "no" });
  assert.deepEqual(steps.splice(0), [
    "pending insert todo 1",
    "pending update todo 1",
    "sent insert todo 1",
    "sent update todo 1",
    "applied insert todo 1",
    "failed update todo 1 TYPE_MISMATCH",
  ]);
  const again = engine.mutations.retry(bad.opId);
  assert.notEqual(again.opId, bad.opId);
  assert.deepEqual(steps.splice(0), ["pending update todo 1", "removed update todo 1"]);
  engine.mutations.remove(again.opId);
  await assert.rejects(again.confirmed, code("DISCARDED"));
  assert.deepEqual(steps.splice(0), ["removed update todo 1"]);
  assert.deepEqual(engine.mutations.list(), []);
  assert.equal(engine.store.get("todo", "a")?.title, "one");
  assert.throws(() => engine.mutations.remove(again.opId), code("NOT_FOUND"));
  end();
  void engine.insert("todo", { title: "unheard" });
  assert.deepEqual(steps, []);
});

test("the queue's list is the same array until the queue changes", async () => {
  const { engine, world } = await started();
  const write = engine.insert("todo", { title: "one" });
  const list = engine.mutations.list();
  assert.equal(engine.mutations.list(), list);
  world.engine.sent(write.opId);
  assert.notEqual(engine.mutations.list(), list);
  assert.equal(engine.mutations.list()[0]?.status, "sent");
});

test("writing needs a running engine, not a known identity", async () => {
  const { engine, world } = make({ token: "unknown" });
  assert.throws(() => engine.insert("todo", { title: "early" }), code("NOT_STARTED"));
  await engine.start();
  assert.equal(engine.status.identity, null);
  const write = engine.insert("todo", { title: "one" });
  assert.equal(engine.store.list("todo").length, 1);
  world.engine.resolve({ user_id: "alice", tenant_id: null });
  world.engine.durable(write.opId);
  assert.equal(await write, write.id);
});

test("a write of a token that was replaced before anybody knew its user is given back", async () => {
  const { engine, world } = make({ token: "unknown" });
  await engine.start();
  const write = engine.insert("todo", { title: "whose?" });
  const refused = assert.rejects(write, code("IDENTITY_CHANGED"));
  const changing = engine.notifySessionChanged("another");
  await refused;
  await settle();
  world.engine.unavailable();
  await changing;
  await assert.rejects(write.confirmed, code("IDENTITY_CHANGED"));
  assert.equal(engine.store.list("todo").length, 0);
});

test("stopping waits for the disk and rejects what the server has not answered", async () => {
  const { engine, world } = await started();
  const write = engine.insert("todo", { title: "one" });
  let isStopped = false;
  const stopping = engine.stop().then(() => {
    isStopped = true;
  });
  await settle();
  assert.equal(isStopped, false);
  world.engine.durable(write.opId);
  await stopping;
  assert.equal(await write, write.id);
  await assert.rejects(write.confirmed, code("NOT_STARTED"));
  assert.throws(() => engine.insert("todo", { title: "two" }), code("NOT_STARTED"));
  assert.equal(engine.store.list("todo").length, 1);
});
