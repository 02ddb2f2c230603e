// The built package with the real module, in Node: in memory, without a server.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import type { StoreChange } from "../src/types.ts";
import { NOWHERE } from "./wire_server.ts";

// Not a literal: TypeScript would look for the declarations of a build that may not be there yet.
const name: string = "syncline";
const { createSyncEngine, init, SynclineError } = (await import(name)) as typeof import("../src/index.ts");

interface Todos {
  todo: { title: string; tags?: readonly string[]; when?: string };
}

const server = createServer((request, response) => {
  if (request.url === "/missing.wasm") response.writeHead(404).end("no");
  else response.writeHead(200, { "content-type": "text/html" }).end("\n<!doctype html><title>App</title>");
});
await new Promise<void>((resolve) => {
  server.listen(0, "127.0.0.1", resolve);
});
after(() => server.close());
const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

const refusal = (part: string) => (error: unknown) =>
  error instanceof SynclineError && error.code === "WASM_LOAD_FAILED" && error.message.includes(part);

test("a module that cannot be loaded says why, and the next call tries again", async () => {
  await assert.rejects(init(`${address}/app.wasm`), refusal("answered with a page of HTML"));
  await assert.rejects(init(new Request(`${address}/app.wasm`)), refusal("answered with a page of HTML"));
  await assert.rejects(
    init(new Response("<html>")),
    refusal("the given response answered with a page of HTML"),
  );
  await assert.rejects(init(`${address}/missing.wasm`), refusal("answered 404"));
  await assert.rejects(
    init(new TextEncoder().encode("not wasm")),
    refusal("the given bytes is no WebAssembly module"),
  );
  await assert.rejects(init(new URL("http://127.0.0.1:9/x.wasm")), refusal("could not be fetched"));
  const engine = createSyncEngine({ baseUrl: NOWHERE, wasm: `${address}/app.wasm` });
  await assert.rejects(engine.start(), refusal("answered with a page of HTML"));
});

test("the module is found beside the script, or taken as bytes, once", async () => {
  const bytes = await readFile(new URL(import.meta.resolve("syncline/syncline_web_bg.wasm")));
  await Promise.all([init(), init(bytes), init()]);
  await init(await WebAssembly.compile(bytes));
});

test("rows are written, read and heard of in memory without a server", async () => {
  const engine = createSyncEngine<Todos>(NOWHERE, { persist: false });
  await engine.start();
  assert.deepEqual(engine.storage.kind, "memory");
  assert.deepEqual(engine.resolvedSession(), { userId: null, tenantId: null });
  const heard: StoreChange[] = [];
  engine.store.subscribe((change) => heard.push(change));

  const when = new Date(Date.UTC(2026, 0, 1));
  const write = engine.insert("todo", { title: "grüße 😀", tags: ["a", "b"], when });
  assert.equal(await write, write.id);
  const [row] = engine.store.list("todo");
  const wanted = { id: write.id, title: "grüße 😀", tags: ["a", "b"], when: "2026-01-01T00:00:00.000Z" };
  assert.deepEqual({ ...row }, wanted);
  assert.equal(engine.store.get("todo", write.id), row);
  assert.deepEqual(heard, [{ entities: ["todo"] }]);

  await engine.update("todo", write.id, { title: "changed" });
  assert.equal(engine.store.get("todo", write.id)?.title, "changed");
  assert.deepEqual(engine.store.get("todo", write.id)?.tags, ["a", "b"]);
  const [second, third] = await engine.transaction((tx) => {
    tx.delete("todo", write.id);
    return [tx.insert("todo", { title: "2" }), tx.insert("todo", { title: "3" })] as const;
  });
  assert.deepEqual(
    engine.store.list("todo").map(({ id }) => id),
    [second, third],
  );
  assert.deepEqual(
    engine.mutations.list().map(({ changes, status }) => [changes.length, status]),
    [
      [1, "pending"],
      [1, "pending"],
      [3, "pending"],
    ],
  );
  assert.equal(engine.status.pending, 3);
  await engine.stop();
});

test("what the core refuses is a coded error, and nothing was written", async () => {
  const engine = createSyncEngine(NOWHERE, { persist: false });
  await engine.start();
  const id = await engine.insert("todo", { title: "one" });
  for (const [call, code] of [
    [() => engine.insert("todo", { id, title: "again" }), "ROW_EXISTS"],
    [() => engine.update("todo", "missing", { title: "x" }), "ROW_NOT_FOUND"],
    [() => engine.delete("todo", "missing"), "ROW_NOT_FOUND"],
    [() => engine.insert("todo", { id: "a b", title: "x" }), "INVALID_ROW_ID"],
    [() => engine.insert("$todo", { title: "x" }), "INVALID_NAME"],
    [() => engine.insert("todo", { $field: "x" }), "INVALID_NAME"],
    [() => engine.mutations.remove("0".repeat(32)), "NOT_FOUND"],
    [() => engine.mutations.retry("nonsense"), "INVALID_OP_ID"],
  ] as const) {
    assert.throws(call, (error) => error instanceof SynclineError && error.code === code, code);
  }
  assert.equal(engine.store.list("todo").length, 1);
  await engine.stop();
});

test("a write that was not sent can be removed", async () => {
  const engine = createSyncEngine(NOWHERE, { persist: false });
  engine.pause();
  await engine.start();
  const write = engine.insert("todo", { title: "one" });
  await write;
  engine.mutations.remove(write.opId);
  await assert.rejects(
    write.confirmed,
    (error) => error instanceof SynclineError && error.code === "DISCARDED",
  );
  assert.deepEqual([engine.store.list("todo"), engine.mutations.list()], [[], []]);
  await engine.stop();
});
