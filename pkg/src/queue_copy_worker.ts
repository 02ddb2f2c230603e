// The worker that writes the second copy of the queue: one file for each tab, in a folder that is named like the database.
//
// Built as a file of its own: it may share nothing with the page, and bundlers find it by its address in copy_line.ts.

import type { FromWorker, ToWorker } from "./copy_line.ts";
import type { CopiedChanges } from "./queue_copy.ts";
import { decode, type Entry, encode, encodeKeys, HEAD, KIND } from "./queue_copy_format.ts";
import type { QueueNow } from "./raw.ts";

/** A file that grew to this size is written anew, once it is also several times as large as when that was done last. */
const REWRITE_BYTES_MIN = 256 * 1024;
const GROWTH_MAX = 4;
/** A file without a record that is left is written anew earlier: what it holds is no business of a disk any more. */
const EMPTY_BYTES_MAX = 64 * 1024;
/** Attempts to have a file for oneself before another tab takes it for one that was left behind. */
const CREATE_ATTEMPTS = 3;

/** The parts of the interfaces of workers that are used here; the settings of this package know only those of pages. */
interface SyncHandle {
  write(bytes: Uint8Array, options: { at: number }): number;
  read(bytes: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}
type FileHandle = FileSystemFileHandle & { createSyncAccessHandle(): Promise<SyncHandle> };
declare function postMessage(message: FromWorker): void;

interface OpenFile {
  readonly name: string;
  readonly handle: SyncHandle;
}

class Copy {
  readonly #folder: FileSystemDirectoryHandle;
  #file: OpenFile;
  #end = HEAD.length;
  /** Its size when it was written anew. */
  #base = 0;
  /** The records of this file that are left. */
  #keys: Set<number> = new Set();
  /** The highest key that is known to have been given out for good. */
  #last = 0;
  /** Whether the file lacks something that was done to the queue, or others are to be taken over. */
  #isDue = true;
  #lacks = false;

  private constructor(folder: FileSystemDirectoryHandle, file: OpenFile) {
    this.#folder = folder;
    this.#file = file;
  }

  static async open(name: string): Promise<Copy> {
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle(name, { create: true });
    return new Copy(folder, await create(folder));
  }

