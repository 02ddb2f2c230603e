// Rows and queue in a backend of the application: the one of docs/api.md, and one that fails.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";
import { openDatabase } from "../src/record_database.ts";
import type { PersistenceBackend, Status, SyncEngine, SyncEngineConfig } from "../src/types.ts";
import { NEEDS_SERVER, ownEntity, serverUrl } from "./server.ts";
import { NOWHERE } from "./wire_server.ts";

const name: string = "syncline";
const { createSyncEngine } = (await import(name)) as typeof import("../src/index.ts");

const folder = await mkdtemp(join(tmpdir(), "syncline-persistence-"));
const engines: SyncEngine[] = [];
after(async () => {
  await Promise.all(engines.map((engine) => engine.stop()));
  await rm(folder, { recursive: true });
});

/** The backend that docs/api.md shows. */
const page = await readFile(new URL("api.md", process.env.SYNCLINE_DOCS), "utf8");
const [, example = ""] = /```js\n(\/\/ file_backend\.js[\s\S]*?)```/.exec(page) ?? [];
await writeFile(join(folder, "file_backend.mjs"), example);
const { fileBackend } = (await import(pathToFileURL(join(folder, "file_backend.mjs")).href)) as {
  fileBackend(folder: string): PersistenceBackend;
};

async function open(persistence: PersistenceBackend, config: SyncEngineConfig = {}): Promise<SyncEngine> {
  const engine = createSyncEngine(NOWHERE, { persistence, ...config });
  engines.push(engine);
  await engine.start();
  return engine;
}

/** A backend in memory, and every state it was in. */
class Memory implements PersistenceBackend {
  records: Map<string, Uint8Array>;
  readonly states: Map<string, Uint8Array>[] = [];
  /** What the next commits throw. */
  failure: Error | undefined;

  constructor(records: Iterable<readonly [string, Uint8Array]> = []) {
    this.records = new Map(records);
  }

  open(): ReturnType<PersistenceBackend["open"]> {
    return {
      read: () => this.records,
      commit: (changes) => {
        if (this.failure !== undefined) throw this.failure;
        for (const [key, value] of changes) {
          if (value === null) this.records.delete(key);
          else this.records.set(key, value);
        }
        this.states.push(new Map(this.records));
      },
      close: () => {},
    };
  }
}

function until(engine: SyncEngine, isMet: (status: Status) => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (isMet(engine.status)) resolve();
    };
    engine.onStatus(look);
    look();
  });
}

test("writes in files survive the end of the engine, in order", async () => {
  const first = await open(fileBackend(folder));
  assert.deepEqual(first.storage, { kind: "backend" });
  for (let n = 0; n < 5; n += 1) await first.insert("todo", { id: `r${n}`, n, text: "ü 😀" });
  await first.update("todo", "r1", { n: 10 });
  await first.delete("todo", "r2");
  first.mutations.remove(first.mutations.list()[4]?.opId ?? "");
  const [rows, queue] = [first.store.list("todo"), first.mutations.list().map(({ opId }) => opId)];
  await first.stop();
  const second = await open(fileBackend(folder));
  assert.deepEqual(second.store.list("todo"), rows);
  assert.deepEqual(
    second.mutations.list().map(({ opId }) => opId),
    queue,
  );
  assert.equal(second.status.pending, 6);
  await second.stop();
});

test("rows and cursor of the server are there again without a network", NEEDS_SERVER, async () => {
  const [entity, backend] = [ownEntity(), fileBackend(folder)];
  const first = createSyncEngine(serverUrl(), { persistence: backend, appName: entity });
  await first.start();
  await first.synced();
  for (let n = 0; n < 3; n += 1) await first.insert(entity, { n }).confirmed;
  await until(first, ({ pending }) => pending === 0 && first.mutations.list().length === 0);
  await first.resetReplica();
  const rows = first.store.list(entity);
  await first.stop();
  // The same backend again, at once: the former engine's close is waited for.
  const second = await open(backend, { appName: entity });
  assert.deepEqual(second.store.list(entity), rows);
  assert.deepEqual([second.status.synced, second.status.seq > 0, second.status.pending], [true, true, 0]);
});

test("every state between two commits opens with all that was promised until then", async () => {
  const backend = new Memory();
  const engine = await open(backend);
  const promised: [states: number, id: string][] = [];
  for (let n = 0; n < 8; n += 1) {
    const id = await engine.insert("todo", { n });
    promised.push([backend.states.length, id]);
  }
  assert.ok(backend.states.length >= 8);
  for (const [index, state] of backend.states.entries()) {
    const again = await open(new Memory(state));
    assert.equal(again.storage.kind, "backend");
    for (const [states, id] of promised)
      assert.ok(states > index + 1 || again.store.get("todo", id), `${id} at ${index}`);
    await again.stop();
  }
});

