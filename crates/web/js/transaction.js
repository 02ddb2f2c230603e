// IndexedDB transactions: the table of docs/storage.md as code. Each is carried out as a whole, or not at all.
//
// All requests are issued at once, and nothing but its own requests is awaited while a transaction is open: anything
// else lets it commit by itself.

// How the core tells failures apart. `event.rs` reads these numbers.
const CONFLICT = 1;
export const FULL = 2;
export const UNAVAILABLE = 3;
const TOO_NEW = 4;
export const CLEARED = 5;
export const OUTDATED = 6;

/** Why storage could not do something. */
export class Failure extends Error {
  /** @param {number} kind @param {string} [message] */
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

/**
 * Says what a thrown value means for storage.
 * @param {unknown} thrown
 */
export function failureOf(thrown) {
  if (thrown instanceof Failure) return thrown;
  const { name, message } = /** @type {Error} */ (thrown);
  const kind = name === "QuotaExceededError" ? FULL : name === "VersionError" ? TOO_NEW : UNAVAILABLE;
  return new Failure(kind, `${name}: ${message}`);
}

/** Parts that a limit is counted in. */
const PARTS = 5;

/**
 * Calls `giveUp` after a time without progress, and again after as long if it says that it cannot know the outcome yet.
 *
 * The time is counted in parts, each of which counts once however long it was: after a sleep, a freeze or a long task of
 * the page, the answers that came meanwhile are handed over before the time is up.
 * @param {number} ms
 * @param {(isLast: boolean) => boolean} giveUp
 */
export function limit(ms, giveUp) {
  let partsLeft = PARTS;
  let isLast = false;
  const timer = setInterval(() => {
    partsLeft -= 1;
    if (partsLeft > 0) return;
    if (giveUp(isLast)) clearInterval(timer);
    isLast = true;
    partsLeft = PARTS;
  }, ms / PARTS);
  return {
    progress() {
      partsLeft = PARTS;
    },
    end() {
      clearInterval(timer);
    },
  };
}

/**
 * What the requests of a transaction are made with.
 * @typedef {object} Tx
 * @property {(name: StoreName) => IDBObjectStore} store
 * @property {<T>(request: IDBRequest<T>, then: (result: T) => void) => void} read
 *   Runs `then` while the transaction is still open. What it throws aborts the transaction.
 */

/** @typedef {"entities" | "cursors" | "pendingMutations" | "journal"} StoreName */
/** @typedef {[key: number, bytes: Uint8Array | undefined]} StoredRecord */

/** What a transaction found. The bytes are handed over to WebAssembly one by one, so that few are held twice. */
export class Found {
  /** The fence that is stored. */
  fence = 0;
  /** @type {Uint8Array | undefined} */
  replica;
  /** @type {StoredRecord[]} */
  records = [];
  /** @type {StoredRecord[]} */
  queue = [];
  /** Whether the keys of `queue` answer the request. */
  hasKeys = false;
  /** Whether the replica record is the one that was named, and the rows were left out. */
  isKnown = false;
  /** @type {StoredRecord[][]} The lists as WebAssembly numbers them; those of a request that another tab made come after. */
  lists = [this.records, this.queue];

  replicaRecord() {
    return this.replica;
  }

  /** @param {number} list */
  count(list) {
    return this.lists[list]?.length ?? 0;
  }

  /** @param {number} list @param {number} index */
  key(list, index) {
    return this.lists[list]?.[index]?.[0] ?? 0;
  }

