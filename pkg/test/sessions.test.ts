// What happens when sessions follow one another faster than databases open and tokens arrive.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ALICE, code, known, make, settle } from "./engine_harness.ts";

/** A `getToken` that answers when the test wants it to. */
function slowToken() {
  const answers: ((token: string) => void)[] = [];
  const getToken = (): Promise<string> => new Promise((resolve) => answers.push(resolve));
  return { getToken, answer: (token: string): void => answers.shift()?.(token) };
}

test("a write made before the next session's database was open is that session's", async () => {
  const world = known();
  const { engine } = make({ token: "a" }, world);
  await engine.start();
  const alices = engine.insert("todo", { title: "of alice" });
  world.engine.durable(alices.opId);
  world.opensAtOnce = false;
  const changing = engine.notifySessionChanged("b");
  await settle();
  const bobs = engine.insert("todo", { title: "early" });
  world.engine.open();
  await changing;
  world.engine.durable(bobs.opId);
  assert.equal(await bobs, bobs.id);
  world.engine.confirm(bobs.opId);
  assert.equal((await bobs.confirmed).seq, 7);
  await assert.rejects(alices.confirmed, code("IDENTITY_CHANGED"));
});

test("an early write survives a start as somebody else", async () => {
  const world = known();
  const { engine } = make({ token: "a" }, world);
  await engine.start();
  await engine.stop();
  world.opensAtOnce = false;
  const changed = engine.notifySessionChanged("b");
  const starting = engine.start();
  await changed;
  await settle();
  const write = engine.insert("todo", { title: "early" });
  world.engine.open();
  await starting;
  world.engine.durable(write.opId);
  world.engine.confirm(write.opId);
  assert.equal((await write.confirmed).seq, 7);
});

test("the same token again keeps the writes of a session that is not known yet", async (t) => {
  t.mock.method(globalThis, "fetch", () => Promise.resolve(Response.json(ALICE)));
  const { engine, world } = make({ token: "new" });
  await engine.start();
  const write = engine.insert("todo", { title: "early" });
  const changing = engine.notifySessionChanged("new");
  await settle();
  assert.deepEqual([world.engines.length, world.engine.calls], [1, ["setToken new"]]);
  world.engine.resolve(ALICE);
  await changing;
  world.engine.durable(write.opId);
  assert.equal(await write, write.id);
});

test("a stop in the middle of a session change settles everything", async () => {
  const world = known();
  const { engine } = make({ token: "a" }, world);
  await engine.start();
  const write = engine.insert("todo", { title: "one" });
  const alice = world.engine;
  const changing = engine.notifySessionChanged("b");
  await settle();
  const stopping = engine.stop();
  alice.durable(write.opId);
  await Promise.all([changing, stopping]);
  assert.equal(await write, write.id);
  await assert.rejects(write.confirmed, code("NOT_STARTED"));
  assert.deepEqual([world.engines.length, engine.status.connection.state], [1, "stopped"]);
});

test("a function that never answers holds up neither a stop nor what follows", async () => {
  const world = known();
  const { getToken } = slowToken();
  const { engine } = make({ getToken }, world);
  await engine.start();
  await engine.stop();
  assert.equal(engine.status.connection.state, "stopped");
  await engine.start();
  const changing = engine.notifySessionChanged();
  await settle();
  await Promise.all([engine.stop(), changing]);
  await engine.start();
  const asking = engine.notifySessionChanged();
  await Promise.all([engine.notifySessionChanged("b"), asking]);
  assert.equal(engine.resolvedSession()?.userId, "bob");
});

test("a stop after a panic rejects what was not on disk", async () => {
  const world = known();
  const { engine } = make({ token: "a" }, world);
  await engine.start();
  const write = engine.insert("todo", { title: "one" });
  const lost = assert.rejects(write, code("NOT_STARTED"));
  world.isBroken = true;
  await assert.rejects(engine.stop(), code("INTERNAL"));
  await lost;
  await assert.rejects(write.confirmed, code("NOT_STARTED"));
});

