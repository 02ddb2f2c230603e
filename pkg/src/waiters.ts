// Promises that wait for the engine to get somewhere.

import { type Deferred, defer } from "./deferred.ts";

/** Conditions that are looked at again after everything that happens. */
export class Waiters {
  #waiting: { readonly isMet: () => boolean; readonly deferred: Deferred<void> }[] = [];

  /** Resolves as soon as the condition holds. */
  until(isMet: () => boolean): Promise<void> {
    if (isMet()) return Promise.resolve();
    const deferred = defer<void>();
    this.#waiting.push({ isMet, deferred });
    return deferred.promise;
  }

  /** Something happened. */
  check(): void {
    if (this.#waiting.length === 0) return;
    const met = this.#waiting.filter(({ isMet }) => isMet());
    this.#waiting = this.#waiting.filter((waiter) => !met.includes(waiter));
    for (const { deferred } of met) deferred.resolve();
  }

  /** Nothing will happen any more. */
  reject(reason: unknown): void {
    for (const { deferred } of this.#waiting.splice(0)) deferred.reject(reason);
  }
}
