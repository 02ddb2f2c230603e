// The store of one engine: the lock that makes it the leader, its one long-lived connection, and how a lost connection is
// mended.

import { CLEARED, Failure, FULL, failureOf, limit, load, UNAVAILABLE } from "./transaction.js";

/** @typedef {import("./page.js").OnEvent} OnEvent */
/** @typedef {import("./transaction.js").StoreRequest} StoreRequest */

// What it tells WebAssembly. `event.rs` reads these numbers.
const WAITING = 10;
const OPENED = 11;
const OPEN_FAILED = 12;
const STORED = 13;
const STOPPING = 14;
const STOPPED = 15;

/** Lost connections that are mended in one session; storage that breaks more often is not to be trusted. */
const REOPENS_MAX = 3;

export class Storage {
  /** @type {OnEvent} */
  #onEvent;
  #limitMs;
  #openDatabase;
  #name = "";
  /** @type {IDBDatabase | undefined} */
  #database;
  /** @type {(() => void) | undefined} */
  #releaseLock;
  #reopensLeft = REOPENS_MAX;
  /** @type {Promise<void> | undefined} Shared by all requests that lost the same connection. */
  #reopening;
  /** Requests from the moment the core asks until it was told and has asked for whatever comes next. */
  #running = 0;
  /** @type {(() => void) | undefined} */
  #onQuiet;
  /** @type {Promise<void> | undefined} */
  #closing;
  /** Aborted when nothing is opened any more. */
  #over = new AbortController();

  /**
   * @param {OnEvent} onEvent
   * @param {number} limitMs How long an open or a transaction may hang.
   * @param {typeof openIndexedDb} [openDatabase] Opens the application's own database.
   */
  constructor(onEvent, limitMs, openDatabase = openIndexedDb) {
    this.#onEvent = onEvent;
    this.#limitMs = limitMs;
    this.#openDatabase = openDatabase;
  }

  /**
   * Becomes the leader, however long that takes, opens the database and reads everything there is.
   * @param {string} name
   * @param {string} identity For people.
   */
  async open(name, identity) {
    const { signal } = this.#over;
    this.#name = name;
    const release = await lead(name, signal, (waits) => this.#onEvent(WAITING, "", undefined, Number(waits)));
    if (signal.aborted) return release?.();
    this.#releaseLock = release;
    try {
      await this.#connect(true);
      const found = await this.#load(identity);
      if (!signal.aborted) this.#onEvent(OPENED, "", found, found.fence);
    } catch (thrown) {
      const failure = failureOf(thrown);
      // A full disk takes no new leader, but what is on it can be read and shown.
      const found = failure.kind === FULL ? await this.#load().catch(() => undefined) : undefined;
      this.#fail(failure, found);
    }
  }

  /**
   * Carries out one request.
   * @param {number} id
   * @param {StoreRequest} request
   */
  async run(id, request) {
    this.#running += 1;
    const found = await this.#attempt(request).catch(failureOf);
    if (found instanceof Failure) this.#onEvent(STORED, found.message, undefined, id, found.kind);
    else this.#onEvent(STORED, "", found, id, 0, Number(found.hasKeys));
    this.#running -= 1;
    if (this.#running === 0) this.#onQuiet?.();
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
    this.#releaseLock?.();
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

  /** @param {string} [identity] Without one, nothing is written. */
  async #load(identity) {
    return load(this.#connection(), identity, this.#limitMs);
  }

  #connection() {
    if (this.#database === undefined) throw new Failure(UNAVAILABLE, "the database is closed");
    return this.#database;
  }

  /** @param {boolean} mayMake Whether a database that is not there is made. */
  async #connect(mayMake) {
    const database = await this.#openDatabase(this.#name, mayMake, this.#limitMs);
    if (this.#over.signal.aborted) {
      // Stopped meanwhile: nobody else would close it.
      database.close();
      throw new Failure(UNAVAILABLE, "the database is closed");
    }
    database.onversionchange = () =>
      this.#fail(new Failure(UNAVAILABLE, "another tab upgrades or deletes the database; reload this one"));
    this.#database = database;
  }

  /**
   * A connection that the browser dropped (Safari does so when its storage process dies) fails for ever, so it is opened
   * again and the request repeated. Every request may be: what is done already is recognised.
   * @param {StoreRequest} request
   */
  async #attempt(request) {
    const used = this.#connection();
    try {
      return await request.run(used, this.#limitMs);
    } catch (thrown) {
      const failure = failureOf(thrown);
      const other = failure.kind === UNAVAILABLE ? await this.#inPlaceOf(used) : undefined;
      if (other === undefined) throw failure;
      request.isRepeated = true;
      return request.run(other, this.#limitMs);
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

/** The version this build reads and writes. */
const VERSION = 1;

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
    const request = indexedDB.open(name, VERSION);
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
      try {
        // Writes that were stored would be missing from another database, and their keys would be given out again.
        if (oldVersion === 0 && !mayMake) throw new Failure(CLEARED, "site data was cleared");
        upgrade(request.result, oldVersion);
      } catch (thrown) {
        failure = thrown;
        // Otherwise the browser would keep the stores that were made so far, under the new version.
        request.transaction?.abort();
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
 * Runs the steps that lead from a version to this one. A released step is never changed: every version has a stored
 * fixture in `tests/browser/fixtures/` that must open.
 * @param {IDBDatabase} database
 * @param {number} from
 */
function upgrade(database, from) {
  if (from < 1) {
    // All keys are out of line: WebKit was seen to fail when it puts a key into a value.
    database.createObjectStore("entities");
    database.createObjectStore("cursors");
    database.createObjectStore("pendingMutations", { autoIncrement: true });
    database.createObjectStore("journal", { autoIncrement: true });
  }
}

/**
 * Closes a connection when the transactions that still run have ended.
 * @param {IDBDatabase} database
 */
function disconnect(database) {
  database.onversionchange = null;
  database.close();
}

/**
 * Takes the lock that makes one tab the leader of a replica, and gives what releases it; the browser does so too when the
 * tab goes, however it goes. Without Web Locks, or after the abort, there is nothing to release: the fence still protects
 * every commit.
 * @param {string} name
 * @param {AbortSignal} signal
 * @param {(waits: boolean) => void} onWait
 */
async function lead(name, signal, onWait) {
  const taken = await requestLock(name, { ifAvailable: true });
  if (taken !== null || signal.aborted) return taken ?? undefined;
  onWait(true);
  const granted = await requestLock(name, { signal });
  if (!signal.aborted) onWait(false);
  return granted ?? undefined;
}

/**
 * Gives what releases the lock, `null` if it was not granted, `undefined` where there are no locks: an opaque origin has
 * the interface and refuses its use.
 * @param {string} name
 * @param {LockOptions} options
 * @returns {Promise<(() => void) | null | undefined>}
 */
function requestLock(name, options) {
  return new Promise((answer) => {
    const refused = () => answer(undefined);
    try {
      // The lock is held for as long as the promise that the callback returns is pending.
      const held = navigator.locks.request(name, options, (lock) =>
        lock === null ? answer(null) : new Promise((release) => answer(() => release(undefined))),
      );
      held.catch(refused);
    } catch {
      refused();
    }
  });
}
