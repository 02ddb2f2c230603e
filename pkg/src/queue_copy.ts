// The second copy of the queue, as docs/storage.md describes it: this page's line to the worker that writes it.
//
// A browser may lose its whole IndexedDB in a crash, whatever durability was asked for. Files are kept elsewhere.

import type { Lost, QueueChanges, QueueNow } from "./raw.ts";
import type { StorageNotice } from "./types.ts";

/** What the page tells the worker. */
export type ToWorker =
  | { readonly name: string }
  | { readonly queue: QueueNow | undefined }
  | { readonly leads: true }
  | { readonly id: number; readonly changes: CopiedChanges };

export type CopiedChanges = QueueChanges | { readonly undone: readonly number[] };

/** What the worker says: that it wants to know the whole queue, or what became of some changes. */
export interface FromWorker {
  readonly id?: number;
  readonly error?: string;
}

/** How long a write waits for the copy. */
const LIMIT_MS = 5000;
/** Workers that failed in a row, after which there is no copy in this session. */
const FAILURES_MAX = 3;

/** Keeps the copy of one replica's queue. Nothing runs before the first write. */
export class QueueCopy {
  readonly #tell: (notice: StorageNotice) => void;
  #name = "";
  #readQueue: (() => Promise<QueueNow>) | undefined;
  #worker: Worker | undefined;
  #calls = 0;
  readonly #waiting: Map<number, (error: string | undefined) => void> = new Map();
  #failures = 0;
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
  }

  led(): void {
    this.#post({ leads: true });
  }

  async append(changes: CopiedChanges): Promise<void> {
    if (this.#readQueue === undefined || this.#failures >= FAILURES_MAX) return;
    this.#worker ??= this.#start();
    this.#calls += 1;
    const id = this.#calls;
    const error = await new Promise<string | undefined>((resolve) => {
      // In two parts: a machine that slept in one of them hears the answers that came meanwhile before the second is over.
      let isHalf = false;
      const timer = setInterval(() => {
        if (isHalf) this.#break(`it took longer than ${LIMIT_MS / 1000} s`);
        isHalf = true;
      }, LIMIT_MS / 2);
      this.#waiting.set(id, (error) => {
        clearInterval(timer);
        resolve(error);
      });
      this.#post({ id, changes });
    });
    this.#note(error);
  }

  /** What there was of a database that is new or cannot be opened; `undefined` if there never was one. */
  async recover(): Promise<Lost | undefined> {
    const folder = await this.#folder();
    if (folder !== undefined) return (await import("./lost_queue.ts")).readLost(folder);
    const isMarked = localStorage.getItem(this.#mark) !== null;
    return isMarked ? { isCopied: false, records: [], last: 0, fence: 0 } : undefined;
  }

  recovered({ records }: Lost): void {
    this.#tell({ kind: "lost", recovered: records.length });
  }

  close(): void {
    this.#readQueue = undefined;
    this.#worker?.terminate();
    this.#settle(undefined);
  }

  get #mark(): string {
    return `${this.#name}_made`;
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

  #start(): Worker {
    try {
      // Bundlers find the script by this pattern.
      const worker = new Worker(new URL("./queue_copy_worker.js", import.meta.url), { type: "module" });
      worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#heard(data);
      worker.onerror = (event) => this.#break(event.message || "its worker cannot be loaded");
      worker.postMessage({ name: this.#name } satisfies ToWorker);
      return worker;
    } catch (error) {
      queueMicrotask(() => this.#break(String(error)));
      return { postMessage() {}, terminate() {} } as unknown as Worker;
    }
  }

  #heard({ id, error }: FromWorker): void {
    if (id === undefined) {
      this.#readQueue?.().then(
        (queue) => this.#post({ queue }),
        () => this.#post({ queue: undefined }),
      );
      return;
    }
    if (error === undefined) this.#failures = 0;
    const resolve = this.#waiting.get(id);
    this.#waiting.delete(id);
    resolve?.(error);
  }

  #post(message: ToWorker): void {
    this.#worker?.postMessage(message);
  }

  /** The worker is of no use. The next change of the queue starts another one, which begins with the whole queue. */
  #break(reason: string): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#failures += 1;
    this.#settle(reason);
  }

  #settle(error: string | undefined): void {
    for (const resolve of this.#waiting.values()) resolve(error);
    this.#waiting.clear();
  }

  /** Said once, until it works again. */
  #note(reason: string | undefined): void {
    const hasFailed = reason !== undefined;
    if (hasFailed === this.#hasFailed) return;
    this.#hasFailed = hasFailed;
    this.#tell(hasFailed ? { kind: "copy_failed", reason } : { kind: "copy_resumed" });
  }
}
