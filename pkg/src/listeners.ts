// Sets of listeners in which one that throws does not silence the others.

import type { Unsubscribe } from "./types.ts";

/** Listeners for one kind of news. */
export class Listeners<T> {
  readonly #entries: Set<{ readonly call: (news: T) => void }> = new Set();
  readonly #onThrow: (thrown: unknown) => void;

  constructor(onThrow: (thrown: unknown) => void) {
    this.#onThrow = onThrow;
  }

  /** Whether nobody listens. */
  get isEmpty(): boolean {
    return this.#entries.size === 0;
  }

  /** Adds a listener; the same function twice is called twice. */
  add(call: (news: T) => void): Unsubscribe {
    const entry = { call };
    this.#entries.add(entry);
    return () => {
      this.#entries.delete(entry);
    };
  }

  /** Calls those that listen now; one that is removed meanwhile is not called any more. */
  emit(news: T): void {
    for (const entry of [...this.#entries]) {
      if (!this.#entries.has(entry)) continue;
      try {
        entry.call(news);
      } catch (thrown) {
        this.#onThrow(thrown);
      }
    }
  }
}
