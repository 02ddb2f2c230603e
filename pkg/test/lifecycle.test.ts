import assert from "node:assert/strict";
import { test } from "node:test";
import { checkConfig } from "../src/config.ts";
import { ALICE, BOB, code, known, make, settle, started } from "./engine_harness.ts";

test("start resolves when local rows can be read, and starts once", async () => {
  const world = known();
  world.opensAtOnce = false;
  const { engine } = make({ token: "a" }, world);
  const first = engine.start();
  assert.equal(engine.start(), first);
  await settle();
  assert.equal(world.engines.length, 1);
  assert.deepEqual(engine.store.list("todo"), []);
  world.engine.open();
  await first;
  assert.deepEqual(engine.store.list("todo"), [{ id: "a1", title: "of alice" }]);
  assert.deepEqual(engine.resolvedSession(), { userId: "alice", tenantId: null });
});

test("start with an unknown token resolves at once and says that the identity is not known", async () => {
  const { engine, world } = make({ token: "new" });
  await engine.start();
  assert.equal(engine.status.identity, null);
  assert.deepEqual(engine.store.list("todo"), []);
  world.engine.resolve(ALICE);
  assert.equal(engine.resolvedSession()?.userId, "alice");
});

test("synced waits for the first complete pull", async () => {
  const { engine, world } = make();
  await assert.rejects(engine.synced(), code("NOT_STARTED"));
  await engine.start();
  let isSynced = false;
  const synced = engine.synced().then(() => {
    isSynced = true;
  });
  await settle();
  assert.equal(isSynced, false);
  world.engine.live();
  await synced;
  await engine.synced();
});

test("stopping ends what waits, and the engine can start again", async () => {
  const world = known();
  world.opensAtOnce = false;
  const { engine } = make({ token: "a" }, world);
  const starting = engine.start();
  await settle();
  const refused = assert.rejects(starting, code("NOT_STARTED"));
  await engine.stop();
  await refused;
  assert.equal(engine.status.connection.state, "stopped");
  world.opensAtOnce = true;
  await engine.start();
  assert.equal(engine.store.list("todo").length, 1);
  assert.ok(world.engines[0]?.isFreed);
  const synced = assert.rejects(engine.synced(), code("NOT_STARTED"));
  await engine[Symbol.asyncDispose]();
  await synced;
});

test("a stop that overtakes a start wins", async () => {
  const { engine, world } = make();
  const starting = assert.rejects(engine.start(), code("NOT_STARTED"));
  await engine.stop();
  await starting;
  assert.equal(world.engines.length, 0);
});

test("pause before the start keeps the engine from the network", async () => {
  const { engine, world } = make();
  engine.pause();
  await engine.start();
  assert.equal(world.engine.options.startPaused, true);
  engine.resume();
  engine.pause();
  assert.deepEqual(world.engine.calls, ["resume", "pause"]);
  assert.equal(engine.status.connection.state, "paused");
});

test("status listeners get frozen snapshots, each once", async () => {
  const { engine, world } = make();
  const states: string[] = [];
  const end = engine.onStatus((status) => {
    assert.ok(Object.isFrozen(status) && Object.isFrozen(status.connection) && status === engine.status);
    states.push(`${status.connection.state} ${status.pending}`);
  });
  await engine.start();
  states.splice(0);
  world.engine.live();
  world.engine.unavailable();
  assert.deepEqual(states, ["live 0", "waiting 0"]);
  assert.deepEqual(engine.status.connection, { state: "waiting", retryAt: 5 });
  assert.equal(engine.storage, engine.status.storage);
  end();
  world.engine.live();
  assert.equal(states.length, 2);
});

test("problems reach onError", async () => {
  const { engine, world } = await started();
  const errors: string[] = [];
  engine.onError(({ code, retryable }) => errors.push(`${code} ${retryable}`));
  world.engine.emit(
    { type: "problem", code: "STORAGE_FULL", message: "no space" },
    { type: "problem", code: "OF_A_NEWER_VERSION", message: "?" },
  );
  assert.deepEqual(errors, ["STORAGE_FULL true", "INTERNAL true"]);
});

test("another token shows the other user's rows and keeps the first one's write in its own replica", async () => {
  const world = known();
  const { engine } = make({ token: "a" }, world);
  await engine.start();
  const write = engine.insert("todo", { id: "a2", title: "unsent" });
  const alice = world.engine;
  assert.equal(engine.store.list("todo").length, 2);
  const shown: string[] = [];
  engine.store.subscribe(() =>
    shown.push(
      engine.store
        .list("todo")
        .map((row) => row.id)
        .join(),
    ),
  );
  const changing = engine.notifySessionChanged("b");
  await settle();
  assert.deepEqual(shown, [""]);
  assert.equal(engine.resolvedSession(), null);
  assert.throws(() => engine.insert("todo", { title: "whose?" }), code("NOT_STARTED"));
  alice.durable(write.opId);
  await changing;
  assert.deepEqual(shown, ["", "b1"]);
  assert.deepEqual(alice.calls, ["stop"]);
  assert.ok(alice.isFreed);
  assert.equal(await write, "a2");
  await assert.rejects(write.confirmed, code("IDENTITY_CHANGED"));
  assert.deepEqual(engine.mutations.list(), []);
  assert.deepEqual(engine.resolvedSession(), { userId: "bob", tenantId: null });
  alice.receive("todo", { id: "late", title: "late" });
  assert.equal(engine.store.get("todo", "late"), undefined);
});

