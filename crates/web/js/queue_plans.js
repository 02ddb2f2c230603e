// Transactions over the queue of unsent writes, which several tabs change: each takes only what is still as it was known.

import { bytesOf, checkFence, isSame, range } from "./transaction.js";

/** @typedef {import("./store_request.js").Plan} Plan */
/** @typedef {import("./transaction.js").Tx} Tx */

/**
 * Nothing takes the place of what another tab sent, discarded or exchanged meanwhile. A repeated request adds only what is not
 * there: a second copy of a write would outlive its end, and come back as a new one.
 * @type {Plan["issue"]}
 */
export function enqueue(tx, { records, formers, isRepeated }, found, onKeys) {
  found.hasKeys = true;
  const queue = tx.store("pendingMutations");
  for (const _ of records) found.queue.push([0, undefined]);
  /** @param {number} number @param {IDBValidKey} key */
  const note = (number, key) => {
    found.queue[number] = [Number(key), undefined];
    const keys = found.queue.map(([given]) => given);
    if (!keys.includes(0)) onKeys?.(keys);
  };
  /** @param {Map<IDBValidKey, unknown>} there */
  const add = (there) => {
    records.forEach(([, bytes], number) => {
      const known = isRepeated && [...there].find(([, value]) => isSame(value, bytes));
      if (known) {
        note(number, known[0]);
        return;
      }
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
export function updateQueue(tx, { fence, records, removed }, found) {
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
export function foldQueue(tx, { fence, records, removed, isRepeated }, found) {
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
export function discard(tx, { records, formers }, found) {
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
