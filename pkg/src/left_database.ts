// What becomes of the unsent writes of a session that was left: they are carried over to the next one on request.
//
// Loaded when first asked for; it imports nothing but types, for the reason given in on_demand.ts.
//
// A write must neither be lost nor be sent by both sessions, whenever the page dies. So it is first marked in the old
// database, which never sends it from then on; then queued in the new one; and removed from the old one when that is on disk.
// Every step may be repeated: an op_id that is queued already is left alone, and one that the server has decided is answered
// from its outcome.

import type { OpenDatabase, QueueNow } from "./raw.ts";
import type { Identity } from "./types.ts";

/** From whom to whom. It stands outside of both databases, so that a page that died in between goes on with it. */
interface CarryNote {
  readonly from: Identity;
  /** The hash of the token that the next session was begun with. */
  readonly token: string;
  /** Whose session that turned out to be. */
  readonly to?: Identity;
}

/** Notes what is to be carried, or that nothing is. What is on its way already goes on when its session is opened again. */
export function noteCarry(name: string, wanted: CarryNote | undefined): void {
  if (wanted !== undefined || readNote(name)?.to === undefined) writeNote(name, wanted);
}

function readNote(name: string): CarryNote | undefined {
  try {
    return (JSON.parse(localStorage.getItem(name) ?? "null") as CarryNote | null) ?? undefined;
  } catch {
    return undefined;
  }
}

function writeNote(name: string, note: CarryNote | undefined): void {
  try {
    if (note === undefined) localStorage.removeItem(name);
    else localStorage.setItem(name, JSON.stringify(note));
  } catch {
    // Without it nothing is carried over after a crash; the writes then wait with the session that made them.
  }
}

/** The session that writes are carried to. */
export interface NextSession {
  readonly identity: Identity;
  /** The hash of its token. */
  readonly token: string | undefined;
  /** Whether it goes on, and its queue is on a disk. */
  isOnDisk(): boolean;
  /** The name of an identity's database. */
  databaseOf(identity: Identity): string | undefined;
  /** The op_ids in its queue. */
  queued(): string[];
  /** Queues the writes of these lines. */
  adopt(lines: string, isOtherLog: boolean): void;
  /** Resolves when a write that was queued is on disk. */
  stored(opId: string): Promise<void>;
  readonly openDatabase: OpenDatabase | undefined;
  /** Makes the second copy of an old queue what that queue is now; without it there is none. */
  readonly renewCopy: ((name: string, readQueue: () => Promise<QueueNow>) => Promise<void>) | undefined;
}

/** Takes over what the note says, if it means this session. */
export async function takeOver(noteName: string, next: NextSession): Promise<void> {
  const note = readNote(noteName);
  const { identity } = next;
  const isMeant = note?.to === undefined ? note?.token === next.token : isSame(note.to, identity);
  if (note === undefined || !isMeant) return;
  if (isSame(note.from, identity)) return writeNote(noteName, undefined);
  if (!next.isOnDisk()) return;
  writeNote(noteName, { ...note, to: identity });
  const name = next.databaseOf(note.from);
  if (name === undefined) return;
  const isOtherLog = note.from.tenantId !== identity.tenantId;
  const adopt = async (list: readonly Carried[]): Promise<ReadonlySet<string>> => {
    const known = new Set(next.queued());
    if (!next.isOnDisk()) return new Set();
    next.adopt(list.map(({ line }) => line).join("\n"), isOtherLog);
    const queued = new Set(next.queued());
    const taken = list.filter(({ opId }) => queued.has(opId)).map(({ opId }) => opId);
    const stored = taken.map((opId) => next.stored(opId));
    await Promise.all(stored.filter((_, index) => !known.has(taken[index] ?? "")));
    // A disk that refused them leaves them where they were.
    return new Set(next.isOnDisk() ? taken : []);
  };
  await carryOver(name, next, adopt);
  // Another session may have been begun meanwhile, with a note of its own, or without any.
  if (next.isOnDisk()) writeNote(noteName, undefined);
}

function isSame(one: Identity, other: Identity): boolean {
  return one.userId === other.userId && one.tenantId === other.tenantId;
}

/** A write on its way. */
interface Carried {
  readonly opId: string;
  /** Its frozen intent, after a `!` when an earlier attempt may have brought it to the server. */
  readonly line: string;
}

/**
 * Carries what was never sent from one database to another. `adopt` resolves with the op_ids that are on disk there. The second
 * copy of the old queue follows: should its database be lost, nothing that was carried over may come back.
 * @param name The database of the session that was left.
 */
async function carryOver(
  name: string,
  { openDatabase, renewCopy }: NextSession,
  adopt: (list: readonly Carried[]) => Promise<ReadonlySet<string>>,
): Promise<void> {
  const database = await open(name, openDatabase);
  if (database === undefined) return;
  try {
    const marked = await mark(database);
    if (marked.length === 0) return;
    const stored = await adopt(marked);
    await remove(
      database,
      marked.filter(({ opId }) => stored.has(opId)),
    );
    const last = marked.reduce((last, { key }) => Math.max(last, Number(key)), 0);
    await renewCopy?.(name, async () => ({ ...(await readQueue(database)), last }));
  } finally {
    database.close();
  }
}

