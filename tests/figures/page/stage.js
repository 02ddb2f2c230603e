// What the tests call in the page: `window.stage.<name>(argument)`. Time is taken here, by performance.now, and nowhere else.

import * as baseline from "./baseline.js";
import { digest } from "./digest.js";
import { createSyncEngine, init } from "./dist/index.js";
import { newRow } from "./new_row.js";
import { countRows, openRaw, readQueue, readReplica } from "./raw_store.js";

/** The engine between `open` and `close`. */
let engine;

function makeEngine({ app, token }) {
  return createSyncEngine(location.origin, { appName: app, token });
}

/** From start() of an empty replica until every row is applied, and read back from IndexedDB by a second connection. */
async function pull({ app, token, entity, rows }) {
  const measured = makeEngine({ app, token });
  const start = performance.now();
  await measured.start();
  const started = performance.now();
  await measured.synced();
  const synced = performance.now();
  const raw = await openRaw(app);
  await durableAt(raw, rows);
  const durable = performance.now();
  const stored = await countRows(raw);
  expectEqual("rows on disk", stored.entities[entity], rows);
  expectEqual("rows in memory", measured.store.list(entity).length, rows);
  raw.close();
  await measured.stop();
  return { start_ms: started - start, synced_ms: synced - start, durable_ms: durable - start, stored };
}

/** Waits until the replica record on disk says that everything up to `seq` is in. */
async function durableAt(raw, seq) {
  for (;;) {
    const replica = await readReplica(raw);
    if (replica !== null && replica.staging === null && replica.seq >= seq) return;
  }
}

/** On a page that did nothing yet: from start() to all rows as JavaScript objects, the module's compilation included. */
async function coldStart({ app, token, entity, rows }) {
  const measured = makeEngine({ app, token });
  const start = performance.now();
  await measured.start();
  const started = performance.now();
  const list = measured.store.list(entity);
  const listed = performance.now();
  const again = measured.store.list(entity);
  const repeated = performance.now();
  expectEqual("rows", list.length, rows);
  expectEqual("the list when nothing changed", again === list, true);
  const walked = walk(list);
  const end = performance.now();
  await measured.stop();
  return {
    start_ms: started - start,
    first_list_ms: listed - started,
    total_ms: listed - start,
    second_list_ms: repeated - listed,
    walk_ms: end - repeated,
    walked,
  };
}

/** Touches every field once, so that rows made on demand are made. */
function walk(list) {
  let fields = 0;
  for (const row of list) for (const key in row) fields += row[key] === undefined ? 0 : 1;
  return fields;
}

/** On a page that did nothing yet: loading and compiling the module alone. */
async function moduleInit() {
  const start = performance.now();
  await init();
  return performance.now() - start;
}

/** Opens a replica for the calls below and waits until it is up to date. */
async function open({ app, token, entity, rows }) {
  engine = makeEngine({ app, token });
  await engine.start();
  await engine.synced();
  if (rows !== undefined) expectEqual("rows", engine.store.list(entity).length, rows);
}

async function close() {
  await engine.stop();
}

/** Inserts in batches; gives the mean time of one insert with its notification, in milliseconds, for each batch. */
async function insertBatches({ entity, batches, size, read }) {
  const means = [];
  let notified = 0;
  const unsubscribe = engine.store.subscribe(() => {
    notified += 1;
    if (read) engine.store.list(entity);
  });
  for (let batch = 0; batch < batches; batch += 1) {
    const rows = Array.from({ length: size }, (_, index) => newRow(batch * size + index));
    const writes = [];
    notified = 0;
    const start = performance.now();
    for (const row of rows) writes.push(engine.insert(entity, row));
    const end = performance.now();
    expectEqual("notifications of a batch", notified, size);
    means.push((end - start) / size);
    // The next batch meets a queue as short as this one did.
    await Promise.all(writes.map((write) => write.confirmed));
  }
  unsubscribe();
  return means;
}

/** Inserts one by one: call to notification, and call to the promise that says the row is on disk. */
async function insertSingles({ entity, count }) {
  const notify = [];
  const durable = [];
  let start = 0;
  let heard = 0;
  const unsubscribe = engine.store.subscribe(() => {
    if (heard === 0) heard = performance.now();
  });
  const confirmed = [];
  for (let index = 0; index < count; index += 1) {
    const row = newRow(index);
    heard = 0;
    start = performance.now();
    const write = engine.insert(entity, row);
    notify.push(heard - start);
    await write;
    durable.push(performance.now() - start);
    confirmed.push(write.confirmed);
  }
  unsubscribe();
  await Promise.all(confirmed);
  return { notify, durable };
}

/** Inserts while paused: until each promise has resolved and the queue on disk holds every row. */
async function offline({ app, entity, count, oneByOne }) {
  // A confirmed write stays in the queue until its row came; a pause in between would keep it there.
  await queueIsEmpty();
  engine.pause();
  const rows = Array.from({ length: count }, (_, index) => newRow(index));
  const start = performance.now();
  const writes = [];
  for (const row of rows) {
    const write = engine.insert(entity, row);
    writes.push(write);
    if (oneByOne) await write;
  }
  await Promise.all(writes);
  const seconds = (performance.now() - start) / 1000;
  const raw = await openRaw(app);
  expectEqual("records in the queue on disk", (await readQueue(raw)).length, count);
  raw.close();
  const resumed = performance.now();
  engine.resume();
  await Promise.all(writes.map((write) => write.confirmed));
  return { seconds, confirmed_seconds: (performance.now() - resumed) / 1000 };
}

async function queueIsEmpty() {
  while (engine.mutations.list().length > 0) {
    await new Promise((resolve) => {
      const unsubscribe = engine.mutations.subscribe(() => {
        unsubscribe();
        resolve();
      });
    });
  }
}

/** Counts and sums of an entity as the store shows it. */
function summary({ entity }) {
  return digest(engine.store.list(entity));
}

/** Every row of these entities. */
function lists(entities) {
  return Object.fromEntries(entities.map((entity) => [entity, engine.store.list(entity)]));
}

/** The text of the engine's export. */
async function exported() {
  return (await engine.export()).text();
}

/** How many rows of an entity are on disk. */
async function rowsOnDisk({ app, entity }) {
  const raw = await openRaw(app);
  await durableAt(raw, engine.status.seq);
  const { entities } = await countRows(raw);
  raw.close();
  return entities[entity] ?? 0;
}

function about() {
  return { isolated: crossOriginIsolated, agent: navigator.userAgent, cores: navigator.hardwareConcurrency };
}

function expectEqual(what, found, wanted) {
  if (found !== wanted) throw new Error(`${what}: ${found} instead of ${wanted}`);
}

window.stage = {
  about,
  close,
  coldStart,
  exported,
  insertBatches,
  insertSingles,
  lists,
  moduleInit,
  offline,
  open,
  pull,
  rowsOnDisk,
  summary,
  ...baseline,
};