  /** Resolves when it is on the disk. */
  async append(changes: CopiedChanges): Promise<void> {
    if (this.#lacks) {
      await this.#rewrite();
      if (this.#lacks) throw new Error("the file cannot be written");
    }
    const entries = entriesOf(changes);
    const bytes = encode(entries);
    try {
      write(this.#file.handle, bytes, this.#end);
    } catch (error) {
      this.#lacks = true;
      throw error;
    }
    this.#end += bytes.length;
    this.#note(entries);
  }

  /** Writes the file anew if that is due. */
  async tidy(): Promise<void> {
    const isLarge = this.#end > Math.max(REWRITE_BYTES_MIN, this.#base * GROWTH_MAX);
    const isEmpty = this.#keys.size === 0 && this.#end > EMPTY_BYTES_MAX;
    if (this.#isDue || isLarge || isEmpty) await this.#rewrite();
  }

  led(): void {
    this.#isDue = true;
  }

  #note(entries: readonly Entry[]): void {
    for (const { kind, key } of entries) {
      if (kind === KIND.added || kind === KIND.put) this.#keys.add(key);
      else this.#keys.delete(key);
      if (isCommitted(kind)) this.#last = Math.max(this.#last, key);
    }
  }

  /**
   * Makes a new file of the queue as the database has it. A leader's stands for the files of tabs that are gone, too: nobody
   * has those open. They are held while the queue is read, so that nothing is added to them which that reading does not know.
   */
  async #rewrite(): Promise<void> {
    this.#isDue = false;
    const others = await this.#leftBehind();
    try {
      const queue = await askForQueue();
      if (queue === undefined) return;
      const taken = queue.leads ? others : [];
      for (const { handle } of taken) this.#last = Math.max(this.#last, lastIn(handle));
      const entries = this.#entriesOf(queue);
      const file = await create(this.#folder);
      const bytes = encode(entries);
      try {
        write(file.handle, bytes, HEAD.length);
      } catch (error) {
        await this.#remove(file);
        throw error;
      }
      await this.#remove(this.#file);
      this.#file = file;
      this.#end = HEAD.length + bytes.length;
      this.#base = this.#end;
      this.#lacks = false;
      this.#keys.clear();
      this.#note(entries);
      for (const other of taken.splice(0)) {
        others.splice(others.indexOf(other), 1);
        await this.#remove(other);
      }
    } finally {
      for (const { handle } of others) handle.close();
    }
  }

  #entriesOf({ records, leads, fence, last: given = 0 }: QueueNow): Entry[] {
    const left = records.filter(([, bytes]) => bytes !== undefined && !isDiscarded(bytes));
    const last = left.reduce((last, [key]) => Math.max(last, key), Math.max(given, this.#last));
    const bytes = encodeKeys(left.map(([key]) => key));
    const entries: Entry[] = [{ kind: KIND.left, fence: leads ? fence : 0, key: last, bytes }];
    for (const [key, bytes = new Uint8Array()] of left) {
      // What others added is theirs to keep, or the leader's.
      if (leads) entries.push({ kind: KIND.put, fence, key, bytes });
      else if (this.#keys.has(key)) entries.push({ kind: KIND.added, fence: 0, key, bytes });
    }
    return entries;
  }

  /** The files of tabs that are gone: nobody has them open. */
  async #leftBehind(): Promise<OpenFile[]> {
    const found: OpenFile[] = [];
    for await (const entry of this.#folder.values()) {
      if (entry.kind !== "file" || entry.name === this.#file.name) continue;
      try {
        found.push({ name: entry.name, handle: await (entry as FileHandle).createSyncAccessHandle() });
      } catch {
        // Its tab lives, or another one was faster.
      }
    }
    return found;
  }

  async #remove({ name, handle }: OpenFile): Promise<void> {
    handle.close();
    await this.#folder.removeEntry(name);
  }
}

async function create(folder: FileSystemDirectoryHandle): Promise<OpenFile> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const name = crypto.randomUUID();
      const file = (await folder.getFileHandle(name, { create: true })) as FileHandle;
      const handle = await file.createSyncAccessHandle();
      write(handle, HEAD, 0);
      return { name, handle };
    } catch (error) {
      if (attempt === CREATE_ATTEMPTS) throw error;
    }
  }
}

/** Writes all of it to the disk, or cuts off what it began. */
function write(handle: SyncHandle, bytes: Uint8Array, at: number): void {
  try {
    if (handle.write(bytes, { at }) < bytes.length) throw new Error("the disk took a part of it");
    handle.flush();
  } catch (error) {
    handle.truncate(at);
    throw error;
  }
}

/** The highest key that a file knows to have been given out for good: one that was only added may have come to nothing. */
function lastIn(handle: SyncHandle): number {
  const bytes = new Uint8Array(handle.getSize());
  handle.read(bytes, { at: 0 });
  return decode(bytes).reduce((last, { kind, key }) => (isCommitted(kind) ? Math.max(last, key) : last), 0);
}

function isCommitted(kind: Entry["kind"]): boolean {
  return kind !== KIND.added && kind !== KIND.undone;
}

function entriesOf(changes: CopiedChanges): Entry[] {
  const about =
    (kind: Entry["kind"]) =>
    (key: number): Entry => ({ kind, fence: 0, key, bytes: NOTHING });
  if ("undone" in changes) return changes.undone.map(about(KIND.undone));
  const { fence, put, removed } = changes;
  const entries = put.map(([key, bytes]): Entry => {
    if (isDiscarded(bytes)) return about(KIND.removed)(key);
    return { kind: fence === 0 ? KIND.added : KIND.put, fence, key, bytes };
  });
  return [...entries, ...removed.map(about(KIND.removed))];
}

const NOTHING = new Uint8Array();

/** Whether the record is the mark of a discarded write. */
function isDiscarded(bytes: Uint8Array): boolean {
  return MARK.every((byte, index) => byte === bytes[index]);
}

/** How it begins. */
const MARK = new TextEncoder().encode('{"format":1,"state":"discarded"');

let answer: ((queue: QueueNow | undefined) => void) | undefined;

/** Asks the page for the whole queue as it stands in the database. */
function askForQueue(): Promise<QueueNow | undefined> {
  return new Promise((resolve) => {
    answer = resolve;
    postMessage({});
  });
}

let opening: Promise<Copy> | undefined;
/** What is asked for is done one after the other. */
let turn: Promise<void> = Promise.resolve();

async function take(message: Exclude<ToWorker, { readonly name: string } | { readonly queue: unknown }>) {
  if ("leads" in message) {
    const copy = await opening;
    copy?.led();
    return copy?.tidy();
  }
  const { id, changes } = message;
  try {
    const copy = await opening;
    await copy?.append(changes);
    postMessage({ id });
    await copy?.tidy();
  } catch (error) {
    postMessage({ id, error: String(error) });
  }
}

addEventListener("message", ({ data }: MessageEvent<ToWorker>) => {
  if ("name" in data) opening = Copy.open(data.name);
  else if ("queue" in data) answer?.(data.queue);
  else turn = turn.then(() => take(data)).catch(() => {});
});
