// What an application sees when WebAssembly traps under its engine.

import assert from "node:assert/strict";
import { test } from "node:test";
import { code, known, make, settle } from "./engine_harness.ts";

const REFUSED = { code: "POLICY_DENIED", message: "no" };

test("a breakdown is told once, and rows, queue and open writes are there again", async () => {
  const world = known();
  const { engine } = make({ token: "a" }, world);
  await engine.start();
  const errors: string[] = [];
  engine.onError((error) => errors.push(`${error.code}: ${error.message}. ${error.hint}`));
  const stored = engine.insert("todo", { title: "stored" });
  const failed = engine.insert("todo", { title: "failed" });
  world.engine.durable(stored.opId);
  world.engine.durable(failed.opId);
  const former = world.engine;
  former.breakDown();
  assert.deepEqual([world.renewed, world.engines.length], [[former], 2]);
  await settle();
  assert.match(errors.join(), /^INTERNAL: the engine broke down: unreachable\. It was opened again/);
  assert.deepEqual(
    engine.store
      .list("todo")
      .map(({ title }) => title)
      .sort(),
    ["failed", "of alice", "stored"],
  );
  assert.deepEqual(
    engine.mutations.list().map(({ opId }) => opId),
    [stored.opId, failed.opId],
  );
  world.engine.confirm(stored.opId);
  world.engine.fail(failed.opId, REFUSED);
  assert.equal((await stored.confirmed).seq, 7);
  await assert.rejects(failed.confirmed, code("POLICY_DENIED"));
  assert.equal(engine.insert("todo", { title: "after" }).opId, world.engine.lastOpId);
});

test("what was not known to be on disk is looked for there", async () => {
  const world = known();
  const { engine } = make({ token: "a" }, world);
  await engine.start();
  const lost = engine.insert("todo", { title: "lost" });
  const onItsWay = engine.insert("todo", { title: "on its way" });
  const answered = engine.insert("todo", { title: "answered" });
  world.engine.durable(answered.opId);
  world.engine.breakDown();
  // The disk had one of them already, and another one was answered, unheard.
  const [queue] = [...world.queues.values()];
  queue?.splice(0, 1, {
    opId: onItsWay.opId,
    status: "pending",
    changes: [{ entity: "todo", row_id: onItsWay.id, kind: "insert", data: { title: "on its way" } }],
    error: null,
    waitingOn: [],
  });
  await assert.rejects(lost, code("INTERNAL"));
  await assert.rejects(lost.confirmed, code("OUTCOME_UNKNOWN"));
  assert.equal(await onItsWay, onItsWay.id);
  assert.equal(await answered, answered.id);
  await assert.rejects(answered.confirmed, code("OUTCOME_UNKNOWN"));
  world.engine.confirm(onItsWay.opId);
  assert.equal((await onItsWay.confirmed).seq, 7);
});

test("a second breakdown leaves the rows unread, and what breaks again and again stays closed until a start", async () => {
  const world = known();
  const { engine } = make({ token: "a" }, world);
  await engine.start();
  const hints: (string | undefined)[] = [];
  engine.onError(({ hint }) => hints.push(hint));
  for (let count = 0; count < 4; count += 1) {
    world.engine.breakDown();
    await settle();
  }
  assert.deepEqual(
    world.engines.map(({ options }) => options.queueOnly),
    [false, false, true, true],
  );
  assert.match(hints[1] ?? "", /only the queue.*export\(\)/);
  assert.match(hints[3] ?? "", /stays closed/);
  assert.deepEqual(
    [engine.status.connection.state, engine.status.identity, engine.store.list("todo")],
    ["stopped", null, []],
  );
  assert.equal(world.renewed.length, 4);
  await engine.start();
  assert.equal(engine.store.list("todo").length, 1);
});

test("a breakdown before the database was open rejects what was written early", async () => {
  const world = known();
  world.opensAtOnce = false;
  const { engine } = make({ token: "a" }, world);
  const starting = engine.start();
  await settle();
  const early = engine.insert("todo", { title: "early" });
  world.engine.breakDown();
  await assert.rejects(early, code("INTERNAL"));
  world.engine.open();
  await starting;
  assert.equal(engine.store.list("todo").length, 1);
});

test("a listener that writes while it hears of a breakdown writes into the engine that took over", async () => {
  const world = known();
  const { engine } = make({ token: "a" }, world);
  await engine.start();
  let title: unknown;
  engine.onError(() => {
    const { id } = engine.insert("todo", { title: "from the listener" });
    title = engine.store.get("todo", id)?.title;
  });
  world.engine.breakDown();
  assert.equal(title, "from the listener");
});
