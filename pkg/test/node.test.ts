// The built package in Node, in memory, with the real server.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { SyncEngine } from "../src/types.ts";
import { NEEDS_SERVER, ownEntity, serverUrl, signIn } from "./server.ts";

const name: string = "syncline";
const { createSyncEngine, fetchList, insert } = (await import(name)) as typeof import("../src/index.ts");

const engines: SyncEngine[] = [];
after(() => Promise.all(engines.map((engine) => engine.stop())));

async function online(token: string): Promise<SyncEngine> {
  const engine = createSyncEngine(serverUrl(), { token });
  engines.push(engine);
  await engine.start();
  await engine.synced();
  return engine;
}

test("two engines in Node sync through the server", NEEDS_SERVER, async () => {
  const entity = ownEntity();
  const [ada, bob] = [await online((await signIn()).token), await online((await signIn()).token)];
  assert.deepEqual(ada.storage.kind, "memory");
  const write = ada.insert(entity, { title: "from ada" });
  await write.confirmed;
  await bob.pull();
  assert.deepEqual(
    bob.store.list(entity).map((row) => row.title),
    ["from ada"],
  );
  await bob.update(entity, write.id, { title: "from bob" }).confirmed;
  await ada.pull();
  assert.equal(ada.store.get(entity, write.id)?.title, "from bob");
});

test("pull brings what somebody else wrote, and a reset keeps rows and queue", NEEDS_SERVER, async () => {
  const entity = ownEntity();
  const { token } = await signIn();
  const engine = await online(token);
  for (let n = 0; n < 5; n += 1) {
    await insert(serverUrl(), entity, { n }, { token });
    await engine.pull();
    assert.equal(engine.store.list(entity).length, n + 1);
  }
  const before = engine.store.list(entity);
  engine.pause();
  const unsent = engine.insert(entity, { n: 5 });
  await unsent;
  await assert.rejects(engine.resetReplica(), /resume|reached/);
  assert.deepEqual([engine.status.synced, engine.store.list(entity).length], [false, 6]);
  engine.resume();
  await engine.resetReplica();
  await unsent.confirmed;
  // What did not change is the same object: nothing is rendered anew.
  assert.ok(before.every((row) => engine.store.get(entity, row.id) === row));
  assert.equal((await fetchList(serverUrl(), entity, { token })).length, 6);
});
