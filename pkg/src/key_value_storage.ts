// Places for the token. Without one the engine keeps it in memory.

import { reportUncaught } from "./news.ts";
import type { KeyValueStorage } from "./types.ts";

/**
 * `localStorage` where there is one that works, else memory. Asked for on purpose: every script of the page's origin can
 * read a token in `localStorage`.
 */
export function defaultStorage(): KeyValueStorage {
  const kept = workingLocalStorage();
  if (kept === undefined) return createWriteThroughStorage({}, () => {});
  return {
    get: (key) => kept.getItem(key),
    set: (key, value) => kept.setItem(key, value),
    remove: (key) => kept.removeItem(key),
  };
}

/**
 * A synchronous storage over one that is not: reads come from memory, which begins with `seed`, and every change is also
 * given to `write`, one after another. `null` removes the key.
 *
 * A `write` that fails reaches `onError`, or is reported like any uncaught error; memory goes on with the new value.
 */
export function createWriteThroughStorage(
  seed: Readonly<Record<string, string>> | Iterable<readonly [string, string]>,
  write: (key: string, value: string | null) => unknown,
  onError: (thrown: unknown) => void = reportUncaught,
): KeyValueStorage {
  const values = new Map(Symbol.iterator in seed ? seed : Object.entries(seed));
  let last: Promise<unknown> = Promise.resolve();
  const pass = (key: string, value: string | null): void => {
    last = last.then(() => write(key, value)).catch(onError);
  };
  return {
    get: (key) => values.get(key),
    set(key, value) {
      if (values.get(key) === value) return;
      values.set(key, value);
      pass(key, value);
    },
    remove(key) {
      if (values.delete(key)) pass(key, null);
    },
  };
}

/** Private modes and strict settings have one that throws. */
function workingLocalStorage(): Storage | undefined {
  try {
    const storage = globalThis.localStorage;
    const probe = "syncline_probe";
    storage.setItem(probe, probe);
    storage.removeItem(probe);
    return storage;
  } catch {
    return undefined;
  }
}
