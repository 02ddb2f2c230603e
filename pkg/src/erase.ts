// Removes everything that one identity has on this device. Loaded when a session ends so.
//
// It imports nothing but types, for the reason given in on_demand.ts.

import type { PersistenceBackend } from "./types.ts";

/** How long another tab may take to let go of what it has open. */
const LIMIT_MS = 5000;
const PAUSE_MS = 50;

/** Notes under `note` that a database is to be removed, so that a page that dies on the way is followed by the next one. */
export function noteErasure(note: string, name: string): void {
  localStorage.setItem(note, name);
}

/** Removes what is noted. It may be begun again at any point. */
export async function erase(note: string, backend: PersistenceBackend | undefined): Promise<void> {
  const name = localStorage.getItem(note);
  if (name === null) return;
  await eraseDatabase(name, backend);
  localStorage.removeItem(note);
}

async function eraseDatabase(name: string, backend: PersistenceBackend | undefined): Promise<void> {
  if (backend !== undefined) return eraseRecords(await backend.open(name));
  // First the files: while they are there, an engine that finds no database takes it for lost.
  await eraseFiles(name);
  localStorage.removeItem(`${name}_made`);
  await deleteDatabase(name);
}

async function eraseRecords(records: Awaited<ReturnType<PersistenceBackend["open"]>>): Promise<void> {
  try {
    const keys = [...(await records.read())].map(([key]) => [key, null] as const);
    await records.commit(keys, "strict");
  } finally {
    await records.close();
  }
}

async function eraseFiles(name: string): Promise<void> {
  const late = performance.now() + LIMIT_MS;
  const root = await navigator.storage?.getDirectory?.().catch(() => undefined);
  while (root !== undefined) {
    try {
      return await root.removeEntry(name, { recursive: true });
    } catch (error) {
      if ((error as Error).name === "NotFoundError") return;
      // Workers that were ended just now have their files open for a moment.
      if (performance.now() > late) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}

function deleteDatabase(name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("another tab has the database open")), LIMIT_MS);
    const request = indexedDB.deleteDatabase(name);
    request.onsuccess = () => {
      clearTimeout(timer);
      resolve();
    };
    request.onerror = () => {
      clearTimeout(timer);
      reject(request.error);
    };
  });
}
