// As much of IndexedDB as crates/web/js asks for, over a backend that the application gives; loaded only then.
//
// All records are in memory and every transaction writes through. Transactions run one after another. It imports nothing but
// types, as on_demand.ts does and for the same reason.

import type { Durability, PersistenceBackend, PersistentRecords, RecordChange, RecordList } from "./types.ts";

type Key = number | string;
type Range = { readonly lower: Key; readonly upper: Key };
/** What can be asked of a store. */
interface Requests {
  get(key: Key): Request<unknown>;
  getAll(range?: Range): Request<unknown[]>;
  getAllKeys(range?: Range): Request<Key[]>;
  put(value: unknown, key: Key): Request<Key>;
  add(value: unknown): Request<Key>;
  delete(target: Key | Range): Request<void>;
}

interface Request<T> {
  result: T | undefined;
  onsuccess: (() => void) | null;
}

/** One name of a backend, from the moment somebody wants it. */
interface Place {
  /** Resolves when it is closed; `undefined` before. */
  closed: Promise<void> | undefined;
  /** Why a commit failed. */
  failure: unknown;
}

/** Who has what of each backend. */
const places: WeakMap<PersistenceBackend, Map<string, Place>> = new WeakMap();

/**
 * Opens what a backend keeps under a name. `mayMake` is false for the engine that had it open before.
 * @throws Error when another engine of this process has it open, or it takes longer than `limitMs`; and what the backend throws.
 */
export async function openDatabase(
  backend: PersistenceBackend,
  name: string,
  mayMake: boolean,
  limitMs: number,
): Promise<RecordDatabase> {
  const names = places.get(backend) ?? new Map<string, Place>();
  places.set(backend, names);
  const former = names.get(name);
  // It was open, and a commit failed or hangs: a backend is not opened again in the hope that it forgets.
  if (!mayMake) throw former?.failure ?? new Error("the backend does not answer");
  if (former !== undefined && former.closed === undefined)
    throw new Error("another engine of this process has it open");
  const place: Place = { closed: undefined, failure: undefined };
  names.set(name, place);
  try {
    return await inTime(read(backend, name, place, former?.closed), limitMs);
  } catch (thrown) {
    names.delete(name);
    throw thrown;
  }
}

async function read(
  backend: PersistenceBackend,
  name: string,
  place: Place,
  before: Promise<void> | undefined,
): Promise<RecordDatabase> {
  await before;
  const records = await backend.open(name);
  try {
    return new RecordDatabase(place, records, await records.read());
  } catch (thrown) {
    await records.close();
    throw thrown;
  }
}

function inTime(opening: Promise<RecordDatabase>, limitMs: number): Promise<RecordDatabase> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Error(`opening took longer than ${limitMs / 1000} s`));
      opening.then((unused) => unused.close()).catch(() => {});
    }, limitMs);
    opening.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** Stands where an `IDBDatabase` stands. */
export class RecordDatabase {
  onversionchange: unknown = null;
  readonly #place: Place;
  readonly #records: PersistentRecords;
  readonly #stores: Map<string, RecordStore> = new Map();
  #turn: Promise<void> = Promise.resolve();

  constructor(place: Place, records: PersistentRecords, found: RecordList) {
    this.#place = place;
    this.#records = records;
    for (const [name, value] of found) {
      const [version, store = "", key = ""] = name.split("/");
      if (version !== VERSION)
        throw Object.assign(new Error(`the record ${name} is unknown`), { name: "VersionError" });
      this.store(store).load(key, value);
    }
  }

  /** The store of this name. */
  store(name: string): RecordStore {
    const store = this.#stores.get(name) ?? new RecordStore(name);
    this.#stores.set(name, store);
    return store;
  }

  transaction(
    _stores: unknown,
    _mode: unknown,
    { durability }: { readonly durability: Durability },
  ): RecordTransaction {
    const transaction = new RecordTransaction(this);
    const commit = async (changes: readonly RecordChange[]): Promise<void> => {
      try {
        await this.#records.commit(changes, durability);
      } catch (thrown) {
        this.#place.failure = thrown;
        throw thrown;
      }
    };
    this.#turn = this.#turn.then(() => transaction.run(commit));
    return transaction;
  }

  close(): void {
    // What it says at the end nobody hears: everything that was promised is on disk.
    this.#place.closed ??= this.#turn.then(() => this.#records.close()).catch(() => {});
  }
}

/** The first part of every record's name: another one was written by another version. */
const VERSION = "1";

/** The records of one store. */
class RecordStore {
  readonly #name: string;
  readonly #values: Map<Key, unknown> = new Map();
  /** The keys in order, once somebody asked for them: a queue is read a few records at a time. */
  #sorted: Key[] | undefined;
  #nextKey = 1;

  constructor(name: string) {
    this.#name = name;
  }