test("a renewed token of the same user keeps its writes waiting", async () => {
  const world = known();
  world.known.set("a2", ALICE);
  const { engine } = make({ token: "a" }, world);
  await engine.start();
  const write = engine.insert("todo", { title: "one" });
  world.engine.durable(write.opId);
  await engine.notifySessionChanged("a2");
  let isSettled = false;
  void write.confirmed.finally(() => {
    isSettled = true;
  });
  await settle();
  assert.equal(isSettled, false);
  world.engine.emit({ type: "mutation_confirmed", op_id: write.opId, seq: 9 });
  assert.equal((await write.confirmed).seq, 9);
});

test("a session nobody can resolve now hides the former rows and does not wait for ever", async () => {
  const world = known();
  const { engine } = make({ token: "a" }, world);
  await engine.start();
  const changing = engine.notifySessionChanged("never seen");
  await settle();
  world.engine.unavailable();
  await changing;
  assert.deepEqual([engine.store.list("todo"), engine.resolvedSession()], [[], null]);
});

test("the token comes from the configuration, then the storage, then the function", async () => {
  const values = new Map([["pylon_token", "from storage"]]);
  const storage = {
    get: (key: string) => values.get(key),
    set: (key: string, value: string) => void values.set(key, value),
    remove: (key: string) => void values.delete(key),
  };
  const getToken = () => "from function";
  for (const [config, token] of [
    [{ token: "given", storage, getToken }, "given"],
    [{ storage, getToken }, "from storage"],
    [{ getToken }, "from function"],
    [{ token: null, storage }, undefined],
    [{ token: "", getToken: async () => null }, undefined],
    [{}, undefined],
  ] as const) {
    const { engine, world } = make(config);
    await engine.start();
    assert.equal(world.engine.token, token);
  }
});

test("a function that asks a server does not hold up the start", async () => {
  const world = known();
  let answer: (token: string) => void = () => {};
  const { engine } = make({ getToken: () => new Promise((resolve) => (answer = resolve)) }, world);
  await engine.start();
  assert.deepEqual(
    [world.engines.length, engine.status.identity, engine.status.connection.state],
    [0, null, "connecting"],
  );
  answer("a");
  await settle();
  assert.equal(engine.store.list("todo").length, 1);
});

test("a function that fails is reported, and nobody's rows are shown", async () => {
  const { engine, world } = make({ getToken: () => Promise.reject(new Error("signed out")) });
  const errors: string[] = [];
  engine.onError((error) => errors.push(`${error.code} ${(error.cause as Error).message}`));
  await engine.start();
  assert.deepEqual(errors, ["UNAUTHENTICATED signed out"]);
  assert.deepEqual([world.engines.length, engine.status.connection.state], [0, "unauthorized"]);
});

test("a refused token is renewed once for each need", async () => {
  let asked = 0;
  const world = known();
  const getToken = async ({ code: reason }: { readonly code: string | null }) => {
    asked += 1;
    return `${reason} ${asked}`;
  };
  const { engine } = make({ token: "a", getToken }, world);
  await engine.start();
  world.engine.emit(
    { type: "token_needed", code: "TOKEN_EXPIRED" },
    { type: "token_needed", code: "TOKEN_EXPIRED" },
  );
  await settle();
  assert.equal(asked, 1);
  assert.deepEqual([...new Set(world.engine.calls)], ["setToken TOKEN_EXPIRED 1"]);
});

test("without another token the engine is told that there is none", async () => {
  const { engine, world } = make({ token: "a" }, known());
  await engine.start();
  world.engine.emit({ type: "token_needed", code: "UNAUTHENTICATED" });
  await settle();
  assert.deepEqual(world.engine.calls, ["setToken undefined"]);
});

test("a server that says it is another identity makes the engine resolve it again", async () => {
  const { engine, world } = make({ token: "a" }, known());
  await engine.start();
  world.known.delete("a");
  const former = world.engine;
  former.emit({ type: "identity_flipped" });
  await settle();
  assert.notEqual(world.engine, former);
  assert.deepEqual(engine.store.list("todo"), []);
  world.engine.resolve(BOB);
  assert.deepEqual(engine.store.list("todo"), [{ id: "b1", title: "of bob" }]);
});

test("options are checked by name and type", () => {
  for (const [options, part] of [
    [{ baseUrl: "ftp://x" }, "baseUrl"],
    [{ baseUrl: "no address" }, "baseUrl"],
    [{ baseUrl: "http://x", colour: 1 }, "`colour` is no option; the options are baseUrl, transport"],
    [{ baseUrl: "http://x", wsUrl: "http://x" }, "`wsUrl` must be an address that starts with ws://"],
    [{ baseUrl: "http://x", appName: "a/b" }, "`appName`"],
    [{ baseUrl: "http://x", reconnectDelay: 0 }, "`reconnectDelay`"],
    [{ baseUrl: "http://x", persist: "yes" }, "`persist`"],
    [{ baseUrl: "http://x", storage: { get() {} } }, "`storage`"],
    [{ baseUrl: "http://x", transport: "carrier pigeon" }, "`transport`"],
  ] as const) {
    assert.throws(
      () => checkConfig(options as unknown as { baseUrl: string }),
      (error: Error & { code?: string }) => error.code === "INVALID_CONFIG" && error.message.includes(part),
    );
  }
  for (const transport of ["sse", "poll"] as const) {
    assert.throws(() => checkConfig({ baseUrl: "http://x", transport }), code("NOT_SUPPORTED"));
  }
  const { baseUrl, appName, persist } = checkConfig({ baseUrl: "http://x/app/", token: undefined });
  assert.deepEqual([baseUrl, appName, persist], ["http://x/app", "default", false]);
});