  /** @param {number} list @param {number} index */
  takeBytes(list, index) {
    const record = this.lists[list]?.[index];
    const bytes = record?.[1];
    if (record !== undefined) record[1] = undefined;
    // A value that is not bytes was not written by us. As an empty record it fails its own check and is set aside.
    return bytes ?? new Uint8Array();
  }
}

/**
 * What another tab did, as WebAssembly reads it. A structured clone has the members of the request and none of its methods.
 * @param {StoreRequest} request
 * @param {number[]} keys Those that it gave.
 */
export function heard(request, keys) {
  const { kind, unqueued, expected, replica, fence, first } = request;
  // What was not added has no key, and what it was to take the place of stays.
  const wasAdded = (/** @type {unknown} */ _, /** @type {number} */ number) => kind !== "enqueue" || keys[number] !== 0;
  const records = request.records.filter(wasAdded);
  const removed = kind === "enqueue" ? goneFormers(request, keys) : request.removed;
  const found = new Found();
  found.replica = replica;
  /** @param {number[]} numbers @returns {StoredRecord[]} */
  const list = (numbers) => numbers.map((number) => [number, undefined]);
  found.lists = [
    records,
    list(keys.filter(wasAdded)),
    list(removed),
    list(unqueued.map(([key]) => key)),
    list(unqueued.map(([, seq]) => seq)),
    expected === undefined ? [] : [[0, expected]],
    list([fence, first]),
  ];
  return found;
}

/**
 * @param {StoreRequest} request
 * @param {number[]} keys
 */
function goneFormers({ formers }, keys) {
  return formers.filter(([number]) => keys[number] !== 0).map(([, key]) => key);
}

/**
 * Runs one transaction; without a durability one that only reads. `issue` makes its requests; what was found is complete when the browser has committed.
 * @param {IDBDatabase} database
 * @param {StoreName[]} stores
 * @param {"strict" | "relaxed" | undefined} durability
 * @param {number} limitMs
 * @param {(tx: Tx, found: Found) => void} issue
 * @returns {Promise<Found>}
 */
function transact(database, stores, durability, limitMs, issue) {
  return new Promise((resolve, reject) => {
    const raw =
      durability === undefined
        ? database.transaction(stores, "readonly")
        : database.transaction(stores, "readwrite", { durability });
    const found = new Found();
    /** @type {unknown} */
    let failure;
    /** @param {unknown} thrown */
    const fail = (thrown) => {
      failure ??= thrown;
      try {
        raw.abort();
      } catch {
        // It is over already, and its end says how.
      }
    };
    const waiting = limit(limitMs, (isLast) => {
      try {
        raw.abort();
      } catch {
        // It is being committed, or aborted: what is written only its end can say.
        if (!isLast) return false;
      }
      reject(new Failure(UNAVAILABLE, `a transaction took longer than ${limitMs / 1000} s`));
      return true;
    });
    raw.oncomplete = () => {
      waiting.end();
      resolve(found);
    };
    raw.onabort = () => {
      waiting.end();
      // The quota shows here and not at the request: the bytes are counted when the transaction commits.
      reject(failure ?? raw.error ?? new Failure(UNAVAILABLE, "aborted by the browser"));
    };
    /** @type {Tx["read"]} */
    const read = (request, then) => {
      request.onsuccess = () => {
        waiting.progress();
        try {
          then(request.result);
        } catch (thrown) {
          fail(thrown);
        }
      };
    };
    try {
      issue({ store: (name) => raw.objectStore(name), read }, found);
    } catch (thrown) {
      fail(thrown);
    }
  });
}

/**
 * Reads everything and takes the lead: writes a fence one higher than the one found, in the same transaction, so that no
 * commit of a former leader can fall between. Without an identity it only reads.
 * @param {IDBDatabase} database
 * @param {string | undefined} identity
 * @param {number} limitMs
 * @param {Uint8Array} [known] A replica record whose rows need not be read.
 */
export function load(database, identity, limitMs, known) {
  const durability = identity === undefined ? undefined : "relaxed";
  return transact(database, ["cursors", "entities", "pendingMutations"], durability, limitMs, (tx, found) => {
    const cursors = tx.store("cursors");
    if (identity !== undefined) cursors.put(identity, "identity");
    tx.read(cursors.get(FENCE), (fence) => {
      found.fence = Number(fence) || 0;
      if (identity === undefined) return;
      found.fence += 1;
      cursors.put(found.fence, FENCE);
    });
    tx.read(cursors.get(REPLICA), (replica) => {
      found.isKnown = known !== undefined && isSame(replica, known);
      if (found.isKnown) return;
      found.replica = bytesOf(replica);
      readAll(tx, tx.store("entities"), found.records);
    });
    readAll(tx, tx.store("pendingMutations"), found.queue);
  });
}

/**
 * Keys first, then values in batches, which measures several times faster than a cursor. Each batch that arrives shows
 * that a slow device is at work and does not hang.
 * @param {Tx} tx
 * @param {IDBObjectStore} store
 * @param {StoredRecord[]} into
 */
function readAll(tx, store, into) {
  tx.read(store.getAllKeys(), (keys) => {
    for (let first = 0; first < keys.length; first += BATCH_RECORDS) {
      const batch = keys.slice(first, first + BATCH_RECORDS);
      tx.read(store.getAll(range(batch[0], batch.at(-1))), (values) => {
        batch.forEach((key, index) => {
          into.push([Number(key), bytesOf(values[index])]);
        });
      });
    }
  });
}

/**
 * The keys from one to another.
 * @param {any} lower
 * @param {any} upper
 * @returns {IDBKeyRange}
 */
function range(lower, upper) {
  // An application's own database reads the two members, and may be where there is no IndexedDB.
  return globalThis.IDBKeyRange?.bound(lower, upper) ?? { lower, upper };
}

/** Records read by one request: with the largest records that is 16 MiB. */
const BATCH_RECORDS = 16;

/**
 * A record of the queue whose place one of the request takes: its number there, the key, and what it must be; undefined stands
 * for anything but the mark of a discarded write.
 * @typedef {[number: number, key: number, expected: Uint8Array | undefined]} Former
 */

/** A request of the core, filled by WebAssembly and kept until it is carried out: it may have to be repeated. */
export class StoreRequest {
  /** @type {[key: number, bytes: Uint8Array][]} */
  records = [];
  /** @type {number[]} */
  removed = [];
  /** @type {[key: number, seq: number][]} */
  unqueued = [];
  /** @type {Former[]} */
  formers = [];
  /** @type {Uint8Array | undefined} */
  expected;
  /** @type {Uint8Array | undefined} */
  replica;
  /** Whether it was given to a connection that was lost: it may be carried out already. */
  isRepeated = false;