interface Marked extends Carried {
  readonly key: IDBValidKey;
  /** The record as it stands now. */
  readonly text: string;
}

/**
 * Marks every write that was never sent and depends on none that stays, and gives them with those that were marked before.
 * The fence is raised in the same transaction: a tab that still leads there cannot send any of them afterwards.
 */
function mark(database: IDBDatabase): Promise<readonly Marked[]> {
  const marked: Marked[] = [];
  return transact(database, (store) => {
    const [cursors, queue] = [store("cursors"), store("pendingMutations")];
    const fence = cursors.get("fence");
    fence.onsuccess = () => cursors.put((Number(fence.result) || 0) + 1, "fence");
    const keys = queue.getAllKeys();
    const values = queue.getAll();
    values.onsuccess = () => {
      const staying = new Set<string>();
      keys.result.forEach((key, index) => {
        const before = textOf(values.result[index]);
        const found = pending(before) ?? carried(before);
        const { op_id, after } = JSON.parse(found?.intent ?? intentOf(before)) as Intent;
        if (found === undefined || after?.some((other) => staying.has(other))) {
          staying.add(op_id);
          return;
        }
        const text = `${HEAD_CARRIED}${found.intent}${ERROR}${found.rest}`;
        if (text !== before) queue.put(new TextEncoder().encode(text), key);
        marked.push({ key, text, opId: op_id, line: (text === before ? "!" : "") + found.intent });
      });
    };
  }).then(() => marked);
}

function remove(database: IDBDatabase, marked: readonly Marked[]): Promise<void> {
  return transact(database, (store) => {
    const queue = store("pendingMutations");
    for (const { key, text } of marked) {
      const now = queue.get(key);
      now.onsuccess = () => textOf(now.result) === text && queue.delete(key);
    }
  });
}

/** As a leader has it: the fence is the one that was raised above. */
async function readQueue(database: IDBDatabase): Promise<QueueNow> {
  let fence = 0;
  const records: [number, Uint8Array][] = [];
  await transact(database, (store) => {
    const stored = store("cursors").get("fence");
    stored.onsuccess = () => {
      fence = Number(stored.result) || 0;
    };
    const keys = store("pendingMutations").getAllKeys();
    const values = store("pendingMutations").getAll();
    values.onsuccess = () => {
      keys.result.forEach((key, index) => {
        records.push([Number(key), values.result[index] as Uint8Array]);
      });
    };
  });
  return { records, fence, leads: true };
}

interface Intent {
  readonly op_id: string;
  readonly after?: readonly string[];
}

// A record as crates/core writes it (docs/storage.md, "Mutation record"). Its intent is passed on byte for byte.
const HEAD_PENDING = '{"format":1,"state":"pending","intent":';
const HEAD_CARRIED = '{"format":1,"state":"failed","intent":';
const NO_ERROR = ',"error":null';
const ERROR = ',"error":{"code":"IDENTITY_CHANGED","message":"it is being carried over to the next session"}';
const NEVER_SENT = ',"first_sent_at":null';

function pending(text: string) {
  return cut(text, HEAD_PENDING, NO_ERROR);
}

function carried(text: string) {
  return cut(text, HEAD_CARRIED, ERROR);
}

function cut(text: string, head: string, error: string) {
  const end = text.lastIndexOf(error + NEVER_SENT);
  if (!text.startsWith(head) || end < 0) return undefined;
  return { intent: text.slice(head.length, end), rest: text.slice(end + error.length) };
}

/** The intent of any other record, for its op_id alone. */
function intentOf(text: string): string {
  try {
    const { intent } = JSON.parse(text) as { readonly intent?: unknown };
    // The mark of a discarded write has none.
    return JSON.stringify(intent ?? { op_id: "" });
  } catch {
    // A damaged record is nobody's.
    return '{"op_id":""}';
  }
}

function textOf(value: unknown): string {
  return value instanceof Uint8Array ? new TextDecoder().decode(value) : "";
}

function transact(
  database: IDBDatabase,
  issue: (store: (name: string) => IDBObjectStore) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const tx = database.transaction(["cursors", "pendingMutations"], "readwrite", { durability: "strict" });
    tx.oncomplete = () => resolve();
    tx.onabort = () => reject(tx.error ?? new Error("aborted by the browser"));
    issue((name) => tx.objectStore(name));
  });
}

/** Opens a database that is there; `undefined` if it is not. */
async function open(name: string, openDatabase: OpenDatabase | undefined): Promise<IDBDatabase | undefined> {
  if (openDatabase !== undefined) return (await openDatabase(name, false, LIMIT_MS)) as IDBDatabase;
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name);
    let isNew = false;
    request.onupgradeneeded = () => {
      isNew = true;
      request.transaction?.abort();
    };
    request.onsuccess = () => {
      const database = request.result;
      database.onversionchange = () => database.close();
      resolve(database);
    };
    request.onerror = () => (isNew ? resolve(undefined) : reject(request.error));
  });
}

const LIMIT_MS = 5_000;
