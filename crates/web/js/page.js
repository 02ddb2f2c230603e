// What a page, a worker or Node gives an engine besides storage and network: time, events, randomness, and a place for
// the identities of known tokens.

/**
 * How everything that happens reaches WebAssembly: a number that says what, and what belongs to it.
 * @typedef {(kind: number, text: string, data?: unknown, a?: number, b?: number, c?: number) => void} OnEvent
 */

// What it tells WebAssembly. `event.rs` reads these numbers.
const WAKE = 0;
const TICK = 1;
const LEAD_LOST = 2;

/** A wall clock that got ahead by more than this is believed, in milliseconds. */
const AHEAD_MS_MAX = 1000;
/** A browser takes a delay as a signed 32-bit number and fires at once beyond it. Waking early is harmless. */
const DELAY_MS_MAX = 0x7fff_ffff;

/** @type {Set<Page>} Those of all engines that were not let go. */
const pages = new Set();

export class Page {
  #onEvents;
  #network;
  #storage;
  #offset = Date.now() - performance.now();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #onTick;
  #onLifecycle;
  #onSleep;

  /**
   * Gives a listener that everything in `js/` calls in place of the one in WebAssembly. What that throws is a trap, a stack
   * that overflowed or a memory that is full: it leaves the instance unusable, and nobody further up could mend it.
   * @param {OnEvent} onEvent
   * @returns {OnEvent}
   */
  static guard(onEvent) {
    return (...event) => {
      try {
        onEvent(...event);
      } catch (thrown) {
        brokeDown(String(thrown));
      }
    };
  }