  /**
   * @param {keyof typeof PLANS} kind
   * @param {number} fence What the stored fence must be, where it is checked.
   * @param {number} first The generation of `compact`, the first key of `deleteGeneration`, the key of `quarantine`.
   * @param {number} last The last key of `deleteGeneration`.
   */
  constructor(kind, fence, first, last) {
    this.kind = kind;
    this.fence = fence;
    this.first = first;
    this.last = last;
  }

  /**
   * Bytes are copied: what WebAssembly hands over is a view of its memory.
   * @param {number} key
   * @param {Uint8Array} bytes
   */
  put(key, bytes) {
    this.records.push([key, bytes.slice()]);
  }

  /** @param {number} key */
  remove(key) {
    this.removed.push(key);
  }

  /** @param {number} number @param {number} key @param {Uint8Array} [expected] */
  replace(number, key, expected) {
    this.formers.push([number, key, expected?.slice()]);
  }

  /** @param {number} key @param {number} seq Where its write was applied. */
  unqueue(key, seq) {
    this.unqueued.push([key, seq]);
  }

  /** @param {Uint8Array} bytes */
  expectReplica(bytes) {
    this.expected = bytes.slice();
  }

  /** @param {Uint8Array} bytes */
  putReplica(bytes) {
    this.replica = bytes.slice();
  }