test("a renewal under way does not keep the next session from renewing", async () => {
  const world = known();
  const { getToken, answer } = slowToken();
  const { engine } = make({ token: "a", getToken }, world);
  await engine.start();
  world.engine.emit({ type: "token_needed", code: "TOKEN_EXPIRED" });
  await engine.notifySessionChanged("b");
  world.engine.emit({ type: "token_needed", code: "TOKEN_EXPIRED" });
  answer("asked for alice");
  await settle();
  assert.deepEqual(
    world.engines.map(({ calls }) => calls),
    [["stop"], []],
  );
  answer("asked for bob");
  await settle();
  assert.deepEqual(
    world.engines.map(({ calls }) => calls),
    [["stop"], ["setToken asked for bob"]],
  );
});

test("a token asked for one session answers no other, in whatever order the answers come", async () => {
  const world = known();
  const { getToken, answer } = slowToken();
  const { engine } = make({ token: "a", getToken }, world);
  await engine.start();
  const alice = world.engine;
  const changing = engine.notifySessionChanged();
  await settle();
  // The session it asks for is not that of the replica whose token runs out meanwhile.
  alice.emit({ type: "token_needed", code: "TOKEN_EXPIRED" });
  await settle();
  answer("b");
  await changing;
  assert.deepEqual(
    world.engines.map(({ token, calls }) => [token, calls]),
    [
      ["a", ["stop"]],
      ["b", []],
    ],
  );
  answer("late, for alice");
  await settle();
  assert.deepEqual([world.engine.calls, engine.resolvedSession()?.userId], [[], "bob"]);
});

test("a late answer of the first start opens nothing beside a newer session", async () => {
  const world = known();
  const { getToken, answer } = slowToken();
  const { engine } = make({ getToken }, world);
  await engine.start();
  await engine.notifySessionChanged("a");
  const write = engine.insert("todo", { title: "one" });
  const alice = world.engine;
  const changing = engine.notifySessionChanged("b");
  await settle();
  answer("late");
  await settle();
  alice.durable(write.opId);
  await changing;
  assert.deepEqual(
    world.engines.map(({ token }) => token),
    ["a", "b"],
  );
  assert.equal(engine.resolvedSession()?.userId, "bob");
});

test("nobody sees the rows of a former user while the next one's token is awaited", async () => {
  const world = known();
  const values = new Map([["syncline_token", "a"]]);
  const storage = {
    get: (key: string) => values.get(key),
    set: (key: string, value: string) => void values.set(key, value),
    remove: (key: string) => void values.delete(key),
  };
  const { getToken, answer } = slowToken();
  const { engine } = make({ storage, getToken }, world);
  await engine.start();
  await engine.stop();
  assert.equal(engine.store.list("todo").length, 1);
  values.clear();
  await engine.start();
  assert.deepEqual([engine.store.list("todo"), engine.resolvedSession()], [[], null]);
  assert.ok(world.engines[0]?.isFreed);
  answer("b");
  await settle();
  assert.equal(engine.store.get("todo", "b1")?.title, "of bob");
});

test("a session change while stopped hides the former rows", async () => {
  const world = known();
  const { engine } = make({ token: "a" }, world);
  await engine.start();
  await engine.stop();
  await engine.notifySessionChanged(null);
  assert.deepEqual([engine.store.list("todo"), engine.resolvedSession()], [[], null]);
  assert.equal(engine.status.connection.state, "stopped");
});

test("an identity that was contradicted again is hidden before the pause", async () => {
  const world = known();
  const { engine } = make({ token: "a", reconnectDelay: 10_000 }, world);
  await engine.start();
  world.engine.emit({ type: "identity_flipped" });
  await settle();
  assert.equal(engine.store.list("todo").length, 1);
  world.engine.emit({ type: "identity_flipped" });
  await settle();
  assert.deepEqual(
    [engine.store.list("todo"), engine.resolvedSession(), world.engines.length],
    [[], null, 2],
  );
  await engine.notifySessionChanged("b");
  assert.equal(engine.resolvedSession()?.userId, "bob");
  await engine.stop();
});

test("an applied transaction leaves the list when its rows arrive", async () => {
  const { engine, world } = make();
  await engine.start();
  const { opId } = engine.insert("todo", { title: "one" });
  world.engine.applied(opId);
  const [applied] = engine.mutations.list();
  assert.equal(applied?.status, "applied");
  world.engine.arrive(opId);
  assert.deepEqual(engine.mutations.list(), []);
  const list = engine.mutations.list();
  world.engine.receive("todo", { id: "b", title: "of somebody else" });
  assert.equal(engine.mutations.list(), list);
});
