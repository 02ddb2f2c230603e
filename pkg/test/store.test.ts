import assert from "node:assert/strict";
import { test } from "node:test";
import { settle, started } from "./engine_harness.ts";

test("a row is the same frozen object until it changes", async () => {
  const { engine, world } = await started();
  void engine.insert("todo", { id: "a", title: "one" });
  world.engine.receive("todo", { id: "b", title: "two" });
  const [a, b] = engine.store.list("todo");
  assert.ok(Object.isFrozen(a) && Object.isFrozen(engine.store.list("todo")));
  assert.equal(engine.store.list("todo"), engine.store.list("todo"));
  assert.equal(engine.store.get("todo", "a"), a);

  world.engine.receive("todo", { id: "b", title: "changed", tags: ["x"] });
  assert.equal(engine.store.list("todo")[0], a);
  assert.notEqual(engine.store.list("todo")[1], b);
  assert.equal(engine.store.get("todo", "b")?.title, "changed");
});

test("a list is the same array until its entity changes", async () => {
  const { engine } = await started();
  void engine.insert("todo", { id: "a", title: "one" });
  const todos = engine.store.list("todo");
  void engine.insert("note", { text: "elsewhere" });
  assert.equal(engine.store.list("todo"), todos);
  void engine.delete("todo", "a");
  assert.deepEqual(engine.store.list("todo"), []);
});

test("a confirmation that brings the guessed row keeps its object", async () => {
  const { engine, world } = await started();
  const write = engine.insert("todo", { id: "a", title: "one" });
  const list = engine.store.list("todo");
  world.engine.confirm(write.opId);
  assert.equal(engine.store.list("todo"), list);

  const second = engine.update("todo", "a", { title: "two" });
  const guessed = engine.store.get("todo", "a");
  world.engine.confirm(second.opId, { owner: "alice" });
  assert.notEqual(engine.store.get("todo", "a"), guessed);
  assert.equal(engine.store.get("todo", "a")?.owner, "alice");
});

test("rows read one by one keep their objects when the entity is listed", async () => {
  const { engine, world } = await started();
  world.engine.receive("todo", { id: "a", title: "one" }, { id: "b", title: "two" });
  const b = engine.store.get("todo", "b");
  assert.equal(engine.store.get("todo", "b"), b);
  assert.equal(world.engine.deltas, 0);
  assert.equal(engine.store.list("todo")[1], b);
  assert.equal(engine.store.get("todo", "b"), b);
  assert.equal(engine.store.get("todo", "c"), undefined);
});

test("lists stay in order of the ids whatever is added, changed and removed", async () => {
  const { engine, world } = await started();
  const model = new Map<string, string>();
  let seed = 7;
  for (let step = 0; step < 300; step += 1) {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
    const id = `r${seed % 40}`;
    if (model.has(id) && seed % 3 === 0) {
      void engine.delete("todo", id);
      model.delete(id);
    } else {
      world.engine.receive("todo", { id, title: String(step) });
      model.set(id, String(step));
      // The server's row hides under a local deletion; a new local row brings it back.
      if (engine.store.get("todo", id) === undefined) void engine.insert("todo", { id, title: String(step) });
    }
    if (step % 5 === 0) {
      const ids = [...model.keys()].sort();
      assert.deepEqual(
        engine.store.list("todo").map((row) => row.id),
        ids,
        `after step ${step}`,
      );
    }
  }
});

test("listeners hear of a change once, when everything is consistent, and may write", async () => {
  const { engine } = await started();
  const seen: string[] = [];
  engine.store.subscribe(({ entities }) => {
    seen.push(`${entities.join()} ${engine.store.list("todo").length} ${engine.store.list("note").length}`);
    if (engine.store.list("note").length === 0) {
      void engine.insert("note", { text: "from a listener" });
      seen.push("written");
    }
  });
  void engine.insert("todo", { title: "one" });
  assert.deepEqual(seen, ["todo 1 0", "written", "note 1 1"]);
});

test("a transaction is heard once", async () => {
  const { engine } = await started();
  const seen: string[] = [];
  engine.store.subscribe(({ entities }) => seen.push(entities.join()));
  void engine.transaction((tx) => {
    const id = tx.insert("todo", { title: "one" });
    tx.insert("note", { text: id });
  });
  assert.deepEqual(seen, ["note,todo"]);
});

test("a listener that throws is reported and does not silence the others", async () => {
  const { engine } = await started();
  const heard: string[] = [];
  const errors: unknown[] = [];
  engine.onError((error) => errors.push(error.cause));
  const failure = new Error("mine");
  engine.store.subscribe(() => {
    throw failure;
  });
  const end = engine.store.subscribe(() => heard.push("second"));
  void engine.insert("todo", { title: "one" });
  assert.deepEqual([heard, errors], [["second"], [failure]]);
  end();
  void engine.insert("todo", { title: "two" });
  assert.deepEqual(heard, ["second"]);
});

test("before the start and for other entities there are no rows", async () => {
  const { engine } = await started();
  assert.deepEqual(engine.store.list("note"), []);
  await engine.stop();
  await settle();
  assert.deepEqual(engine.store.list("note"), []);
});
