// Later versions of the layout, for tests: what `later_package.mjs` adds to the steps of the package.
//
// Each takes every record of the database out and puts it in again under its key, in batches, and notes it in a store of its own
// version, which takes the place of the former version's.

const STORES = ["entities", "cursors", "pendingMutations"];
const BATCH_RECORDS = 16;
/** Where somebody kills, it begins again until this is over: to be killed in the middle on any machine. */
const LEAST_MS = 400;

/** The store that a version notes the records in; its record `end` is put last, and says how many there are. */
export const notesOf = (version) => `rewritten_${version}`;

/** The steps that lead from version 1 to `version`. */
export function laterSteps(version) {
  return Array.from({ length: version - 1 }, (_, index) => stepTo(index + 2));
}

function stepTo(version) {
  return (database, tx, next) => {
    const { onUpgrade } = globalThis;
    onUpgrade?.();
    if (version > 2) database.deleteObjectStore(notesOf(version - 1));
    const notes = database.createObjectStore(notesOf(version));
    const late = onUpgrade === undefined ? 0 : performance.now() + LEAST_MS;
    const again = () => rewrite(tx, notes, 0, STORES, performance.now() < late ? again : next);
    again();
  };
}

function rewrite(tx, notes, count, [name, ...others], next) {
  if (name === undefined) return tx.read(notes.put(count, "end"), next);
  const store = tx.store(name);
  tx.read(store.getAllKeys(), (keys) => {
    const batch = (first) => {
      const some = keys.slice(first, first + BATCH_RECORDS);
      if (some.length === 0) return rewrite(tx, notes, count + keys.length, others, next);
      tx.read(store.getAll(IDBKeyRange.bound(some[0], some.at(-1))), (values) => {
        some.forEach((key, index) => {
          store.delete(key);
          store.put(values[index], key);
          notes.put(values[index].length ?? 0, `${name} ${key}`);
        });
        tx.read(store.get(some[0]), () => batch(first + BATCH_RECORDS));
      });
    };
    batch(0);
  });
}

/** What is wrong with the notes of a database: an upgrade that was carried out in part would show here. */
export async function problemsOf(name, version) {
  const database = await new Promise((resolve, reject) => {
    const request = indexedDB.open(name);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  try {
    const names = [...database.objectStoreNames].filter((store) => !BASE.includes(store));
    const wanted = version > 1 ? [notesOf(version)] : [];
    if (database.version !== version || names.join() !== wanted.join())
      return [`version ${database.version} with ${names} in place of ${version}`];
    if (version === 1) return [];
    const notes = database.transaction(wanted).objectStore(wanted[0]);
    const [end, count] = await Promise.all([read(notes.get("end")), read(notes.count())]);
    return end === count - 1 ? [] : [`version ${version} noted ${count - 1} records of ${end}`];
  } finally {
    database.close();
  }
}

const BASE = [...STORES, "journal"];

function read(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
