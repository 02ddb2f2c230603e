// What to do when WebAssembly broke down, by how often it did.

import { SynclineError } from "./errors.ts";

/** How the engine goes on: from all that is on the disk, from the queue alone, or not at all. */
export type Recovery = "all" | "queue" | "none";

/** The breakdowns of one engine. Those that are long past were others. */
export class Breakdowns {
  #times: readonly number[] = [];

  /** Counts another one. */
  add(now: number): Recovery {
    this.#times = [...this.#times.filter((time) => now - time < RECENT_MS), now];
    if (this.#times.length > RECOVERIES_MAX) return "none";
    return this.#times.length > 1 ? "queue" : "all";
  }
}

/** What the application hears of it. */
export function breakdownError(message: string, recovery: Recovery): SynclineError {
  return new SynclineError("INTERNAL", `the engine broke down: ${message}`, { hint: HINTS[recovery] });
}

const RECENT_MS = 30_000;
/** Recoveries in that time. What breaks more often is not mended by another one. */
const RECOVERIES_MAX = 3;

const HINTS: Readonly<Record<Recovery, string>> = {
  all: "It was opened again from its database: rows and queue are as they were on disk.",
  queue:
    "It broke down twice within 30 s, so only the queue was read again and the rows are fetched anew. `export()` keeps what is there.",
  none: "It breaks down again and again and stays closed; what is on disk stays there. `start()` or a reload tries again.",
};