  /** Takes a record as the backend has it. */
  load(key: string, value: Uint8Array): void {
    if (this.#name !== "cursors") this.set(Number(key), value);
    else this.set(key, key === BYTES ? value : JSON.parse(new TextDecoder().decode(value)));
  }

  /** The record as the backend gets it. */
  change(key: Key): RecordChange {
    const value = this.#values.get(key);
    const bytes =
      value === undefined || value instanceof Uint8Array
        ? value
        : new TextEncoder().encode(JSON.stringify(value));
    return [`${VERSION}/${this.#name}/${key}`, bytes ?? null];
  }

  get(key: Key): unknown {
    return this.#values.get(key);
  }

  /** Puts a value, or removes it. */
  set(key: Key, value: unknown): void {
    this.#sort(key, value !== undefined);
    if (value === undefined) this.#values.delete(key);
    else this.#values.set(key, value);
    if (typeof key === "number") this.#nextKey = Math.max(this.#nextKey, key + 1);
  }

  /** A key above all that were ever used. */
  nextKey(): number {
    return this.#nextKey;
  }

  /** In order. */
  keys(range?: Range): Key[] {
    this.#sorted ??= [...this.#values.keys()].sort((a, b) => Number(a) - Number(b));
    if (range === undefined) return [...this.#sorted];
    return this.#sorted.slice(
      countOf(this.#sorted, (key) => key < range.lower),
      countOf(this.#sorted, (key) => key <= range.upper),
    );
  }

  /** Puts a key in its place among the others, or takes it out. */
  #sort(key: Key, isThere: boolean): void {
    if (this.#sorted === undefined || this.#values.has(key) === isThere) return;
    const place = countOf(this.#sorted, (other) => other < key);
    if (isThere) this.#sorted.splice(place, 0, key);
    else this.#sorted.splice(place, 1);
  }
}

/** How many of the sorted keys come before the first that is not counted. */
function countOf(keys: readonly Key[], isCounted: (key: Key) => boolean): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const key = keys[middle];
    if (key !== undefined && isCounted(key)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The only value of `cursors` that is bytes; the others are a number and a text. */
const BYTES = "replica";

/** Stands where an `IDBTransaction` stands. */
class RecordTransaction {
  oncomplete: (() => void) | null = null;
  onabort: (() => void) | null = null;
  error: unknown = null;
  readonly #database: RecordDatabase;
  readonly #requests: (() => void)[] = [];
  readonly #undo: (() => void)[] = [];
  readonly #changed: Map<RecordStore, Set<Key>> = new Map();
  #state: "open" | "aborted" | "committing" = "open";

  constructor(database: RecordDatabase) {
    this.#database = database;
  }

  objectStore(name: string): Requests {
    const store = this.#database.store(name);
    const put = (key: Key, value: unknown): Key => {
      const former = store.get(key);
      this.#undo.push(() => store.set(key, former));
      this.#changed.set(store, (this.#changed.get(store) ?? new Set()).add(key));
      store.set(key, value);
      return key;
    };
    return {
      get: (key: Key) => this.#ask(() => store.get(key)),
      getAll: (range?: Range) => this.#ask(() => store.keys(range).map((key) => store.get(key))),
      getAllKeys: (range?: Range) => this.#ask(() => store.keys(range)),
      put: (value: unknown, key: Key) => this.#ask(() => put(key, value)),
      add: (value: unknown) => this.#ask(() => put(store.nextKey(), value)),
      delete: (target: Key | Range) =>
        this.#ask(() => {
          const keys = typeof target === "object" ? store.keys(target) : [target];
          for (const key of keys) put(key, undefined);
        }),
    };
  }

  /** @throws Error when it is too late. */
  abort(): void {
    if (this.#state === "committing") throw new Error("it is being committed");
    this.#state = "aborted";
  }

  /** Carries out what was asked for, and what is asked for meanwhile, then commits all of it. */
  async run(commit: (changes: readonly RecordChange[]) => unknown): Promise<void> {
    for (let next = this.#requests.shift(); next && this.#state === "open"; next = this.#requests.shift())
      next();
    try {
      if (this.#state === "open") {
        this.#state = "committing";
        const changes = [...this.#changed].flatMap(([store, keys]) =>
          [...keys].map((key) => store.change(key)),
        );
        if (changes.length > 0) await commit(changes);
        return this.oncomplete?.();
      }
    } catch (thrown) {
      this.error = thrown instanceof Error ? thrown : new Error(String(thrown));
    }
    for (const undo of this.#undo.reverse()) undo();
    this.onabort?.();
  }

  #ask<T>(carryOut: () => T): Request<T> {
    const request: Request<T> = { result: undefined, onsuccess: null };
    this.#requests.push(() => {
      request.result = carryOut();
      request.onsuccess?.();
    });
    return request;
  }
}
