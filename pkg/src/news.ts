// What the application's listeners hear, in order, and the status they see.

import { SynclineError } from "./errors.ts";
import { Listeners } from "./listeners.ts";
import { IDLE } from "./status.ts";
import type { Status, Unsubscribe } from "./types.ts";

interface Waiting {
  readonly isMet: () => boolean;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
}

/** Deliveries that wait for their turn: a listener that writes adds to the end instead of interrupting another. */
export class News {
  readonly #deliveries: (() => void)[] = [];
  #waiting: readonly Waiting[] = [];
  readonly #statusListeners: Listeners<Status>;
  /** A listener for errors that throws must not be told of it again. */
  readonly #errorListeners: Listeners<SynclineError> = new Listeners(reportUncaught);
  #isDelivering = false;
  #status: Status = IDLE;

  constructor() {
    this.#statusListeners = new Listeners(this.listenerThrew);
  }

  get status(): Status {
    return this.#status;
  }

  onStatus(listener: (status: Status) => void): Unsubscribe {
    return this.#statusListeners.add(listener);
  }

  onError(listener: (error: SynclineError) => void): Unsubscribe {
    return this.#errorListeners.add(listener);
  }

  setStatus(status: Status): void {
    this.#status = Object.freeze(status);
    this.add(() => {
      if (this.#status === status) this.#statusListeners.emit(status);
    });
  }

  /** Says what the status is now. */
  show(status: Status): void {
    this.setStatus(status);
    this.deliver();
  }

  tellError(error: SynclineError): void {
    this.add(() => this.#errorListeners.emit(error));
  }

  /** What becomes of an exception in a listener. */
  readonly listenerThrew = (thrown: unknown): void => {
    if (this.#errorListeners.isEmpty) reportUncaught(thrown);
    else
      this.tellError(new SynclineError("INTERNAL", "a listener of the application threw", { cause: thrown }));
  };

  add(deliver: () => void): void {
    this.#deliveries.push(deliver);
  }

  /** Delivers everything, then looks who waited for it. A delivery under way, further up the stack, will do both. */
  deliver(): void {
    if (this.#isDelivering) return;
    this.#isDelivering = true;
    try {
      for (let next = this.#deliveries.shift(); next !== undefined; next = this.#deliveries.shift()) next();
    } finally {
      this.#isDelivering = false;
    }
    this.#waiting = this.#waiting.filter(({ isMet, resolve, reject }) => {
      try {
        if (!isMet()) return true;
        resolve();
      } catch (thrown) {
        // The condition may be the application's own.
        reject(thrown);
      }
      return false;
    });
  }

  /** Resolves as soon as the condition holds; looked at after every delivery. */
  until(isMet: () => boolean): Promise<void> {
    return new Promise((done, reject) => {
      if (isMet()) return done();
      this.#waiting = [...this.#waiting, { isMet, resolve: () => done(), reject }];
    });
  }

  /** Nobody who waits will get what he waits for. */
  giveUp(reason: SynclineError): void {
    for (const { reject } of this.#waiting) reject(reason);
    this.#waiting = [];
  }
}

/** Shows an error where uncaught ones are shown, without stopping the caller. */
export function reportUncaught(thrown: unknown): void {
  if (typeof reportError === "function") reportError(thrown);
  else
    queueMicrotask(() => {
      throw thrown;
    });
}
