// The store of one engine: its one long-lived connection, how a lost one is mended, and what it has to do with other tabs.

import { evictRows } from "./store_request.js";
import { Lead } from "./tabs.js";
import {
  CLEARED,
  CONFLICT,
  Failure,
  FULL,
  failureOf,
  limit,
  load,
  OUTDATED,
  readQueue,
  txOf,
  UNAVAILABLE,
} from "./transaction.js";

// WebAssembly finds them here.
export { StoreRequest } from "./store_request.js";
export { Channel } from "./tabs.js";

/** @typedef {import("./page.js").OnEvent} OnEvent */

// What it tells WebAssembly. `event.rs` reads these numbers.
const OPENED = 11;
const OPEN_FAILED = 12;
const STORED = 13;
const STOPPING = 14;
const STOPPED = 15;
const LEAD_LOST = 2;

/** Lost connections that are mended in one session; storage that breaks more often is not to be trusted. */
const REOPENS_MAX = 3;
/** Attempts to open a database that the browser cannot read, before one is made in its place. */
const OPENS_MAX = 3;
const NOTHING_LOST = { isCopied: false, records: [], last: 0, fence: 0 };

/**
 * Where rows and queue are kept.
 * @typedef {object} Disk
 * @property {typeof openIndexedDb} [openDatabase] Opens the application's own database in place of IndexedDB.
 * @property {QueueCopy} [copy]
 */

/**
 * A second copy of the queue, outside of IndexedDB.
 * @typedef {object} QueueCopy
 * @property {(name: string, readQueue: () => Promise<QueueNow>) => void} open Names the database, and how its queue is read.
 * @property {() => void} opened The database is there, and has its first fence.
 * @property {(changes: QueueChanges | { undone: number[] }) => Promise<void>} append
 *   Resolves when the copy has what was done to the queue, or when there is no copy.
 * @property {() => void} led This tab takes the lead.
 * @property {() => Promise<Lost | undefined>} recover What is known of a database of this name that is gone.
 * @property {(lost: Lost) => void} recovered It is in a new database now.
 * @property {() => void} close
 *
 * @typedef {import("./store_request.js").QueueChanges} QueueChanges
 * @typedef {import("./transaction.js").Lost} Lost
 * @typedef {{ records: [key: number, bytes: Uint8Array | undefined][], fence: number, leads: boolean }} QueueNow
 */

export class Storage {
  /** @type {OnEvent} */
  #onEvent;
  #limitMs;
  #openDatabase;
  #copy;
  #name = "";
  #identity = "";
  /** @type {IDBDatabase | undefined} */
  #database;
  #channel;
  /** @type {Lead | undefined} None for a database of the application's own: what keeps others out is its business. */
  #lead;
  /** What was read of it before another was opened in its place. @type {Lost | undefined} */
  #lost;
  /** The fence that this tab wrote last. */
  #fence = 0;
  /** @type {Promise<unknown> | undefined} Since the rows had to make room. */
  #evicting;
  #reopensLeft = REOPENS_MAX;
  /** @type {Promise<void> | undefined} Shared by all requests that lost the same connection. */
  #reopening;
  /** Requests from the moment the core asks until it was told and has asked for whatever comes next. */
  #running = 0;
  /** @type {(() => void) | undefined} */
  #onQuiet;
  /** @type {Promise<void> | undefined} */
  #closing;
  /** @type {(() => void)[] | undefined} What waits until the page runs again, while it sleeps. */
  #whenAwake;
  /** Aborted when nothing is opened any more. */
  #over = new AbortController();

  /**
   * @param {OnEvent} onEvent
   * @param {number} limitMs How long an open or a transaction may hang.
   * @param {import("./tabs.js").Channel} channel
   * @param {Disk} [disk]
   */
  constructor(onEvent, limitMs, channel, { openDatabase = openIndexedDb, copy } = {}) {
    this.#onEvent = onEvent;
    this.#channel = channel;
    this.#limitMs = limitMs;
    this.#openDatabase = openDatabase;
    this.#copy = copy;
  }

