// The order in which listeners hear what happened.

/** Deliveries that wait for their turn: a listener that writes adds to the end instead of interrupting another. */
export class News {
  readonly #waiting: (() => void)[] = [];
  #isDelivering = false;

  add(deliver: () => void): void {
    this.#waiting.push(deliver);
  }

  /** Delivers everything; gives `false` when a delivery under way, further up the stack, will do it. */
  deliver(): boolean {
    if (this.#isDelivering) return false;
    this.#isDelivering = true;
    try {
      for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) next();
    } finally {
      this.#isDelivering = false;
    }
    return true;
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
