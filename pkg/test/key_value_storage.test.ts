import assert from "node:assert/strict";
import { test } from "node:test";
import { createWriteThroughStorage, defaultStorage } from "../src/key_value_storage.ts";
import { known, make, settle } from "./engine_harness.ts";

test("without localStorage the default storage is memory of its own", () => {
  const storage = defaultStorage();
  storage.set("k", "v");
  assert.equal(storage.get("k"), "v");
  assert.equal(defaultStorage().get("k"), undefined);
  storage.remove("k");
  assert.equal(storage.get("k"), undefined);
});

test("a localStorage that works is used, one that throws is not", (t) => {
  const kept = new Map<string, string>();
  const local = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
    removeItem: (key: string) => void kept.delete(key),
  };
  Object.defineProperty(globalThis, "localStorage", { configurable: true, get: () => local });
  t.after(() => Reflect.deleteProperty(globalThis, "localStorage"));
  defaultStorage().set("syncline_token", "t");
  assert.deepEqual([...kept], [["syncline_token", "t"]]);
  assert.equal(defaultStorage().get("syncline_token"), "t");
  local.setItem = () => {
    throw new Error("private mode");
  };
  const storage = defaultStorage();
  storage.set("other", "x");
  assert.deepEqual([storage.get("other"), kept.has("other")], ["x", false]);
});

test("changes are written through in order, and memory does not wait", async () => {
  const written: string[] = [];
  let release: () => void = () => {};
  const first = new Promise<void>((resolve) => {
    release = resolve;
  });
  const errors: unknown[] = [];
  const storage = createWriteThroughStorage(
    { syncline_token: "seeded" },
    async (key, value) => {
      if (written.length === 0) await first;
      written.push(`${key}=${value}`);
      if (value === "bad") throw new Error("disk full");
    },
    (thrown) => errors.push((thrown as Error).message),
  );
  assert.equal(storage.get("syncline_token"), "seeded");
  storage.set("syncline_token", "seeded");
  storage.set("a", "1");
  storage.set("a", "bad");
  storage.remove("a");
  storage.remove("never there");
  assert.equal(storage.get("a"), undefined);
  release();
  await settle();
  assert.deepEqual([written, errors], [["a=1", "a=bad", "a=null"], ["disk full"]]);
});

test("the engine reads its token from the storage and takes it out at the end of the session", async () => {
  const storage = createWriteThroughStorage([["syncline_token", "a"]], () => {});
  const { engine, world } = make({ storage }, known());
  await engine.start();
  assert.equal(world.engine.token, "a");
  await engine.signOut();
  assert.deepEqual([storage.get("syncline_token"), engine.resolvedSession()?.userId], [undefined, null]);
});
