// Reads the engine's database from outside, after docs/storage.md and none of the engine's code.

/** Opens the one database of an application. */
export async function openRaw(app) {
  const prefix = `syncline_${app}_`;
  const names = (await indexedDB.databases())
    .map(({ name }) => name)
    .filter((name) => name.startsWith(prefix));
  if (names.length !== 1) throw new Error(`expected one database ${prefix}*, found ${JSON.stringify(names)}`);
  const database = await done(indexedDB.open(names[0]));
  database.onversionchange = () => database.close();
  return database;
}

/** The replica record, or null before the first commit. */
export async function readReplica(database) {
  const bytes = await done(database.transaction("cursors").objectStore("cursors").get("replica"));
  return bytes === undefined ? null : JSON.parse(new TextDecoder().decode(bytes));
}

/** The records of the queue, parsed. */
export async function readQueue(database) {
  const records = await done(
    database.transaction("pendingMutations").objectStore("pendingMutations").getAll(),
  );
  return records.map((bytes) => JSON.parse(new TextDecoder().decode(bytes)));
}

/** Counts the rows on disk that are shown, and the bytes and records that hold them. */
export async function countRows(database) {
  const replica = await readReplica(database);
  const first = replica.generation * 2 ** 32;
  const range = IDBKeyRange.bound(first, first + 2 ** 32, false, true);
  const records = await done(database.transaction("entities").objectStore("entities").getAll(range));
  const shown = new Map();
  for (const bytes of records) readRecord(bytes, shown);
  const entities = {};
  for (const [entity, ids] of shown) entities[entity] = ids.size;
  return {
    entities,
    records: records.length,
    bytes: records.reduce((sum, record) => sum + record.byteLength, 0),
  };
}

function readRecord(bytes, shown) {
  const reader = new Reader(bytes);
  if (reader.text(4) !== "SYS1" || reader.u8() !== 1) throw new Error("not a record of format 1");
  // Kind, reserved bytes, from, to.
  reader.skip(1 + 2 + 8 + 8);
  const sections = reader.u32();
  // The checksum, which the engine checks itself.
  reader.skip(8);
  for (let section = 0; section < sections; section += 1) readSection(reader, shown);
  if (reader.at !== bytes.byteLength)
    throw new Error(`a record of ${bytes.byteLength} bytes ends at ${reader.at}`);
}

function readSection(reader, shown) {
  const end = reader.u32() + reader.at;
  const entity = reader.text(reader.u8());
  for (let columns = reader.u16(); columns > 0; columns -= 1) reader.skip(reader.u8());
  const rows = reader.u32();
  const tombstones = reader.u32();
  const ids = shown.get(entity) ?? new Set();
  shown.set(entity, ids);
  for (let row = 0; row < rows; row += 1) {
    const next = reader.u32() + reader.at;
    reader.skip(8);
    ids.add(reader.text(reader.u8()));
    reader.at = next;
  }
  for (let tombstone = 0; tombstone < tombstones; tombstone += 1) {
    reader.skip(8);
    ids.delete(reader.text(reader.u8()));
  }
  if (reader.at !== end) throw new Error(`a section of ${entity} ends at ${reader.at} instead of ${end}`);
}

/** Little-endian numbers and UTF-8 text, in order. */
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.decoder = new TextDecoder("utf-8", { fatal: true });
    this.at = 0;
  }

  u8() {
    this.at += 1;
    return this.view.getUint8(this.at - 1);
  }

  u16() {
    this.at += 2;
    return this.view.getUint16(this.at - 2, true);
  }

  u32() {
    this.at += 4;
    return this.view.getUint32(this.at - 4, true);
  }

  skip(bytes) {
    this.at += bytes;
  }

  text(bytes) {
    this.at += bytes;
    return this.decoder.decode(this.bytes.subarray(this.at - bytes, this.at));
  }
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
