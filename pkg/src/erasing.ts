// What is to be removed from this device, noted so that a page that died on the way is followed by the next one.

import { SynclineError } from "./errors.ts";
import type { PersistenceBackend } from "./types.ts";

/** Removes the databases of sessions that were to leave nothing behind. */
export class Erasing {
  readonly #note: string;
  readonly #backend: PersistenceBackend | undefined;
  /** For where there is no `localStorage`: then it is done now or not at all. */
  #name: string | undefined;

  constructor(appName: string, backend: PersistenceBackend | undefined) {
    this.#note = `syncline_${appName}_erase`;
    this.#backend = backend;
  }

  /** Whether something is to be removed. */
  get isDue(): boolean {
    return this.#due() !== undefined;
  }

  /** Notes that a database is to be removed, when nothing of this page has it open any more. */
  add(name: string): void {
    this.#name = name;
    try {
      localStorage.setItem(this.#note, name);
    } catch {
      // See above.
    }
  }

  /**
   * Removes it.
   * @throws SynclineError STORAGE_UNAVAILABLE when a part of it stays for now.
   */
  async run(): Promise<void> {
    const name = this.#due();
    if (name === undefined) return;
    try {
      const { eraseDatabase } = await import("./erase.ts");
      await eraseDatabase(name, this.#backend);
    } catch (cause) {
      throw new SynclineError("STORAGE_UNAVAILABLE", "not everything could be erased from this device", {
        cause,
        hint: "Close the other tabs of this application. The next start tries again.",
      });
    }
    this.#name = undefined;
    try {
      localStorage.removeItem(this.#note);
    } catch {
      // See above.
    }
  }

  #due(): string | undefined {
    try {
      return this.#name ?? localStorage.getItem(this.#note) ?? undefined;
    } catch {
      return this.#name;
    }
  }
}
