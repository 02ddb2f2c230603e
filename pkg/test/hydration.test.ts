import assert from "node:assert/strict";
import { test } from "node:test";
import type { ServerData } from "../src/types.ts";
import { ALICE, code, known, make, settle, type Todos } from "./engine_harness.ts";

const PAGE: ServerData<Todos> = {
  identity: { userId: "alice", tenantId: null },
  rows: { todo: [{ id: "b", title: "second" }].concat({ id: "a1", title: "of alice" }), note: [] },
};

test("the page's rows are there before anything is loaded, in order, frozen and as copies", () => {
  const { engine } = make();
  const heard: string[] = [];
  engine.store.subscribe(({ entities }) => heard.push(entities.join()));
  engine.hydrate(PAGE);
  assert.deepEqual(heard, ["todo,note"]);
  const list = engine.store.list("todo");
  assert.deepEqual(
    list.map((row) => row.id),
    ["a1", "b"],
  );
  assert.equal(engine.store.list("todo"), list);
  assert.equal(engine.store.get("todo", "b"), list[1]);
  assert.equal(engine.store.get("todo", "c"), undefined);
  assert.ok(Object.isFrozen(list[0]) && !Object.isFrozen(PAGE.rows.todo?.[0]));
  assert.deepEqual(
    [engine.status.synced, engine.status.seq, engine.resolvedSession(), engine.status.connection.state],
    [false, 0, null, "idle"],
  );
});

test("they stay beneath the replica's until that is complete, and what is the same keeps its object", async () => {
  const world = known();
  world.opensAtOnce = false;
  const { engine } = make({ token: "a" }, world);
  engine.hydrate(PAGE);
  const before = engine.store.get("todo", "a1");
  const starting = engine.start();
  await settle();
  assert.equal(engine.store.list("todo").length, 2);
  world.engine.open();
  await starting;
  void engine.insert("todo", { id: "c", title: "mine" });
  world.engine.receive("todo", { id: "b", title: "newer" });
  assert.deepEqual(
    engine.store.list("todo").map(({ id, title }) => `${id} ${title}`),
    ["a1 of alice", "b newer", "c mine"],
  );
  assert.throws(() => engine.update("note", "n", { text: "x" }), code("ROW_NOT_FOUND"));
  world.engine.live();
  assert.deepEqual(
    engine.store.list("todo").map((row) => row.id),
    ["a1", "b", "c"],
  );
  assert.equal(engine.store.get("todo", "a1"), before);
});

test("a row that the server no longer has goes with the first complete pull", async () => {
  const { engine, world } = make({ token: "a" }, known());
  engine.hydrate(PAGE);
  await engine.start();
  assert.equal(engine.store.list("todo").length, 2);
  const heard: string[] = [];
  engine.store.subscribe(({ entities }) =>
    heard.push(`${entities.join()} ${engine.store.list("todo").length}`),
  );
  world.engine.live();
  assert.deepEqual(heard, ["todo,note 1"]);
  // A page for a replica that is complete has nothing to add.
  engine.hydrate(PAGE);
  assert.equal(engine.store.list("todo").length, 1);
});

test("another identity never sees them", async () => {
  const { engine } = make({ token: "b" }, known());
  const errors: string[] = [];
  engine.onError((error) => errors.push(error.code));
  engine.hydrate(PAGE);
  await engine.start();
  assert.deepEqual(
    engine.store.list("todo").map((row) => row.id),
    ["b1"],
  );
  engine.hydrate(PAGE);
  assert.deepEqual(
    engine.store.list("todo").map((row) => row.id),
    ["b1"],
  );
  assert.deepEqual(errors, ["IDENTITY_CHANGED", "IDENTITY_CHANGED"]);
});

test("a session that nobody has resolved shows them until it is somebody else's", async () => {
  const { engine, world } = make({ token: "new" });
  engine.hydrate(PAGE);
  await engine.start();
  assert.equal(engine.store.list("todo").length, 2);
  world.engine.resolve({ user_id: "bob", tenant_id: null });
  assert.deepEqual(engine.store.list("todo"), []);
});

test("a change of the session takes them away at once, started or not", async () => {
  const fresh = make();
  fresh.engine.hydrate(PAGE);
  await fresh.engine.notifySessionChanged("b");
  assert.deepEqual(fresh.engine.store.list("todo"), []);

  const { engine, world } = make({ token: "new" });
  engine.hydrate(PAGE);
  await engine.start();
  const changing = engine.notifySessionChanged("other");
  await settle();
  assert.deepEqual(engine.store.list("todo"), []);
  world.engine.resolve(ALICE);
  await changing;
});

test("what is no data of a server is refused", () => {
  const { engine } = make();
  for (const data of [
    undefined,
    {},
    { rows: {} },
    { identity: {}, rows: {} },
    { ...PAGE, rows: { todo: [{}] } },
  ])
    assert.throws(() => engine.hydrate(data as ServerData<Todos>), code("INVALID_VALUE"));
});
