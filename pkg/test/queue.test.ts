import assert from "node:assert/strict";
import { test } from "node:test";
import type { Rollback } from "../src/types.ts";
import { code, settle, started } from "./engine_harness.ts";

const DENIED = { code: "POLICY_DENIED", message: "no" };

test("a write that was made anew settles as the one that stands for it", async () => {
  const { engine, world } = await started();
  const bad = engine.insert("todo", { id: "a", title: "one" });
  const later = engine.update("todo", "a", { title: "two" });
  for (const { opId } of [bad, later]) world.engine.durable(opId);
  world.engine.fail(bad.opId, DENIED);
  await assert.rejects(bad.confirmed, code("POLICY_DENIED"));
  world.engine.hold(later.opId, bad.opId);
  assert.deepEqual(engine.mutations.list()[1]?.waitingOn, [bad.opId]);
  const steps: string[] = [];
  engine.mutations.subscribe((transition) => {
    const by = transition.status === "removed" ? ` by ${transition.replacedBy}` : "";
    steps.push(`${transition.mutation.opId} ${transition.status}${by}`);
  });
  const again = engine.mutations.retry(bad.opId);
  const by = world.engine.reissue(later.opId);
  assert.deepEqual(steps.splice(0), [
    `${again.opId} pending`,
    `${bad.opId} removed by ${again.opId}`,
    `${by} pending`,
    `${later.opId} removed by ${by}`,
  ]);
  world.engine.confirm(again.opId);
  world.engine.confirm(by);
  assert.deepEqual(await again.confirmed, { opId: again.opId, seq: 7 });
  assert.deepEqual(await later.confirmed, { opId: by, seq: 7 });
  assert.equal(engine.store.get("todo", "a")?.title, "two");
  assert.deepEqual(steps, [`${again.opId} applied`, `${by} applied`]);
});

test("writes that were folded into one settle with it, and its step tells of all changes", async () => {
  const { engine, world } = await started();
  const first = engine.insert("todo", { id: "a", title: "one" });
  const second = engine.update("todo", "a", { title: "two", done: true });
  let isDurable = false;
  void second.then(() => {
    isDurable = true;
  });
  const merged = { title: "two", done: true };
  world.engine.fold(first.opId, second.opId, [{ entity: "todo", row_id: "a", kind: "insert", data: merged }]);
  await settle();
  assert.equal(isDurable, false, "it is on disk when the one is that holds it");
  world.engine.durable(first.opId);
  assert.equal(await second, "a");
  const changes: unknown[] = [];
  engine.mutations.subscribe(({ mutation }) => changes.push(mutation.changes));
  world.engine.confirm(first.opId);
  assert.deepEqual(changes, [[{ entity: "todo", rowId: "a", kind: "insert", data: merged }]]);
  for (const write of [first, second]) assert.deepEqual(await write.confirmed, { opId: first.opId, seq: 7 });
});

test("an edit replaces the changes, given or made from those that are there", async () => {
  const { engine, world } = await started();
  const write = engine.insert("todo", { id: "a", title: "too long" });
  world.engine.durable(write.opId);
  world.engine.fail(write.opId, DENIED);
  const shorter = engine.mutations.edit(write.opId, (changes) =>
    changes.map((change) => ({ ...change, data: { ...change.data, title: "short" } })),
  );
  assert.deepEqual(engine.store.get("todo", "a"), { id: "a", title: "short" });
  assert.deepEqual(engine.mutations.list()[0]?.changes, [
    { entity: "todo", rowId: "a", kind: "insert", data: { title: "short" } },
  ]);
  assert.equal(shorter.id, "a");
  const other = engine.mutations.edit(shorter.opId, [
    { entity: "note", rowId: "n", kind: "insert", data: { text: "x" } },
  ]);
  world.engine.confirm(other.opId);
  for (const { confirmed } of [shorter, other]) assert.equal((await confirmed).opId, other.opId);
  assert.deepEqual(engine.store.list("todo"), []);
  const gone = [{ entity: "todo", rowId: "a", kind: "delete" }] as const;
  assert.throws(() => engine.mutations.edit("unknown", gone), code("NOT_FOUND"));
  assert.throws(() => engine.mutations.edit(shorter.opId, []), code("INVALID_VALUE"));
  const bad = engine.insert("todo", { id: "b", title: "b" });
  const wrong = [{ entity: "todo", rowId: "b", kind: "insert", data: { title: "a\0" } }] as const;
  assert.throws(() => engine.mutations.edit(bad.opId, wrong), code("INVALID_TEXT"));
  assert.equal(engine.store.get("todo", "b")?.title, "b");
});

