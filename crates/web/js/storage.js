// The store of one engine: the lock that makes it the leader, its one long-lived connection, and how a lost connection is
// mended.

import { Failure, failureOf, limit, load, UNAVAILABLE } from "./transaction.js";

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
  /** Aborted when nothing is opened any more. */
  #over = new AbortController();

  /** @param {OnEvent} onEvent @param {number} limitMs How long an open or a transaction may hang. */
  constructor(onEvent, limitMs) {
    this.#onEvent = onEvent;
    this.#limitMs = limitMs;
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
      this.#database = await this.#connect();
      const found = await load(this.#database, identity, this.#limitMs);
      if (!signal.aborted) this.#onEvent(OPENED, "", found, found.fence);
    } catch (thrown) {
      this.#fail(failureOf(thrown));
    }
  }

  /**
   * Carries out one request.
   * @param {number} id
   * @param {StoreRequest} request
   */
  async run(id, request) {
    this.#running += 1;
    try {
      const found = await this.#attempt(request);
      this.#onEvent(STORED, "", found, id, 0, Number(found.hasKeys));
    } catch (thrown) {
      const { kind, message } = failureOf(thrown);
      this.#onEvent(STORED, message, undefined, id, kind);
    }
    this.#running -= 1;
    if (this.#running === 0) this.#onQuiet?.();
  }

  /** Says that the engine stops, waits until no request runs and none follows, then lets go of everything. */
  async close() {
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

  /** @param {Failure} failure */
  #fail({ kind, message }) {
    if (this.#over.signal.aborted) return;
    this.#giveUp();
    this.#onEvent(OPEN_FAILED, message, undefined, kind);
  }

  async #connect() {
    const database = await openDatabase(this.#name, this.#limitMs);
    if (this.#over.signal.aborted) {
      // Stopped meanwhile: nobody else would close it.
      database.close();
      throw new Failure(UNAVAILABLE, "the database is closed");
    }
    database.onversionchange = () =>
      this.#fail(new Failure(UNAVAILABLE, "another tab upgrades or deletes the database; reload this one"));
    return database;
  }

  /**
   * A connection that the browser dropped (Safari does so when its storage process dies) fails for ever, so it is opened
   * again and the request repeated. Every request may be: a commit that is done already is recognised, and a write that
   * is stored twice has one op_id, which the server answers once.
   * @param {StoreRequest} request
   */
  async #attempt(request) {
    const used = this.#database;
    if (used === undefined) throw new Failure(UNAVAILABLE, "the database is closed");
    try {
      return await request.run(used, this.#limitMs);
    } catch (thrown) {
      const failure = failureOf(thrown);
      const reopened = failure.kind === UNAVAILABLE ? await this.#reopened(used) : undefined;
      if (reopened === undefined) throw failure;
      return request.run(reopened, this.#limitMs);
    }
  }

  /**
   * Replaces a broken connection, unless somebody else has.
   * @param {IDBDatabase} broken
   */
  async #reopened(broken) {
    if (this.#database === broken && this.#reopening === undefined && this.#reopensLeft > 0) {
      this.#reopening = this.#reopen(broken);
    }
    await this.#reopening;
    return this.#database === broken ? undefined : this.#database;
  }

  /** @param {IDBDatabase} broken */
  async #reopen(broken) {
    this.#reopensLeft -= 1;
    try {
      this.#database = await this.#connect();
      disconnect(broken);
    } catch {
      // The requests end with the failure they had.
    }
    this.#reopening = undefined;
  }
}

/** The version this build reads and writes. */
const VERSION = 1;

/**
 * Opens a database, making or upgrading it as needed.
 * @param {string} name
 * @param {number} limitMs Some versions of WebKit never answer the first request.
 * @returns {Promise<IDBDatabase>}
 */
function openDatabase(name, limitMs) {
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