  /**
   * Opens the database and reads everything there is; takes the lead, unless another tab has it.
   * @param {string} name
   * @param {string} identity For people.
   */
  async open(name, identity) {
    const { signal } = this.#over;
    this.#name = name;
    this.#identity = identity;
    let leads = true;
    if (this.#openDatabase === openIndexedDb) {
      this.#channel.open(name);
      const onLost = () => this.#onEvent(LEAD_LOST, "");
      this.#lead = new Lead(name, () => void this.#read(true), onLost);
      leads = await this.#lead.take();
      this.#channel.hasOthers ||= !leads;
    }
    if (signal.aborted) return;
    this.#copy?.open(name, () => this.#readQueue());
    try {
      await this.#connectOrMend();
    } catch (thrown) {
      return this.#fail(failureOf(thrown));
    }
    await this.#read(leads);
    if (!leads) void this.#lead?.wait();
  }

  /**
   * Reads everything again, for a tab that may have missed what another one did.
   * @param {Uint8Array} [known] The replica record whose rows need not be read.
   */
  read(known) {
    const copy = known?.slice();
    const read = () => void this.#read(false, copy);
    if (this.#whenAwake === undefined) read();
    else this.#whenAwake.push(read);
  }

  /** The page is about to be frozen: a transaction that it began now would keep the other tabs out. */
  sleep() {
    this.#whenAwake ??= [];
  }

  wake() {
    const waiting = this.#whenAwake ?? [];
    this.#whenAwake = undefined;
    for (const read of waiting) read();
  }

  /** Takes the lead from a tab that does not answer, while somebody looks at this one. */
  async takeLead() {
    if (globalThis.document?.hidden) return;
    if (await this.#lead?.steal()) await this.#read(true);
  }

  /** Lets the lead go and stands in line for it. */
  resign() {
    if (this.#lead === undefined) void this.#read(true);
    else this.#lead.resign();
  }

  /**
   * @param {boolean} leads Whether to take the lead with it.
   * @param {Uint8Array} [known]
   */
  async #read(leads, known) {
    try {
      // Of an application's own database no copy is kept.
      let found = await this.#load(leads, known, this.#copy === undefined ? NOTHING_LOST : undefined);
      if (found.isNew) {
        this.#lost ??= await this.#copy?.recover();
        found = await this.#load(leads, known, this.#lost ?? NOTHING_LOST);
      } else this.#lost = undefined;
      if (this.#over.signal.aborted) return;
      if (leads) this.#evicting = undefined;
      this.#fence = leads ? found.fence : 0;
      this.#onEvent(OPENED, "", found, found.fence, Number(leads));
      if (leads) this.#tellCopy();
    } catch (thrown) {
      const failure = failureOf(thrown);
      // A full disk takes no new leader, but what is on it can be read and shown.
      const found =
        failure.kind === FULL
          ? await load(this.#connection(), undefined, this.#limitMs).catch(() => undefined)
          : undefined;
      this.#fail(failure, found);
    }
  }

  /**
   * @param {boolean} leads
   * @param {Uint8Array | undefined} known
   * @param {Lost | undefined} lost
   */
  #load(leads, known, lost) {
    const identity = leads ? this.#identity : undefined;
    return this.#withConnection((database) => load(database, identity, this.#limitMs, known, lost));
  }

  #tellCopy() {
    this.#copy?.opened();
    this.#copy?.led();
    if (this.#lost !== undefined) this.#copy?.recovered(this.#lost);
    this.#lost = undefined;
  }

  /** The queue as it stands, and whether this tab still leads. */
  async #readQueue() {
    const { queue, fence } = await this.#withConnection((database) => readQueue(database, this.#limitMs));
    return { records: queue, fence, leads: fence === this.#fence };
  }

  /**
   * Carries out one request.
   * @param {number} id
   * @param {import("./store_request.js").StoreRequest} request
   */
  async run(id, request) {
    this.#running += 1;
    const copying = this.#copy && new Copying(this.#copy, request);
    const attempt = (/** @type {IDBDatabase} */ database, /** @type {boolean} */ isRepeated) => {
      request.isRepeated = isRepeated;
      return request.run(database, this.#limitMs, (keys) => copying?.begin(keys));
    };
    const found = await this.#withRoom(request, () => this.#withConnection(attempt)).catch(failureOf);
    if (found instanceof Failure) {
      copying?.undo();
      this.#onEvent(STORED, found.message, undefined, id, found.kind);
    } else {
      const keys = found.queue.map(([key]) => key);
      this.#channel.stored(request, keys);
      const copied = copying?.end(keys);
      // What was applied is answered from its outcome if it should come back. Everything else must be as it was promised.
      if (request.kind !== "commit") await copied;
      this.#onEvent(STORED, "", found, id, 0, Number(found.hasKeys));
    }
    this.#running -= 1;
    if (this.#running === 0) this.#onQuiet?.();
  }

  /**
   * What is to be stored of the queue takes the place of rows when nothing else fits any more. The rows stay in memory: the core
   * hears from then on that there is no room for them, and goes on storing the queue alone.
   * @param {import("./store_request.js").StoreRequest} request
   * @param {() => Promise<import("./transaction.js").Found>} run
   */
  async #withRoom(request, run) {
    const isEvicted = this.#evicting !== undefined;
    // Otherwise it is begun at once: an engine that is let go in the same task has its writes on the way.
    if (isEvicted) await this.#evicting?.catch(() => {});
    if (isEvicted && !request.isOfQueue) throw new Failure(FULL);
    try {
      return await run();
    } catch (thrown) {
      const { kind } = failureOf(thrown);
      // It was begun before the rows went.
      if (kind === CONFLICT && !request.isOfQueue && this.#evicting !== undefined) throw new Failure(FULL);
      if (kind !== FULL || !request.isOfQueue || isEvicted || this.#fence === 0) throw thrown;
      this.#evicting ??= this.#withConnection((database) => evictRows(database, this.#fence, this.#limitMs));
      await this.#evicting;
      return run();
    }
  }

  /** Says that the engine stops, waits until no request runs and none follows, then lets go of everything. */
  close() {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close() {
    // Not in the middle of the call that asks for it: the caller hears of the end like of everything else.
    await undefined;
    this.#onEvent(STOPPING, "");
    if (this.#running > 0) {
      /** @type {Promise<void>} */
      const quiet = new Promise((resolve) => {
        this.#onQuiet = resolve;
      });
      await quiet;
    }
    this.#giveUp();
    this.#onEvent(STOPPED, "");
  }

  /** Lets go of everything without a word. */
  abandon() {
    this.#onEvent = () => {};
    this.#giveUp();
  }

  /** Closes the connection at once; every later request is refused. */
  #giveUp() {
    this.#over.abort();
    if (this.#database !== undefined) disconnect(this.#database);
    this.#database = undefined;
    this.#copy?.close();
    this.#channel.close();
    this.#lead?.close();
  }

  /**
   * Takes the storage away, from an engine that may know by now what was on it.
   * @param {Failure} failure
   * @param {import("./transaction.js").Found} [found]
   */
  #fail({ kind, message }, found) {
    if (this.#over.signal.aborted) return;
    this.#giveUp();
    if (found !== undefined) this.#onEvent(OPENED, "", found, found.fence);
    this.#onEvent(OPEN_FAILED, message, undefined, kind);
  }

  #connection() {
    if (this.#database === undefined) throw new Failure(UNAVAILABLE, "the database is closed");
    return this.#database;
  }

  /**
   * A store that the browser cannot open it may replace with an empty one at the next attempt, so what the copy has is read
   * before. One that never opens is deleted if its queue is in the copy.
   */
  async #connectOrMend() {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#connect(true);
      } catch (thrown) {
        const isBroken = /** @type {Error} */ (thrown)?.name === "UnknownError";
        if (!isBroken || this.#copy === undefined || attempt > OPENS_MAX) throw thrown;
        this.#lost ??= await this.#copy.recover();
        if (attempt < OPENS_MAX) continue;
        if (!this.#lost?.isCopied) throw thrown;
        await deleteDatabase(this.#name);
      }
    }
  }

  /** @param {boolean} mayMake Whether a database that is not there is made. */
  async #connect(mayMake) {
    const database = await this.#openDatabase(this.#name, mayMake, this.#limitMs);
    if (this.#over.signal.aborted) {
      // Stopped meanwhile: nobody else would close it.
      database.close();
      throw new Failure(UNAVAILABLE, "the database is closed");
    }
    database.onversionchange = () => this.#becomeOutdated();
    this.#database = database;
  }

  /** A newer version in another tab waits for this connection to close: what was begun is carried out, and nothing after it. */
  #becomeOutdated() {
    const failure = new Failure(OUTDATED, "another tab upgrades or deletes the database");
    this.#onEvent(OPEN_FAILED, failure.message, undefined, OUTDATED);
    if (this.#running === 0) this.#giveUp();
    else this.#onQuiet ??= () => this.#giveUp();
  }

  /**
   * A connection that the browser dropped (Safari does so when its storage process dies) fails for ever, so it is opened
   * again and the transaction repeated. Every one may be: what is done already is recognised.
   * @param {(database: IDBDatabase, isRepeated: boolean) => Promise<import("./transaction.js").Found>} run
   */
  async #withConnection(run) {
    const used = this.#connection();
    try {
      return await run(used, false);
    } catch (thrown) {
      const failure = failureOf(thrown);
      const other = failure.kind === UNAVAILABLE ? await this.#inPlaceOf(used) : undefined;
      if (other === undefined) throw failure;
      return run(other, true);
    }
  }

  /**
   * Gives the connection that replaces a broken one, unless there is none any more.
   * @param {IDBDatabase} broken
   */
  async #inPlaceOf(broken) {
    if (this.#database === broken && this.#reopensLeft > 0) this.#reopening ??= this.#reopen(broken);
    await this.#reopening;
    return this.#database === broken ? undefined : this.#database;
  }

  /** @param {IDBDatabase} broken */
  async #reopen(broken) {
    this.#reopensLeft -= 1;
    try {
      await this.#connect(false);
      disconnect(broken);
    } finally {
      this.#reopening = undefined;
    }
  }
}

/** What the copy learns of one request. */
class Copying {
  #copy;
  #request;
  /** @type {number[]} */
  #keys = [];
  /** @type {Promise<void> | undefined} */
  #copied;

  /** @param {QueueCopy} copy @param {import("./store_request.js").StoreRequest} request */
  constructor(copy, request) {
    this.#copy = copy;
    this.#request = request;
  }

  /**
   * New records are copied while the browser commits them. Everything else has to be certain: a removal that came to nothing
   * would take the record out of the copy.
   * @param {number[]} keys
   */
  begin(keys) {
    this.undo();
    if (this.#request.formers.length > 0) return;
    this.#keys = keys;
    void this.#append(keys);
  }

  /** @param {number[]} keys @returns {Promise<void> | undefined} */
  end(keys) {
    if (this.#keys.length > 0 && keys.join() === this.#keys.join()) return this.#copied;
    this.undo();
    return this.#append(keys);
  }

  /** It was not carried out, or on another connection with other keys. */
  undo() {
    if (this.#keys.length > 0) void this.#copy.append({ undone: this.#keys });
    this.#keys = [];
    this.#copied = undefined;
  }

  /** @param {number[]} keys */
  #append(keys) {
    const changes = this.#request.queueChanges(keys);
    if (changes === undefined || changes.put.length + changes.removed.length === 0) return undefined;
    this.#copied = this.#copy.append(changes);
    return this.#copied;
  }
}

/** @typedef {import("./transaction.js").Tx} Tx */

/**
 * Leads from one version of the layout (`docs/storage.md`, "Versions") to the next. All of it is in the one transaction that the browser upgrades the database in, so that a
 * crash leaves the old layout or the new one. It waits for nothing but requests of that transaction, and calls `next` after the last.
 * @typedef {(database: IDBDatabase, tx: Tx, next: () => void) => void} Step
 */

/**
 * Their number is the version that this build reads and writes. A released step is never changed: every version has a stored
 * fixture in `tests/browser/fixtures/` that must open.
 * @type {Step[]}
 */
const STEPS = [makeStores];

/**
 * Runs the steps that lead from a version to this one, each when the one before has ended.
 * @param {IDBDatabase} database
 * @param {Tx} tx
 * @param {number} from
 */
function upgrade(database, tx, from) {
  STEPS[from]?.(database, tx, () => upgrade(database, tx, from + 1));
}

/** @type {Step} */
function makeStores(database, _tx, next) {
  // All keys are out of line: WebKit was seen to fail when it puts a key into a value.
  database.createObjectStore("entities");
  database.createObjectStore("cursors");
  database.createObjectStore("pendingMutations", { autoIncrement: true });
  database.createObjectStore("journal", { autoIncrement: true });
  next();
}

/**
 * Opens a database, making or upgrading it as needed.
 * @param {string} name
 * @param {boolean} mayMake
 * @param {number} limitMs Some versions of WebKit never answer the first request.
 * @returns {Promise<IDBDatabase>}
 */
function openIndexedDb(name, mayMake, limitMs) {
  return new Promise((resolve, reject) => {
    if (!globalThis.indexedDB) throw new Failure(UNAVAILABLE, "this browser has no IndexedDB here");
    const request = indexedDB.open(name, STEPS.length);
    let isBlocked = false;
    let isAbandoned = false;
    /** @type {unknown} */
    let failure;
    const waiting = limit(limitMs, () => {
      isAbandoned = true;
      const late = `opening the database took longer than ${limitMs / 1000} s`;
      const reason = isBlocked ? "another tab holds an older version of the database" : late;
      reject(new Failure(UNAVAILABLE, reason));
      return true;
    });
    request.onblocked = () => {
      isBlocked = true;
    };
    request.onupgradeneeded = ({ oldVersion }) => {
      const raw = /** @type {IDBTransaction} */ (request.transaction);
      // Otherwise the browser would keep what was done so far, under the new version.
      const fail = (/** @type {unknown} */ thrown) => {
        failure = thrown;
        raw.abort();
      };
      try {
        // Writes that were stored would be missing from another database, and their keys would be given out again.
        if (oldVersion === 0 && !mayMake) throw new Failure(CLEARED, "site data was cleared");
        upgrade(request.result, txOf(raw, waiting, fail), oldVersion);
      } catch (thrown) {
        fail(thrown);
      }
    };
    request.onsuccess = () => {
      waiting.end();
      // A connection that nobody uses would block every later upgrade.
      if (isAbandoned) request.result.close();
      else resolve(request.result);
    };
    request.onerror = () => {
      waiting.end();
      reject(failure ?? request.error);
    };
  });
}

/**
 * @param {string} name
 * @returns {Promise<void>}
 */
function deleteDatabase(name) {
  return new Promise((resolve) => {
    const request = indexedDB.deleteDatabase(name);
    // What could not be deleted cannot be opened either.
    request.onsuccess = () => resolve();
    request.onerror = () => resolve();
    request.onblocked = () => resolve();
  });
}

/**
 * Closes a connection when the transactions that still run have ended.
 * @param {IDBDatabase} database
 */
function disconnect(database) {
  database.onversionchange = null;
  database.close();
}