  /**
   * Carries the request out.
   * @param {IDBDatabase} database
   * @param {number} limitMs
   */
  run(database, limitMs) {
    const { durability, stores, issue } = PLANS[this.kind];
    // A transaction over the queue would make strict writes wait behind a large one, so the queue is left out when
    // nothing in it changes: pages of a snapshot never touch it.
    /** @type {StoreName[]} */
    const names = this.unqueued.length > 0 ? [...stores, "pendingMutations"] : stores;
    return transact(database, names, durability, limitMs, (tx, found) => issue(tx, this, found));
  }
}

const FENCE = "fence";
const REPLICA = "replica";

/**
 * How a request is carried out.
 * @typedef {object} Plan
 * @property {"strict" | "relaxed"} durability
 * @property {StoreName[]} stores
 * @property {(tx: Tx, request: StoreRequest, found: Found) => void} issue Makes the requests of its transaction.
 */

/** @satisfies {Record<string, Plan>} */
const PLANS = {
  enqueue: { durability: "strict", stores: ["pendingMutations"], issue: enqueue },
  updateQueue: { durability: "strict", stores: ["pendingMutations", "cursors"], issue: updateQueue },
  foldQueue: { durability: "strict", stores: ["pendingMutations", "cursors"], issue: foldQueue },
  discard: { durability: "strict", stores: ["pendingMutations"], issue: discard },
  commit: { durability: "relaxed", stores: ["entities", "cursors"], issue: commit },
  compact: { durability: "relaxed", stores: ["entities", "cursors"], issue: compact },
  deleteGeneration: { durability: "relaxed", stores: ["entities", "cursors"], issue: deleteGeneration },
  quarantine: { durability: "relaxed", stores: ["entities", "cursors", "journal"], issue: quarantine },
};

/**
 * Nothing takes the place of what another tab sent, discarded or exchanged meanwhile. A repeated request adds only what is not
 * there: a second copy of a write would outlive its end, and come back as a new one.
 * @type {Plan["issue"]}
 */
function enqueue(tx, { records, formers, isRepeated }, found) {
  found.hasKeys = true;
  const queue = tx.store("pendingMutations");
  for (const _ of records) found.queue.push([0, undefined]);
  /** @param {number} number @param {IDBValidKey} key */
  const note = (number, key) => {
    found.queue[number] = [Number(key), undefined];
  };
  /** @param {Map<IDBValidKey, unknown>} there */
  const add = (there) => {
    records.forEach(([, bytes], number) => {
      const known = isRepeated && [...there].find(([, value]) => isSame(value, bytes));
      if (known) return note(number, known[0]);
      const replaced = formers.filter(([other]) => other === number);
      if (!replaced.every(([, key, expected]) => stands(there.get(key), expected))) return;
      for (const [, key] of replaced) queue.delete(key);
      tx.read(queue.add(bytes), (key) => note(number, key));
    });
  };
  const keys = formers.map(([, key]) => key);
  if (isRepeated) readRange(tx, queue, undefined, add);
  else if (keys.length > 0) readRange(tx, queue, range(Math.min(...keys), Math.max(...keys)), add);
  else add(new Map());
}

/**
 * Whether a record is what another one may take the place of.
 * @param {unknown} stored
 * @param {Uint8Array | undefined} expected
 */
function stands(stored, expected) {
  return expected === undefined ? stored !== undefined && !isMark(stored) : isSame(stored, expected);
}

/**
 * @param {Tx} tx
 * @param {IDBObjectStore} store
 * @param {IDBKeyRange | undefined} keys
 * @param {(there: Map<IDBValidKey, unknown>) => void} then
 */
function readRange(tx, store, keys, then) {
  tx.read(store.getAllKeys(keys), (found) =>
    tx.read(store.getAll(keys), (values) => then(new Map(found.map((key, index) => [key, values[index]])))),
  );
}

/**
 * Another tab, or the user, may have removed a record meanwhile; it must not come back, so only what is found is written.
 * @type {Plan["issue"]}
 */
function updateQueue(tx, { fence, records, removed }, found) {
  found.hasKeys = true;
  checkFence(tx, fence);
  const named = [...records.map(([key]) => key), ...removed];
  if (named.length === 0) return;
  const queue = tx.store("pendingMutations");
  tx.read(queue.getAllKeys(range(Math.min(...named), Math.max(...named))), (keys) => {
    const there = new Set(keys);
    for (const key of removed) if (there.has(key)) queue.delete(key);
    for (const key of removed) if (there.has(key)) found.queue.push([key, undefined]);
    for (const [key, bytes] of records) {
      if (!there.has(key)) continue;
      tx.read(queue.get(key), (value) => {
        // A write that another tab discarded meanwhile must not be sent.
        if (isMark(value)) return;
        queue.put(bytes, key);
        found.queue.push([key, undefined]);
      });
    }
  });
}

/**
 * All of it or nothing: were one of the records gone, what was folded into it would go with it. A repeated request finds what
 * it put and nothing of what it removed.
 * @type {Plan["issue"]}
 */
function foldQueue(tx, { fence, records, removed, isRepeated }, found) {
  found.hasKeys = true;
  checkFence(tx, fence);
  const queue = tx.store("pendingMutations");
  const named = [...records.map(([key]) => key), ...removed];
  readRange(tx, queue, range(Math.min(...named), Math.max(...named)), (there) => {
    // What another tab discarded meanwhile is not there.
    for (const [key, value] of there) if (isMark(value)) there.delete(key);
    const isDone =
      isRepeated &&
      records.every(([key, bytes]) => isSame(there.get(key), bytes)) &&
      !removed.some((key) => there.has(key));
    if (!isDone) {
      if (!named.every((key) => there.has(key))) return;
      for (const [key, bytes] of records) queue.put(bytes, key);
      for (const key of removed) queue.delete(key);
    }
    for (const key of named) found.queue.push([key, undefined]);
  });
}

/**
 * For a tab that does not lead: what the leader is sending at this moment has another record by now, and stays.
 * @type {Plan["issue"]}
 */
function discard(tx, { records, formers }, found) {
  found.hasKeys = true;
  const queue = tx.store("pendingMutations");
  for (const [number, key, expected] of formers) {
    const mark = records[number]?.[1];
    tx.read(queue.get(key), (value) => {
      // A repeated request finds the mark that it put.
      if (!isSame(value, mark) && !isSame(value, expected)) return;
      queue.put(mark, key);
      found.queue.push([key, undefined]);
    });
  }
}

/** How the mark begins that stands in the place of the record of a discarded write. The core knows it too. */
const MARK = new TextEncoder().encode('{"format":1,"state":"discarded"');

/** @param {unknown} value */
function isMark(value) {
  return isSame(bytesOf(value)?.subarray(0, MARK.length), MARK);
}

/** @type {Plan["issue"]} */
function commit(tx, request) {
  const { expected, replica, unqueued } = request;
  checkFence(tx, request.fence);
  const cursors = tx.store("cursors");
  tx.read(cursors.get(REPLICA), (found) => {
    // The new record itself is accepted too: then this very commit was carried out before its connection was lost.
    if (!isSame(found, expected) && !isSame(found, replica)) throw new Failure(CONFLICT);
  });
  exchange(tx, request);
  cursors.put(replica, REPLICA);
  for (const [key] of unqueued) tx.store("pendingMutations").delete(key);
}

/** @type {Plan["issue"]} */
function compact(tx, request) {
  checkFence(tx, request.fence);
  tx.read(tx.store("cursors").get(REPLICA), (found) => {
    if (shownGeneration(found) !== request.first) throw new Failure(CONFLICT);
  });
  exchange(tx, request);
}

/** @type {Plan["issue"]} */
function deleteGeneration(tx, { fence, first, last }) {
  checkFence(tx, fence);
  tx.store("entities").delete(range(first, last));
}

/** @type {Plan["issue"]} */
function quarantine(tx, { fence, first }) {
  checkFence(tx, fence);
  const entities = tx.store("entities");
  tx.read(entities.get(first), (found) => {
    if (found !== undefined) tx.store("journal").add(found);
    entities.delete(first);
  });
}

/**
 * @param {Tx} tx
 * @param {StoreRequest} request
 */
function exchange(tx, { records, removed }) {
  const entities = tx.store("entities");
  for (const [key, bytes] of records) entities.put(bytes, key);
  for (const key of removed) entities.delete(key);
}

/**
 * @param {Tx} tx
 * @param {number} fence
 */
function checkFence(tx, fence) {
  tx.read(tx.store("cursors").get(FENCE), (found) => {
    // Every leader writes one, so it is missing only when the stores were emptied under us.
    if (found === undefined) throw new Failure(CLEARED, "site data was cleared");
    if (found !== fence) throw new Failure(CONFLICT);
  });
}

/**
 * The generation a replica record shows.
 * @param {unknown} replica
 */
function shownGeneration(replica) {
  try {
    return JSON.parse(new TextDecoder().decode(bytesOf(replica))).generation;
  } catch {
    return undefined;
  }
}

/**
 * @param {unknown} value
 * @returns {Uint8Array | undefined}
 */
function bytesOf(value) {
  return value instanceof Uint8Array ? value : undefined;
}

/**
 * @param {unknown} stored
 * @param {Uint8Array | undefined} bytes
 */
function isSame(stored, bytes) {
  const found = bytesOf(stored);
  if (found === undefined || bytes === undefined) return found === bytes;
  return found.length === bytes.length && found.every((byte, index) => byte === bytes[index]);
}
