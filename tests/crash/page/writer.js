// Opens the replica, says what is in it before the network can add anything, then writes until somebody kills the browser.

import { watchCompaction } from "./compaction.js";
import { createSyncEngine } from "./dist/index.js";
import { problemsOf } from "./later_layout.js";
import { upgrades } from "./layout_version.js";
import { randomFrom } from "./random.js";
import { acknowledged, tell, wishes } from "./reports.js";

const LOOPS = 4;
const BODY = "what a row of some length says, over and over. ".repeat(12);
/** How long it writes without a network, or with one, at most. */
const STRETCH_MS_MAX = 500;

const engine = createSyncEngine(location.origin, {
  appName: wishes.app,
  token: wishes.token,
  reconnectDelay: 50,
});
const problems = [];
engine.onError((error) => problems.push(`${error.code ?? ""} ${error.message}`));
/** What the engine says about the disk. */
const notices = [];
engine.onStorage((notice) => notices.push(notice));

run().catch((error) => tell("problem", { message: `${error?.stack ?? error}`, status: engine.status }));

async function run() {
  await tell("starting", {});
  const databases = await namesOfDatabases();
  const opened = await open();
  const layout = { upgrades, problems: await layoutProblems(opened) };
  const plan = await tell("opened", { ...opened, databases, layout });
  // What is acknowledged in memory is not looked for later.
  if (opened.storage.kind !== "indexeddb") return;
  // Without a tie to this page it gets a process of its own.
  if (plan.secondTab) window.open(plan.secondTab, "_blank", "noopener");
  engine.resume();
  if (plan.finish) return finish();
  if (plan.during === "compaction") watchCompaction(() => tell("moment", {}));
  if (plan.during === "resync") void resync();
  else void comeAndGo(randomFrom(wishes.seed));
  await Promise.all(Array.from({ length: LOOPS }, (_, index) => write(index)));
}

/** A browser whose store is damaged refuses this, too. */
async function namesOfDatabases() {
  try {
    return (await indexedDB.databases()).map(({ name }) => name);
  } catch (error) {
    problems.push(`databases: ${error}`);
    return [];
  }
}

/** What an upgrade that was carried out in part would have left. */
async function layoutProblems({ storage }) {
  if (wishes.layout === undefined || storage.kind !== "indexeddb") return [];
  const own = (await namesOfDatabases()).filter((name) => name.includes(`_${wishes.app}_`));
  return (await Promise.all(own.map((name) => problemsOf(name, wishes.layout)))).flat();
}

/**
 * Gives what is on this device. A token whose identity was forgotten in the crash is resolved by the server first; what
 * the database held is then noted at the moment when it was read.
 */
async function open() {
  engine.pause();
  await engine.start();
  if (engine.status.identity !== null && engine.status.storage.kind === "indexeddb") return inventory(true);
  const isIdentified = engine.status.identity !== null;
  engine.resume();
  await until(() => engine.status.storage.kind !== "opening" && engine.status.identity !== null);
  return inventory(isIdentified);
}

function inventory(isIdentified) {
  const rows = {};
  for (const entity of ["note", "ledger", "entry", "feed"]) {
    rows[entity] = engine.store
      .list(entity)
      .map(({ id, n, ...row }) => [id, n, row.group ?? "", row.size ?? 0]);
  }
  const mutations = engine.mutations.list();
  const queue = mutations.map(({ opId, status, error }) => [opId, status, error?.code ?? ""]);
  const unsent = mutations.flatMap(({ changes }) =>
    changes.map(({ entity, rowId, kind, data }) => [entity, rowId, kind, data?.n ?? null]),
  );
  const { storage, seq } = engine.status;
  return { rows, queue, unsent, storage, seq, isIdentified, problems, notices };
}

/** Everything is sent, everything is here. */
async function finish() {
  await until(() => engine.status.identity !== null);
  await engine.push();
  await engine.pull();
  await until(() => engine.mutations.list().every(({ status }) => status === "failed"));
  await tell("finished", inventory(true));
}

/** Without a network the queue grows; with it, batches go and rows come. */
async function comeAndGo(random) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, random() * STRETCH_MS_MAX));
    if (random() < 0.5) engine.pause();
    else engine.resume();
  }
}

/** Fetches everything again and again, and says when it begins. */
async function resync() {
  for (;;) {
    void tell("moment", {});
    await engine.resetReplica();
  }
}

/** One write after the other on rows that no other loop touches, so that the last acknowledged state of each is known. */
async function write(index) {
  const loop = `${wishes.tab}${index}`;
  const random = randomFrom(wishes.seed + 1 + index);
  const own = engine.store.list("note").filter((row) => row.loop === loop);
  const ids = own.map(({ id }) => id);
  const ledger = engine.store.list("ledger").find((row) => row.loop === loop)?.id ?? (await openLedger(loop));
  for (;;) {
    const choice = random();
    if (choice < 0.35 || ids.length === 0) ids.push(await insert(loop, random));
    else if (choice < 0.7) await update(ids[Math.floor(random() * ids.length)]);
    else if (choice < 0.85) await remove(ids.splice(Math.floor(random() * ids.length), 1)[0]);
    else await book(ledger, random);
  }
}

async function openLedger(loop) {
  const id = await engine.insert("ledger", { loop, n: 0 });
  acknowledged([["ledger", id, 0]]);
  return id;
}

async function insert(loop, random) {
  const id = await engine.insert("note", { loop, n: 0, body: BODY.slice(0, random() * BODY.length) });
  acknowledged([["note", id, 0]]);
  return id;
}

async function update(id) {
  const n = engine.store.get("note", id).n + 1;
  await engine.update("note", id, { n });
  acknowledged([["note", id, n]]);
}

/** Announced first: a row that is gone after a crash was then deleted, or it was lost. */
async function remove(id) {
  await tell("deleting", { id });
  await engine.delete("note", id);
  acknowledged([["note", id, null]]);
}

/** A transaction: its entries and the count of such transactions in the ledger, all or nothing. */
async function book(ledger, random) {
  const size = 1 + Math.floor(random() * 4);
  const group = crypto.randomUUID();
  const n = engine.store.get("ledger", ledger).n + 1;
  const ids = await engine.transaction((tx) => {
    const entries = Array.from({ length: size }, () => tx.insert("entry", { n: 0, group, size, ledger }));
    tx.update("ledger", ledger, { n });
    return entries;
  });
  acknowledged([["ledger", ledger, n], ...ids.map((id) => ["entry", id, 0])]);
}

/** Waits for a state of the engine. The listener is called in the same task, before anything else can happen to the rows. */
function until(isSo) {
  return new Promise((resolve) => {
    if (isSo()) return resolve();
    const stop = engine.onStatus(() => {
      if (!isSo()) return;
      stop();
      resolve();
    });
  });
}
