// What the core asks the database to do, and the transaction that each request is.

import { discard, enqueue, foldQueue, updateQueue } from "./queue_plans.js";
import {
  bytesOf,
  CONFLICT,
  checkFence,
  Failure,
  Found,
  isSame,
  REPLICA,
  range,
  transact,
} from "./transaction.js";

/** @typedef {import("./transaction.js").StoredRecord} StoredRecord */
/** @typedef {import("./transaction.js").StoreName} StoreName */
/** @typedef {import("./transaction.js").Tx} Tx */

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

  /** Whether it stores what nobody else has: rows can be fetched again. */
  get isOfQueue() {
    return PLANS[this.kind].stores[0] === "pendingMutations";
  }

  /**
   * What it did to the queue, if it gave these keys; `undefined` for one that has nothing to do with it.
   * @param {number[]} keys
   * @returns {QueueChanges | undefined}
   */
  queueChanges(keys) {
    const { kind, fence, records, removed, unqueued, formers } = this;
    /** @param {QueueChanges["put"]} put @param {number[]} gone */
    const changes = (put, gone) => ({ fence, put, removed: gone });
    if (kind === "enqueue") {
      /** @type {QueueChanges["put"]} */
      const put = records.map(([, bytes], number) => [keys[number] ?? 0, bytes]);
      return changes(
        put.filter(([key]) => key !== 0),
        formers.filter(([number]) => keys[number] !== 0).map(([, key]) => key),
      );
    }
    if (kind === "discard") return changes([], keys);
    if (kind === "commit")
      return changes(
        [],
        unqueued.map(([key]) => key),
      );
    if (kind !== "updateQueue" && kind !== "foldQueue") return undefined;
    const there = new Set(keys);
    return changes(
      records.filter(([key]) => there.has(key)),
      removed.filter((key) => there.has(key)),
    );
  }

  /**
   * Carries the request out.
   * @param {IDBDatabase} database
   * @param {number} limitMs
   * @param {(keys: number[]) => void} [onKeys] Hears the keys of new records before the browser has committed them.
   */
  run(database, limitMs, onKeys) {
    const { durability, stores, issue } = PLANS[this.kind];
    // A transaction over the queue would make strict writes wait behind a large one, so the queue is left out when
    // nothing in it changes: pages of a snapshot never touch it.
    /** @type {StoreName[]} */
    const names = this.unqueued.length > 0 ? [...stores, "pendingMutations"] : stores;
    return transact(database, names, durability, limitMs, (tx, found) => issue(tx, this, found, onKeys));
  }
}

/**
 * What a transaction did to the queue.
 * @typedef {object} QueueChanges
 * @property {number} fence Of the leader that rewrote records; 0 for new ones.
 * @property {[key: number, bytes: Uint8Array][]} put
 * @property {number[]} removed
 */

/**
 * What another tab did, as WebAssembly reads it. A structured clone has the members of the request and none of its methods.
 * @param {StoreRequest} request
 * @param {number[]} keys Those that it gave.
 */
export function heard(request, keys) {
  const { records, removed, unqueued, formers, expected, replica, fence, first } = request;
  const found = new Found();
  found.replica = replica;
  /** @param {number[]} numbers @returns {StoredRecord[]} */
  const list = (numbers) => numbers.map((number) => [number, undefined]);
  found.lists = [
    records,
    list(keys),
    list(removed),
    list(unqueued.map(([key]) => key)),
    list(unqueued.map(([, seq]) => seq)),
    expected === undefined ? [] : [[0, expected]],
    list([fence, first]),
    list(formers.map(([, key]) => key)),
    list(formers.map(([number]) => number)),
  ];
  return found;
}

/**
 * How a request is carried out.
 * @typedef {object} Plan
 * @property {"strict" | "relaxed"} durability
 * @property {StoreName[]} stores
 * @property {(tx: Tx, request: StoreRequest, found: Found, onKeys?: (keys: number[]) => void) => void} issue
 *   Makes the requests of its transaction.
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
 * Makes room: rows can be fetched again, what is unsent cannot. From then on the replica record says that everything is to be
 * fetched anew.
 * @param {IDBDatabase} database
 * @param {number} fence
 * @param {number} limitMs
 */
export function evictRows(database, fence, limitMs) {
  return transact(database, ["entities", "cursors"], "relaxed", limitMs, (tx) => {
    checkFence(tx, fence);
    tx.store("entities").clear();
    const cursors = tx.store("cursors");
    tx.read(cursors.get(REPLICA), (found) => {
      const bytes = bytesOf(found);
      if (bytes === undefined) return;
      const replica = { ...JSON.parse(new TextDecoder().decode(bytes)), token: null, staging: null };
      cursors.put(new TextEncoder().encode(JSON.stringify(replica)), REPLICA);
    });
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
