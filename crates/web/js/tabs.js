// The other tabs of a replica: the lock that one of them holds, and the channel on which each tells the others what it did.

import { heard } from "./store_request.js";

/** @typedef {import("./page.js").OnEvent} OnEvent */
/** @typedef {import("./store_request.js").StoreRequest} StoreRequest */

// What it tells WebAssembly. `event.rs` reads this number.
const TAB_HEARD = 16;

/**
 * A message to the other tabs: what was stored, or what the core has to say.
 * @typedef {{ tab: number, number: number, request?: StoreRequest, keys?: number[], said?: string }} Message
 */

/** Tells the other tabs, and hears them. */
export class Channel {
  #onEvent;
  /** @type {BroadcastChannel | undefined} */
  #channel;
  #tab = Math.floor(Math.random() * Number.MAX_SAFE_INTEGER);
  #sent = 0;
  /** Whether there was a sign of another tab: rows are not copied for nobody. */
  hasOthers = false;

  /** @param {OnEvent} onEvent */
  constructor(onEvent) {
    this.#onEvent = onEvent;
  }

  /** @param {string} name Of the replica whose tabs these are. */
  open(name) {
    if (globalThis.BroadcastChannel === undefined) return;
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = ({ data }) => {
      const { tab, number, request, keys, said } = /** @type {Message} */ (data);
      this.hasOthers = true;
      if (request === undefined) this.#onEvent(TAB_HEARD, said ?? "", undefined, tab, number);
      else this.#onEvent(TAB_HEARD, request.kind, heard(request, keys ?? []), tab, number);
    };
    // Node goes on running while a channel is open.
    /** @type {{ unref?(): void }} */ (this.#channel).unref?.();
  }

  /** @param {string} said */
  say(said) {
    this.#post({ said });
  }

  /** @param {StoreRequest} request @param {number[]} keys Those that it gave. */
  stored(request, keys) {
    if (this.hasOthers) this.#post({ request, keys });
  }

  close() {
    this.#channel?.close();
    this.#channel = undefined;
  }

  /** @param {Partial<Message>} message */
  #post(message) {
    this.#sent += 1;
    this.#channel?.postMessage({ ...message, tab: this.#tab, number: this.#sent });
  }
}

/**
 * The lock of a replica. Its holder leads; the browser passes it on when the holder's tab goes, however it goes. Without Web
 * Locks whoever asks has it, and the fence keeps two from writing.
 */
export class Lead {
  #name;
  #onGranted;
  #onLost;
  /** @type {(() => void) | undefined} */
  #release;
  /** @type {AbortController | undefined} Of the place in the line. */
  #waiting;
  #isOver = false;

  /**
   * @param {string} name
   * @param {() => void} onGranted The lock came after a wait.
   * @param {() => void} onLost Another tab took it.
   */
  constructor(name, onGranted, onLost) {
    this.#name = name;
    this.#onGranted = onGranted;
    this.#onLost = onLost;
  }

  /** Takes the lock if nobody has it; says whether it was taken. */
  take() {
    return this.#request({ ifAvailable: true });
  }

  /** Takes the lock from whoever has it. */
  async steal() {
    this.#waiting?.abort();
    return this.#request({ steal: true });
  }

  /** Lets the lock go and stands in line for it. */
  resign() {
    if (this.#release === undefined) return;
    this.#letGo();
    void this.wait();
  }

  /** Neither holds the lock nor waits for it any more. */
  close() {
    this.#isOver = true;
    this.#waiting?.abort();
    this.#letGo();
  }

  #letGo() {
    this.#release?.();
    this.#release = undefined;
  }

  /** Stands in line for the lock. */
  async wait() {
    if (this.#isOver) return;
    const waiting = new AbortController();
    this.#waiting = waiting;
    const isGranted = await this.#request({ signal: waiting.signal });
    if (isGranted && !this.#isOver) this.#onGranted();
  }

  /**
   * @param {LockOptions} options
   * @returns {Promise<boolean>} Whether it is this tab's now.
   */
  #request(options) {
    return new Promise((answer) => {
      /** @type {(() => void) | undefined} */
      let release;
      const ended = () => {
        // Refused before it was granted, or taken away.
        answer(false);
        if (release === undefined || this.#release !== release) return;
        this.#release = undefined;
        this.#onLost();
        void this.wait();
      };
      try {
        // The lock is held for as long as the promise that the callback returns is pending.
        const held = navigator.locks.request(this.#name, options, (lock) => {
          if (lock === null || this.#isOver) return answer(false);
          return new Promise((end) => {
            release = () => end(undefined);
            this.#release = release;
            answer(true);
          });
        });
        held.catch(ended);
      } catch {
        // An opaque origin has the interface and refuses its use, an insecure one has none.
        answer(options.signal === undefined);
      }
    });
  }
}
