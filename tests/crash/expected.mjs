// What a device and the server must hold: every acknowledged write, once. Kept outside the browser that is killed.

/** Counts of one comparison. */
const nothing = () => ({ lost: [], survivors: 0, torn: [], refused: [] });

/** The last acknowledged state of every row. */
export class Expected {
  /** id → { entity, n, deleting, deleted }; `n` is the last acknowledged number of the row. */
  #rows = new Map();
  acknowledged = 0;

  /** Takes one acknowledged transaction: `[entity, id, n]` for each row, `n` null for a deletion. */
  acknowledge(changes) {
    this.acknowledged += 1;
    for (const [entity, id, n] of changes) {
      const row = this.#row(entity, id);
      if (n === null) row.deleted = true;
      else row.n = Math.max(row.n, n);
    }
  }

  /** Somebody is about to delete the row: from now on it may be gone. */
  deleting(id) {
    this.#row("note", id).deleting = true;
  }

  get size() {
    return this.#rows.size;
  }

  /** As it is now; what is acknowledged later does not change it. */
  copy() {
    const copy = new Expected();
    for (const [id, row] of this.#rows) copy.#rows.set(id, { ...row });
    return copy;
  }

  /**
   * Compares with what a device holds: `rows` maps an entity to `[id, n, group, size]`. Where others write while a device reads,
   * `later` knows what they may have deleted.
   */
  compare({ rows, queue = [] }, later = this) {
    const found = nothing();
    const held = heldRows(rows);
    for (const [id, row] of this.#rows) {
      const n = held.get(id)?.n;
      const mayBeGone = row.deleting || later.#mayBeGone(id);
      const isLost = row.deleted ? n !== undefined : n === undefined ? !mayBeGone : n < row.n;
      if (isLost) found.lost.push({ id, ...row, found: n ?? null });
      else if (row.deleting && !row.deleted && n === undefined) found.survivors += 1;
    }
    for (const [id, { entity, n }] of held) {
      const row = this.#rows.get(id);
      if (OWN.has(entity) && (row === undefined || n > row.n)) found.survivors += 1;
    }
    found.torn = tornTransactions(rows);
    found.refused = queue.filter(([, status]) => status === "failed");
    if (new Set(queue.map(([op_id]) => op_id)).size < queue.length)
      found.torn.push("an op_id is twice in the queue");
    return found;
  }

  /**
   * From now on a device must hold what it showed after a crash, too. What it lost is not counted again, until it shows it
   * once more.
   */
  learn({ rows }, lost) {
    this.forget(lost);
    const held = heldRows(rows);
    for (const [id, { entity, n }] of held) {
      if (!OWN.has(entity)) continue;
      const row = this.#row(entity, id);
      Object.assign(row, { n: Math.max(row.n, n), deleting: false });
    }
    for (const [id, row] of this.#rows) if (!held.has(id)) row.deleted = true;
  }

  /** What is lost is not looked for again. */
  forget(lost) {
    for (const { id } of lost) this.#rows.delete(id);
  }

  #mayBeGone(id) {
    const row = this.#rows.get(id);
    return row !== undefined && (row.deleting || row.deleted);
  }

  #row(entity, id) {
    let row = this.#rows.get(id);
    if (row === undefined) {
      row = { entity, n: -1, deleting: false, deleted: false };
      this.#rows.set(id, row);
    }
    return row;
  }
}

/** What the browser writes; the rest comes from another client. */
const OWN = new Set(["note", "ledger", "entry"]);

function heldRows(rows) {
  const held = new Map();
  for (const [entity, list] of Object.entries(rows)) for (const [id, n] of list) held.set(id, { entity, n });
  return held;
}

/** A transaction writes all entries of its group and counts itself in the ledger. */
function tornTransactions({ entry = [], ledger = [] }) {
  const groups = new Map();
  for (const [, , group, size] of entry)
    groups.set(group, { size, held: (groups.get(group)?.held ?? 0) + 1 });
  const torn = [];
  for (const [group, { size, held }] of groups) {
    if (size !== held) torn.push(`${held} of ${size} rows of the transaction ${group}`);
  }
  const counted = ledger.reduce((sum, [, n]) => sum + n, 0);
  if (counted !== groups.size) torn.push(`the ledgers count ${counted} transactions of ${groups.size}`);
  return torn;
}

/**
 * Reads the server's log from the beginning: the rows it leads to, and everything that was applied twice. Every write of
 * these tests gives its row a number that it did not have before.
 */
export function readLog(changes) {
  const rows = { note: new Map(), ledger: new Map(), entry: new Map(), feed: new Map() };
  const gone = new Set();
  const doubled = [];
  for (const { seq, entity, row_id, kind, data } of changes) {
    const table = rows[entity];
    const before = table.get(row_id);
    if (gone.has(row_id) || (kind === "insert" ? before : !before))
      doubled.push({ seq, kind, entity, row_id });
    if (kind === "delete") {
      table.delete(row_id);
      gone.add(row_id);
      continue;
    }
    if (before && data.n <= before.n) doubled.push({ seq, kind, entity, row_id, n: data.n });
    table.set(row_id, data);
  }
  const lists = {};
  for (const [entity, table] of Object.entries(rows)) {
    lists[entity] = [...table].map(([id, { n, group, size }]) => [id, n, group ?? "", size ?? 0]);
  }
  return { rows: lists, doubled };
}

/**
 * The rows there will be once the server has what a device has in its queue: `unsent` lists `[entity, id, kind, n]` in order.
 * A change that the server has already comes to nothing: every insert has an id and every update a number of its own.
 */
export function withUnsent(changes, unsent) {
  const known = new Set(changes.map(({ row_id }) => row_id));
  const rows = {};
  for (const [entity, list] of Object.entries(readLog(changes).rows))
    rows[entity] = new Map(list.map(([id, n]) => [id, n]));
  for (const [entity, id, kind, n] of unsent) {
    const table = rows[entity];
    if (kind === "delete") table.delete(id);
    else if (table.has(id)) table.set(id, Math.max(table.get(id), n ?? -1));
    else if (kind === "insert" && !known.has(id)) table.set(id, n);
  }
  return Object.fromEntries(Object.entries(rows).map(([entity, table]) => [entity, [...table]]));
}

/** Says in what the device's rows differ from the server's. */
export function differences(device, server) {
  const found = [];
  for (const entity of Object.keys(server)) {
    const there = new Map(server[entity].map(([id, ...fields]) => [id, JSON.stringify(fields)]));
    for (const [id, ...fields] of device[entity]) {
      if (there.get(id) !== JSON.stringify(fields))
        found.push(`${entity} ${id} is ${fields} on the device only`);
      there.delete(id);
    }
    for (const id of there.keys()) found.push(`${entity} ${id} is missing on the device`);
  }
  return found;
}