  /**
   * @param {OnEvent} onEvent
   * @param {(eventsJson: string, binaryFrame?: Uint8Array) => void} onEvents
   * @param {import("./network.js").Network} network
   * @param {import("./storage.js").Storage} storage
   */
  constructor(onEvent, onEvents, network, storage) {
    this.#onEvents = onEvents;
    this.#network = network;
    this.#storage = storage;
    network.onBinary = (frame) => this.tell("[]", frame);
    this.#onTick = () => onEvent(TICK, "");
    // A hidden page's timers run once a minute and its sockets are cut at will, so it is woken when it is seen again.
    this.#onLifecycle = () => {
      storage.wake();
      globalThis.document?.hidden || onEvent(WAKE, "");
    };
    // A page that sleeps keeps its lock, so it lets the lead go before.
    this.#onSleep = (/** @type {Event} */ event) => {
      if (event.type !== "freeze" && !(/** @type {PageTransitionEvent} */ (event).persisted)) return;
      storage.sleep();
      onEvent(LEAD_LOST, "");
    };
    pages.add(this);
  }

  /**
   * Milliseconds since 1970 that never run backwards.
   *
   * The monotonic clock carries the wall clock's reading from the start, because a wall clock set back by an hour would
   * stretch every wait by an hour. It stands still while some systems sleep, so a wall clock that got ahead is believed.
   */
  now() {
    const monotonic = performance.now();
    const wall = Date.now();
    if (wall > monotonic + this.#offset + AHEAD_MS_MAX) this.#offset = wall - monotonic;
    return monotonic + this.#offset;
  }

  /**
   * Ticks after a time, in place of whatever was arranged before; without one, never.
   * @param {number} [delayMs]
   */
  tickAfter(delayMs) {
    clearTimeout(this.#timer);
    if (delayMs !== undefined) this.#timer = setTimeout(this.#onTick, Math.min(delayMs, DELAY_MS_MAX));
  }

  /**
   * Listens for what is worth another try: online again, visible again, back from the cache.
   *
   * Not for `offline`: `navigator.onLine` is a hint too weak to stop trying for. And nothing is left to be written when a page
   * goes: a transaction begun then may never finish.
   */
  listen() {
    globalThis.addEventListener?.("online", this.#onLifecycle);
    globalThis.addEventListener?.("pageshow", this.#onLifecycle);
    globalThis.addEventListener?.("pagehide", this.#onSleep);
    globalThis.document?.addEventListener("visibilitychange", this.#onLifecycle);
    globalThis.document?.addEventListener("resume", this.#onLifecycle);
    globalThis.document?.addEventListener("freeze", this.#onSleep);
  }

  /**
   * Tells the facade. What a listener throws is its own business and must not unwind through WebAssembly.
   * @param {string} eventsJson
   * @param {Uint8Array} [binaryFrame]
   */
  tell(eventsJson, binaryFrame) {
    try {
      this.#onEvents(eventsJson, binaryFrame);
    } catch {
      // The facade reports what its listeners throw.
    }
  }

  /** Neither ticks nor wakes nor talks any more. Storage goes on. */
  close() {
    clearTimeout(this.#timer);
    globalThis.removeEventListener?.("online", this.#onLifecycle);
    globalThis.removeEventListener?.("pageshow", this.#onLifecycle);
    globalThis.removeEventListener?.("pagehide", this.#onSleep);
    globalThis.document?.removeEventListener("visibilitychange", this.#onLifecycle);
    globalThis.document?.removeEventListener("resume", this.#onLifecycle);
    globalThis.document?.removeEventListener("freeze", this.#onSleep);
    this.#network.close();
  }

  /** Lets go of everything at once: another tab may lead then. */
  abandon() {
    pages.delete(this);
    this.close();
    this.#storage.abandon();
  }
}

/**
 * Tells all engines that WebAssembly broke down and lets go of what they hold, after the trap has unwound JavaScript's stack.
 * @param {string} message
 */
export function brokeDown(message) {
  const events = JSON.stringify([{ type: "broke_down", message }]);
  const all = [...pages];
  queueMicrotask(() => {
    // Told once, however many calls failed before.
    const broken = all.filter((page) => pages.has(page));
    // All are let go before the first is told: it may begin anew at once.
    for (const page of broken) page.abandon();
    for (const page of broken) page.tell(events);
  });
}

/** 32 bytes of the platform's cryptographic randomness. */
export function randomSeed() {
  return crypto.getRandomValues(new Uint8Array(32));
}

/**
 * An error that carries a code; the facade rethrows it as `SynclineError`.
 * @param {string} code
 * @param {string} message
 */
export function codedError(code, message) {
  return Object.assign(new Error(message), { code });
}

/** How many tokens are remembered: several users of one browser, and a token or two of each that was renewed. */
const KNOWN_MAX = 8;

/** @typedef {{ token_hash: string, identity: unknown }} Known */

/**
 * Gives the identity a token is known to have, as JSON.
 *
 * The map lets a page that starts without a network show the right user's rows. It holds hashes of tokens, never tokens,
 * and lives in `localStorage` because it must be read before any database is chosen.
 * @param {string} map
 * @param {string} hash
 * @returns {string | undefined}
 */
export function recallIdentity(map, hash) {
  return JSON.stringify(knownIdentities(map).find((known) => known.token_hash === hash)?.identity);
}

/**
 * Keeps what the server said about a token. Where there is no `localStorage` the next start asks again.
 * @param {string} map
 * @param {string} hash
 * @param {string} identity
 */
export function rememberIdentity(map, hash, identity) {
  const others = knownIdentities(map).filter((known) => known.token_hash !== hash);
  keep(map, [{ token_hash: hash, identity: JSON.parse(identity) }, ...others].slice(0, KNOWN_MAX));
}

/**
 * Forgets whose a token is, so that the next start asks the server; with an identity, all tokens of that.
 * @param {string} map
 * @param {string} [hash]
 * @param {string} [identity]
 */
export function forgetIdentity(map, hash, identity) {
  const known = knownIdentities(map);
  const kept = known.filter(
    (other) => other.token_hash !== hash && JSON.stringify(other.identity) !== identity,
  );
  if (kept.length < known.length) keep(map, kept);
}

/**
 * @param {string} map
 * @param {Known[]} known
 */
function keep(map, known) {
  try {
    localStorage.setItem(map, JSON.stringify(known));
  } catch {
    // A full or refused storage costs an offline start, nothing else.
  }
}

/**
 * @param {string} map
 * @returns {Known[]}
 */
function knownIdentities(map) {
  try {
    const known = JSON.parse(localStorage.getItem(map) ?? "");
    return Array.isArray(known) ? known.filter((entry) => entry?.token_hash) : [];
  } catch {
    return [];
  }
}