test("a damaged record is set aside, and its rows are fetched again", NEEDS_SERVER, async () => {
  const [entity, backend] = [ownEntity(), new Memory()];
  const online = async (): Promise<SyncEngine> => {
    const engine = createSyncEngine(serverUrl(), { persistence: backend });
    engines.push(engine);
    engine.onError(({ code }) => heard.push(code));
    await engine.start();
    await engine.synced();
    return engine;
  };
  const heard: string[] = [];
  const first = await online();
  await first.insert(entity, { n: 1 }).confirmed;
  await until(first, () => first.mutations.list().length === 0);
  await first.stop();
  const stored = [...backend.records].filter(([name]) => name.startsWith("1/entities/"));
  const [key = "", bytes = new Uint8Array()] = stored.at(-1) ?? [];
  const damaged = bytes.map((byte, index) => (index === bytes.length - 1 ? byte ^ 1 : byte));
  backend.records.set(key, damaged);
  const second = await online();
  assert.deepEqual([heard, second.store.list(entity).length], [["STORAGE_CORRUPT"], 1]);
  await second.stop();
  assert.deepEqual(backend.records.get("1/journal/1"), damaged);
});

test("a backend that fails is not trusted, and says why", async () => {
  const refusing = await open({ open: () => Promise.reject(new Error("the disk is gone")) });
  assert.deepEqual(refusing.storage, { kind: "memory", reason: "Error: the disk is gone" });
  await refusing.insert("todo", { n: 1 });
  const breaking = new Memory();
  const broken = await open(breaking);
  breaking.failure = new Error("the cable is out");
  await Promise.allSettled([broken.insert("todo", { n: 1 })]);
  assert.deepEqual(broken.storage, { kind: "memory", reason: "Error: the cable is out" });
  const backend = new Memory();
  const engine = await open(backend);
  const heard: string[] = [];
  engine.onError(({ code }) => heard.push(code));
  backend.failure = Object.assign(new Error("full"), { name: "QuotaExceededError" });
  const write = engine.insert("todo", { id: "kept", n: 1 });
  await Promise.allSettled([write]);
  assert.deepEqual([engine.storage.kind, engine.store.get("todo", "kept")?.n], ["memory", 1]);
  assert.deepEqual(heard, ["STORAGE_FULL"]);
});

test("two engines of a process do not share a backend's name", async () => {
  const backend = new Memory();
  const first = await open(backend);
  const second = await open(backend);
  assert.deepEqual(
    [first.storage.kind, second.storage],
    ["backend", { kind: "memory", reason: "Error: another engine of this process has it open" }],
  );
});

test("records of a newer version are left alone", async () => {
  const records = [["2/entities/1", new Uint8Array([1])]] as const;
  const backend = new Memory(records);
  const engine = await open(backend);
  assert.equal(engine.storage.kind, "memory");
  assert.equal(engine.status.lastError?.code, "STORAGE_TOO_NEW");
  await engine.insert("todo", { n: 1 });
  assert.deepEqual([...backend.records], records);
});

test("an open that hangs is given up, and closed when it comes after all", async () => {
  let isClosed = false;
  let answer: (() => void) | undefined;
  const records = {
    read: () => [],
    commit: () => {},
    close: () => {
      isClosed = true;
    },
  };
  const backend: PersistenceBackend = {
    open: () =>
      new Promise((resolve) => {
        answer = () => resolve(records);
      }),
  };
  await assert.rejects(openDatabase(backend, "late", true, 1), /took longer/);
  answer?.();
  const again = openDatabase(backend, "late", true, 10_000);
  await new Promise((resolve) => setImmediate(resolve));
  answer?.();
  await again;
  assert.ok(isClosed);
  await assert.rejects(openDatabase(backend, "late", false, 1), /does not answer/);
});

test("a transaction that is aborted leaves nothing behind, and the next one waits for its end", async () => {
  const backend = new Memory();
  const database = await openDatabase(backend, "unit", true, 1000);
  const ended: string[] = [];
  const begin = (label: string) => {
    const transaction = database.transaction(["entities"], "readwrite", { durability: "strict" });
    transaction.oncomplete = () => ended.push(`${label} committed`);
    transaction.onabort = () => ended.push(`${label} aborted`);
    return { transaction, store: transaction.objectStore("entities") };
  };
  const first = begin("first");
  first.store.put(new Uint8Array([1]), 7);
  const second = begin("second");
  second.store.put(new Uint8Array([2]), 7);
  const read = second.store.get(7);
  read.onsuccess = () => second.transaction.abort();
  const third = begin("third");
  const found = third.store.getAll({ lower: 1, upper: 9 });
  third.store.delete({ lower: 8, upper: 9 });
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(ended, ["first committed", "second aborted", "third committed"]);
  assert.deepEqual(found.result, [new Uint8Array([1])]);
  assert.deepEqual([...backend.records], [["1/entities/7", new Uint8Array([1])]]);
});
