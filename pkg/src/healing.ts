// Finds out when a database that failed can be used again. Loaded when storage fails.
//
// It imports nothing but types, for the reason given in on_demand.ts.

/** The first pause, and the longest: each is twice as long as the one before. */
const PAUSE_MS = 5_000;
const PAUSE_MS_MAX = 300_000;
/** What has to fit for the disk not to be full any more. */
const PROBE_BYTES = 256 * 1024;

/**
 * Resolves with true when the database works, with false once `isOver`. Looks only while `mayLook`: as long as writes are
 * nowhere but in memory they must not be put at risk.
 */
export async function untilHealed(
  name: () => string,
  signal: AbortSignal,
  isOver: () => boolean,
  mayLook: () => boolean,
): Promise<boolean> {
  for (let pauseMs = PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
    await pause(pauseMs, signal);
    if (signal.aborted || isOver()) return false;
    if (mayLook() && (await works(name())) && mayLook()) return !isOver();
  }
}

/** Waits, less long when the page is looked at again: then much may have changed. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      globalThis.document?.removeEventListener("visibilitychange", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    // Node goes on running while a timer is set.
    (timer as { unref?(): void }).unref?.();
    signal.addEventListener("abort", end);
    globalThis.document?.addEventListener("visibilitychange", end);
  });
}

/** Whether something can be written there and is then on the disk. A database that is gone can be made anew. */
async function works(name: string): Promise<boolean> {
  try {
    const database = await open(name);
    if (database === undefined) return true;
    try {
      await probe(database);
      return true;
    } finally {
      database.close();
    }
  } catch {
    return false;
  }
}

function open(name: string): Promise<IDBDatabase | undefined> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name);
    let isNew = false;
    request.onupgradeneeded = () => {
      isNew = true;
      request.transaction?.abort();
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => (isNew ? resolve(undefined) : reject(request.error));
  });
}

function probe(database: IDBDatabase): Promise<void> {
  return new Promise((resolve, reject) => {
    const tx = database.transaction("journal", "readwrite", { durability: "strict" });
    tx.oncomplete = () => resolve();
    tx.onabort = () => reject(tx.error);
    const journal = tx.objectStore("journal");
    // Random, because some browsers store less of what repeats itself.
    const bytes = new Uint8Array(PROBE_BYTES);
    for (let at = 0; at < bytes.length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
    const added = journal.add(bytes);
    added.onsuccess = () => journal.delete(added.result);
  });
}