test("settled() waits for the server's answers and not for what a failed write holds", async () => {
  const { engine, world } = await started();
  assert.equal(engine.mutations.hasPending, false);
  await engine.mutations.settled();
  const bad = engine.insert("todo", { id: "a", title: "one" });
  const later = engine.update("todo", "a", { title: "two" });
  const other = engine.insert("todo", { id: "b", title: "b" });
  assert.equal(engine.mutations.hasPending, true);
  let isSettled = false;
  const settled = engine.mutations.settled().then(() => {
    isSettled = true;
  });
  for (const { opId } of [bad, later, other]) {
    world.engine.durable(opId);
    world.engine.sent(opId);
  }
  world.engine.fail(bad.opId, DENIED);
  world.engine.hold(later.opId, bad.opId);
  await settle();
  assert.equal(isSettled, false);
  world.engine.applied(other.opId);
  await settled;
  assert.equal(engine.mutations.hasPending, true, "what is held is not on the server");
  engine.mutations.remove(later.opId);
  assert.equal(engine.mutations.hasPending, false);
  const never = engine.insert("todo", { title: "never answered" });
  const givenUp = assert.rejects(engine.mutations.settled(), code("NOT_STARTED"));
  world.engine.durable(never.opId);
  await settle();
  await engine.stop();
  await givenUp;
  await assert.rejects(engine.mutations.settled(), code("NOT_STARTED"));
});

test("a rollback is told once, with the rows as they are without the write", async () => {
  const { engine, world } = await started();
  world.engine.receive("todo", { id: "a", title: "before" });
  const told: Rollback[] = [];
  const end = engine.mutations.onRollback((rollback) => {
    told.push(rollback);
    assert.equal(engine.store.get("todo", "a")?.title, "before");
  });
  const write = engine.transaction((tx) => {
    tx.update("todo", "a", { title: "after" });
    tx.insert("note", { id: "n", text: "x" });
  });
  world.engine.durable(write.opId);
  world.engine.fail(write.opId, DENIED);
  assert.deepEqual(
    told.map(({ mutation, error, rows }) => [mutation.opId, mutation.status, error.code, rows]),
    [
      [
        write.opId,
        "failed",
        "POLICY_DENIED",
        [
          { entity: "todo", id: "a", row: { id: "a", title: "before" } },
          { entity: "note", id: "n", row: undefined },
        ],
      ],
    ],
  );
  assert.equal(told[0]?.rows[0]?.row, engine.store.get("todo", "a"), "the same object");
  engine.mutations.remove(write.opId);
  end();
  const unheard = engine.insert("todo", { title: "unheard" });
  world.engine.fail(unheard.opId, DENIED);
  assert.equal(told.length, 1);
});

test("the writes of another tab are told of like one's own", async () => {
  const { engine, world } = await started();
  const steps: string[] = [];
  engine.mutations.subscribe(({ status, change }) => steps.push(`${change.rowId} ${status}`));
  const rollbacks: Rollback[] = [];
  engine.mutations.onRollback((rollback) => rollbacks.push(rollback));
  const [good, bad] = ["a", "b"].map((id) =>
    world.engine.queueElsewhere([{ entity: "todo", row_id: id, kind: "insert", data: { title: id } }]),
  );
  assert.ok(good !== undefined && bad !== undefined);
  world.engine.sent(good);
  world.engine.confirm(good);
  world.engine.fail(bad, DENIED);
  assert.deepEqual(steps, ["a pending", "b pending", "a sent", "a applied", "b failed"]);
  assert.deepEqual(
    rollbacks.map(({ mutation }) => mutation.opId),
    [bad],
  );
});
