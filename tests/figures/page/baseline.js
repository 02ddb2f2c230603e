// The floor of the platform, measured in the same run: a plain Map with one subscriber, and IndexedDB written by hand.

import { newRow } from "./new_row.js";

const ROWS_PER_RECORD = 1000;

/** The same rows as text over HTTP into a Map, and out of it as an array. */
export async function mapLoad({ url, rows }) {
  const start = performance.now();
  const text = await (await fetch(url, { cache: "no-store" })).text();
  const fetched = performance.now();
  const map = new Map();
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const row = Object.freeze(JSON.parse(line));
    map.set(row.id, row);
  }
  const loaded = performance.now();
  const list = Object.freeze([...map.values()]);
  const listed = performance.now();
  if (list.length !== rows) throw new Error(`${list.length} rows instead of ${rows}`);
  window.floor = { map, text };
  return { fetch_ms: fetched - start, parse_ms: loaded - fetched, list_ms: listed - loaded };
}

/** Inserts into the Map with a notification each, in batches; the mean of one for each batch, in milliseconds. */
export function mapInsert({ batches, size }) {
  const { map } = window.floor;
  const means = [];
  let notified = 0;
  const subscriber = () => {
    notified += 1;
  };
  for (let batch = 0; batch < batches; batch += 1) {
    const rows = Array.from({ length: size }, (_, index) => newRow(batch * size + index));
    const start = performance.now();
    for (const row of rows) {
      const id = crypto.randomUUID();
      map.set(id, Object.freeze({ id, ...row }));
      subscriber();
    }
    means.push((performance.now() - start) / size);
  }
  if (notified !== batches * size) throw new Error("the subscriber was not called");
  return means;
}

/** The rows of `mapLoad` into a database of their own, a thousand to a record, and out of it again. */
export async function databaseLoad() {
  const lines = window.floor.text.trimEnd().split("\n");
  const database = await openFloor("floor-load");
  const start = performance.now();
  const writing = database.transaction("rows", "readwrite", { durability: "relaxed" });
  for (let at = 0; at < lines.length; at += ROWS_PER_RECORD) {
    writing
      .objectStore("rows")
      .put(new TextEncoder().encode(`[${lines.slice(at, at + ROWS_PER_RECORD).join(",")}]`), at);
  }
  await completed(writing);
  const written = performance.now();
  const records = await done(database.transaction("rows").objectStore("rows").getAll());
  const rows = records.flatMap((bytes) => JSON.parse(new TextDecoder().decode(bytes)));
  const read = performance.now();
  if (rows.length !== lines.length) throw new Error(`${rows.length} rows came back`);
  database.close();
  return { write_ms: written - start, read_ms: read - written };
}

/** One small record in a strict transaction, again and again: what a durable write costs at least. */
export async function databaseInsert({ count }) {
  const database = await openFloor("floor-insert");
  const times = [];
  for (let index = 0; index < count; index += 1) {
    const start = performance.now();
    const writing = database.transaction("rows", "readwrite", { durability: "strict" });
    writing.objectStore("rows").put(new Uint8Array(400), index);
    await completed(writing);
    times.push(performance.now() - start);
  }
  database.close();
  return times;
}

async function openFloor(name) {
  await done(indexedDB.deleteDatabase(name));
  const request = indexedDB.open(name, 1);
  request.onupgradeneeded = () => request.result.createObjectStore("rows");
  return done(request);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function completed(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });
}
