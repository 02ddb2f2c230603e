// The second copy of the queue, as docs/storage.md describes it, as far as every page needs it. What writes the copy comes
// with copy_line.ts, what reads it with lost_queue.ts.
//
// A browser may lose its whole IndexedDB in a crash, whatever durability was asked for. Files are kept elsewhere.

import type { CopyLine } from "./copy_line.ts";
import type { Lost, QueueChanges, QueueNow } from "./raw.ts";
import type { StorageNotice } from "./types.ts";

export type CopiedChanges = QueueChanges | { readonly undone: readonly number[] };

/** Keeps the copy of one replica's queue. No worker runs before the first write. */
export class QueueCopy {
  readonly #tell: (notice: StorageNotice) => void;
  #name = "";
  #readQueue: (() => Promise<QueueNow>) | undefined;
  #line: Promise<CopyLine> | undefined;
  /** Whether its code could not be loaded. */
  #hasFailed = false;

  constructor(tell: (notice: StorageNotice) => void) {
    this.#tell = tell;
  }

  /** Whether this browser can keep one. */
  static get isPossible(): boolean {
    return typeof Worker === "function" && typeof navigator.storage?.getDirectory === "function";
  }

  open(name: string, readQueue: () => Promise<QueueNow>): void {
    this.#name = name;
    this.#readQueue = readQueue;
  }

  opened(): void {
    try {
      localStorage.setItem(this.#mark, "");
    } catch {
      // The files say the same, once there are any.
    }
    // The first write need not wait for it then, and says what is wrong with it.
    this.#load()?.catch(() => {});
  }

  led(): void {
    this.#line?.then((line) => line.led()).catch(() => {});
  }

  /** Resolves when the disk has it, or when there is no copy. */
  async append(changes: CopiedChanges): Promise<void> {
    try {
      const line = await this.#load();
      if (this.#hasFailed) this.#tell({ kind: "copy_resumed" });
      this.#hasFailed = false;
      await line?.append(changes);
    } catch (error) {
      if (!this.#hasFailed) this.#tell({ kind: "copy_failed", reason: String(error) });
      this.#hasFailed = true;
    }
  }

  /** What there was of a database that is new or cannot be opened; `undefined` if there never was one. */
  async recover(): Promise<Lost | undefined> {
    const folder = await this.#folder();
    if (folder !== undefined) return (await import("./lost_queue.ts")).readLost(folder);
    return this.#isMarked ? { isCopied: false, records: [], last: 0, fence: 0 } : undefined;
  }

  recovered({ records }: Lost): void {
    this.#tell({ kind: "lost", recovered: records.length });
  }

  close(): void {
    this.#readQueue = undefined;
    this.#line?.then((line) => line.close()).catch(() => {});
  }

  get #isMarked(): boolean {
    try {
      return localStorage.getItem(this.#mark) !== null;
    } catch {
      // Whoever blocks it keeps nothing else either.
      return false;
    }
  }

  get #mark(): string {
    return `${this.#name}_made`;
  }

  #load(): Promise<CopyLine> | undefined {
    const readQueue = this.#readQueue;
    if (readQueue === undefined) return undefined;
    this.#line ??= import("./copy_line.ts").then(
      ({ CopyLine }) => new CopyLine(this.#name, readQueue, this.#tell),
      (error: unknown) => {
        this.#line = undefined;
        throw error;
      },
    );
    return this.#line;
  }

  async #folder(): Promise<FileSystemDirectoryHandle | undefined> {
    try {
      return await (await navigator.storage.getDirectory()).getDirectoryHandle(this.#name);
    } catch (error) {
      // A private window has no files at all.
      const { name } = error as Error;
      if (name === "NotFoundError" || name === "SecurityError") return undefined;
      throw error;
    }
  }
}
