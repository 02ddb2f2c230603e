// A page's line to the worker that writes the second copy of the queue. Loaded once the database is open.
//
// It imports nothing but types, for the reason given in on_demand.ts.

import type { CopiedChanges } from "./queue_copy.ts";
import type { QueueNow } from "./raw.ts";
import type { StorageNotice } from "./types.ts";

/** What the page tells the worker. */
export type ToWorker =
  | { readonly name: string }
  | { readonly queue: QueueNow | undefined }
  | { readonly leads: true }
  | { readonly id: number; readonly changes: CopiedChanges };

/** What the worker says: that it wants to know the whole queue, or what became of some changes. */
export interface FromWorker {
  readonly id?: number;
  readonly error?: string;
}

/** How long a write waits for the copy. */
const LIMIT_MS = 5000;
/** Workers that failed in a row, after which there is no copy in this session. */
const FAILURES_MAX = 3;

export class CopyLine {
  readonly #name: string;
  readonly #readQueue: () => Promise<QueueNow>;
  readonly #tell: (notice: StorageNotice) => void;
  #worker: Worker | undefined;
  #calls = 0;
  readonly #waiting: Map<number, (error: string | undefined) => void> = new Map();
  #failures = 0;
  #hasFailed = false;
  #isClosed = false;

  constructor(name: string, readQueue: () => Promise<QueueNow>, tell: (notice: StorageNotice) => void) {
    this.#name = name;
    this.#readQueue = readQueue;
    this.#tell = tell;
  }

  led(): void {
    this.#worker?.postMessage({ leads: true } satisfies ToWorker);
  }

  async append(changes: CopiedChanges): Promise<void> {
    if (this.#isClosed || this.#failures >= FAILURES_MAX) return;
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
    if (!this.#isClosed) this.#note(error);
  }

  close(): void {
    this.#isClosed = true;
    this.#worker?.terminate();
    this.#settle(undefined);
  }

  #post(message: ToWorker): void {
    try {
      this.#worker ??= this.#start();
      this.#worker.postMessage(message);
    } catch (error) {
      this.#break(String(error));
    }
  }

  #start(): Worker {
    // Bundlers find the script by this pattern.
    const worker = new Worker(new URL("./queue_copy_worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#heard(data);
    worker.onerror = (event) => this.#break(event.message || "its worker cannot be loaded");
    worker.postMessage({ name: this.#name } satisfies ToWorker);
    return worker;
  }

  #heard({ id, error }: FromWorker): void {
    if (id === undefined) {
      const answer = (queue: QueueNow | undefined) => this.#worker?.postMessage({ queue } satisfies ToWorker);
      this.#readQueue().then(answer, () => answer(undefined));
      return;
    }
    if (error === undefined) this.#failures = 0;
    const resolve = this.#waiting.get(id);
    this.#waiting.delete(id);
    resolve?.(error);
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

/** Makes the copy of a database what its queue is now. No engine may have the database open. */
export async function renewCopy(name: string, readQueue: () => Promise<QueueNow>): Promise<void> {
  const line = new CopyLine(name, readQueue, () => {});
  // The first answer comes before the file is written anew, the second one after it.
  await line.append({ undone: [] });
  await line.append({ undone: [] });
  line.close();
}
