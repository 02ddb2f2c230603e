// Reads the second copy of the queue, when the database is gone. Loaded when that happens.

import { decode, decodeKeys, type Entry, KIND } from "./queue_copy_format.ts";
import type { Lost } from "./raw.ts";

/** Everything that the files of a folder say. */
export async function readLost(folder: FileSystemDirectoryHandle): Promise<Lost> {
  // A tab that lives may put a new file in the place of its old one meanwhile, and what saw neither would miss its writes.
  for (let before = await namesIn(folder); ; ) {
    const files = await Promise.all(before.map((name) => read(folder, name)));
    const now = await namesIn(folder);
    if (now.join() === before.join()) return merge(files);
    before = now;
  }
}

async function namesIn(folder: FileSystemDirectoryHandle): Promise<string[]> {
  const names: string[] = [];
  for await (const { kind, name } of folder.values()) if (kind === "file") names.push(name);
  return names.sort();
}

async function read(folder: FileSystemDirectoryHandle, name: string): Promise<Entry[]> {
  try {
    const file = await (await folder.getFileHandle(name)).getFile();
    return decode(new Uint8Array(await file.arrayBuffer()));
  } catch (error) {
    // It was replaced; the names have changed then.
    if ((error as Error).name === "NotFoundError") return [];
    throw error;
  }
}

/**
 * What is left of the queue. A record may stand in the files of several tabs: in that of the one that added it and in those of
 * leaders, which rewrote or removed it. Keys are never given out twice, so what was removed once is gone.
 */
export function merge(files: readonly (readonly Entry[])[]): Lost {
  const queue = new Merged();
  for (const entries of files) queue.take(entries);
  return queue.lost();
}

class Merged {
  #last = 0;
  #fence = 0;
  /** For each key the records that tabs added: two if a crash came before the first one was told that its transaction failed. */
  readonly #added: Map<number, Uint8Array[]> = new Map();
  readonly #put: Map<number, Entry> = new Map();
  readonly #removed: Set<number> = new Set();
  readonly #left: { readonly upTo: number; readonly keys: ReadonlySet<number> }[] = [];

  take(entries: readonly Entry[]): void {
    const added = new Map<number, Uint8Array>();
    for (const entry of entries) {
      const { kind, key, fence, bytes } = entry;
      this.#last = Math.max(this.#last, key);
      this.#fence = Math.max(this.#fence, fence);
      if (kind === KIND.added) added.set(key, bytes);
      if (kind === KIND.undone) added.delete(key);
      if (kind === KIND.removed) this.#removed.add(key);
      if (kind === KIND.left) this.#left.push({ upTo: key, keys: new Set(decodeKeys(bytes)) });
      // Of one leader's, the later one.
      if (kind === KIND.put && (this.#put.get(key)?.fence ?? 0) <= fence) this.#put.set(key, entry);
    }
    for (const [key, bytes] of added) this.#added.set(key, [...(this.#added.get(key) ?? []), bytes]);
  }

  lost(): Lost {
    let last = this.#last;
    const records: [number, Uint8Array][] = [];
    const unnumbered: Uint8Array[] = [];
    const keys = [...new Set([...this.#added.keys(), ...this.#put.keys()])].sort((a, b) => a - b);
    for (const key of keys) {
      if (this.#isGone(key)) continue;
      const put = this.#put.get(key);
      const [first, ...others] = put === undefined ? (this.#added.get(key) ?? []) : [put.bytes];
      if (first !== undefined) records.push([key, first]);
      unnumbered.push(...others);
    }
    for (const bytes of unnumbered) {
      last += 1;
      records.push([last, bytes]);
    }
    return { isCopied: true, records, last, fence: this.#fence };
  }

  #isGone(key: number): boolean {
    return this.#removed.has(key) || this.#left.some(({ upTo, keys }) => key <= upTo && !keys.has(key));
  }
}
