// IndexedDB transactions: the table of docs/storage.md as code. Each is carried out as a whole, or not at all.
//
// All requests are issued at once, and nothing but its own requests is awaited while a transaction is open: anything
// else lets it commit by itself.

// How the core tells failures apart. `event.rs` reads these numbers.
export const CONFLICT = 1;
export const FULL = 2;
export const UNAVAILABLE = 3;
const TOO_NEW = 4;
export const CLEARED = 5;
export const OUTDATED = 6;

// Keys of `cursors`.
export const FENCE = "fence";
export const REPLICA = "replica";

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
  /** Whether nobody ever led here, so that nothing was changed: who comes first asks for what another store may have lost. */
  isNew = false;
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
 * Runs one transaction; without a durability one that only reads. `issue` makes its requests; what was found is complete when the browser has committed.
 * @param {IDBDatabase} database
 * @param {StoreName[]} stores
 * @param {"strict" | "relaxed" | undefined} durability
 * @param {number} limitMs
 * @param {(tx: Tx, found: Found) => void} issue
 * @returns {Promise<Found>}
 */
export function transact(database, stores, durability, limitMs, issue) {
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
    try {
      issue(txOf(raw, waiting, fail), found);
    } catch (thrown) {
      fail(thrown);
    }
  });
}

/**
 * @param {IDBTransaction} raw
 * @param {{ progress(): void }} waiting Hears of every answer.
 * @param {(thrown: unknown) => void} fail Aborts the transaction.
 * @returns {Tx}
 */
export function txOf(raw, waiting, fail) {
  return {
    store: (name) => raw.objectStore(name),
    read(request, then) {
      request.onsuccess = () => {
        waiting.progress();
        try {
          then(request.result);
        } catch (thrown) {
          fail(thrown);
        }
      };
    },
  };
}

/**
 * What a database that is gone had in its queue.
 * @typedef {object} Lost
 * @property {boolean} isCopied Whether it had a copy, so that this is all of it.
 * @property {[key: number, bytes: Uint8Array][]} records
 * @property {number} last The highest key that was ever given out: none of them is given out again.
 * @property {number} fence The highest that is known.
 */

/**
 * Reads everything and takes the lead: writes a fence one higher than the one found, in the same transaction, so that no
 * commit of a former leader can fall between. Without an identity it only reads.
 * @param {IDBDatabase} database
 * @param {string | undefined} identity
 * @param {number} limitMs
 * @param {Uint8Array} [known] A replica record whose rows need not be read.
 * @param {Lost} [lost] What a new database begins with.
 */
export function load(database, identity, limitMs, known, lost) {
  const durability = identity === undefined ? undefined : lost?.records.length ? "strict" : "relaxed";
  return transact(database, ["cursors", "entities", "pendingMutations"], durability, limitMs, (tx, found) => {
    const cursors = tx.store("cursors");
    const queue = tx.store("pendingMutations");
    if (identity !== undefined) cursors.put(identity, "identity");
    tx.read(cursors.get(FENCE), (fence) => {
      found.fence = Number(fence) || 0;
      if (identity === undefined) return;
      found.isNew = fence === undefined && lost === undefined;
      if (found.isNew) return;
      if (lost !== undefined) {
        if (fence === undefined) found.fence = refill(queue, lost);
        readAll(tx, queue, found.queue);
      }
      found.fence += 1;
      cursors.put(found.fence, FENCE);
    });
    tx.read(cursors.get(REPLICA), (replica) => {
      found.isKnown = known !== undefined && isSame(replica, known);
      if (found.isKnown) return;
      found.replica = bytesOf(replica);
      readAll(tx, tx.store("entities"), found.records);
    });
    if (identity === undefined || lost === undefined) readAll(tx, queue, found.queue);
  });
}

/**
 * @param {IDBObjectStore} queue
 * @param {Lost} lost
 */
function refill(queue, { records, last, fence }) {
  // The highest key is used once, also if its record is gone: the numbers that the browser gives out go on behind it.
  if (last > 0) queue.put(0, last);
  if (last > 0) queue.delete(last);
  for (const [key, bytes] of records) queue.put(bytes, key);
  return fence;
}

/**
 * Reads the queue and the fence that stands at that moment.
 * @param {IDBDatabase} database
 * @param {number} limitMs
 */
export function readQueue(database, limitMs) {
  return transact(database, ["cursors", "pendingMutations"], undefined, limitMs, (tx, found) => {
    tx.read(tx.store("cursors").get(FENCE), (fence) => {
      found.fence = Number(fence) || 0;
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
export function range(lower, upper) {
  // An application's own database reads the two members, and may be where there is no IndexedDB.
  return globalThis.IDBKeyRange?.bound(lower, upper) ?? { lower, upper };
}

/** Records read by one request: with the largest records that is 16 MiB. */
const BATCH_RECORDS = 16;

/**
 * @param {Tx} tx
 * @param {number} fence
 */
export function checkFence(tx, fence) {
  tx.read(tx.store("cursors").get(FENCE), (found) => {
    // Every leader writes one, so it is missing only when the stores were emptied under us.
    if (found === undefined) throw new Failure(CLEARED, "site data was cleared");
    if (found !== fence) throw new Failure(CONFLICT);
  });
}

/**
 * @param {unknown} value
 * @returns {Uint8Array | undefined}
 */
export function bytesOf(value) {
  return value instanceof Uint8Array ? value : undefined;
}

/**
 * @param {unknown} stored
 * @param {Uint8Array | undefined} bytes
 */
export function isSame(stored, bytes) {
  const found = bytesOf(stored);
  if (found === undefined || bytes === undefined) return found === bytes;
  return found.length === bytes.length && found.every((byte, index) => byte === bytes[index]);
}
