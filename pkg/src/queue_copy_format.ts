// The files of the second copy of the queue: `docs/storage.md`, "Second copy of the queue".

/** What one entry says about the queue. */
export interface Entry {
  readonly kind: (typeof KIND)[keyof typeof KIND];
  /** Of the leader that rewrote the record; the greater one is right. */
  readonly fence: number;
  readonly key: number;
  readonly bytes: Uint8Array;
}

export const KIND = {
  /** A new record. */
  added: 1,
  /** A record as a leader knows it. */
  put: 2,
  /** The record is gone for ever. */
  removed: 3,
  /** The record that this file added never came to be. */
  undone: 4,
  /** Of all records up to this key only those in the list are left. */
  left: 5,
} as const;

/** What every file begins with; the last byte is the version. */
export const HEAD: Uint8Array = new TextEncoder().encode("SYQ1");

/** Length and checksum of the body, then the kind, the fence and the key. */
const FRAME_BYTES = 8;
const FIXED_BYTES = 17;
const NUMBER_BYTES = 8;

/** Entries as they stand in a file. */
export function encode(entries: readonly Entry[]): Uint8Array<ArrayBuffer> {
  const size = entries.reduce((sum, { bytes }) => sum + FRAME_BYTES + FIXED_BYTES + bytes.length, 0);
  const out = new Uint8Array(size);
  const view = new DataView(out.buffer);
  let at = 0;
  for (const { kind, fence, key, bytes } of entries) {
    const body = at + FRAME_BYTES;
    view.setUint8(body, kind);
    view.setFloat64(body + 1, fence, true);
    view.setFloat64(body + 1 + NUMBER_BYTES, key, true);
    out.set(bytes, body + FIXED_BYTES);
    const length = FIXED_BYTES + bytes.length;
    view.setUint32(at, length, true);
    view.setUint32(at + 4, crc32(out.subarray(body, body + length)), true);
    at = body + length;
  }
  return out;
}

/**
 * Reads a file up to the first entry that is not whole: a crash tears the last one, and what comes behind one is not guessed.
 * @throws when a newer version wrote it.
 */
export function decode(file: Uint8Array): Entry[] {
  const entries: Entry[] = [];
  if (file.length < HEAD.length) return entries;
  if (HEAD.some((byte, index) => file[index] !== byte))
    throw new Error("the copy of the queue has another format");
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  for (let at = HEAD.length; at + FRAME_BYTES + FIXED_BYTES <= file.length; ) {
    const length = view.getUint32(at, true);
    const body = at + FRAME_BYTES;
    const end = body + length;
    if (length < FIXED_BYTES || end > file.length) break;
    if (view.getUint32(at + 4, true) !== crc32(file.subarray(body, end))) break;
    entries.push({
      kind: view.getUint8(body) as Entry["kind"],
      fence: view.getFloat64(body + 1, true),
      key: view.getFloat64(body + 1 + NUMBER_BYTES, true),
      bytes: file.subarray(body + FIXED_BYTES, end),
    });
    at = end;
  }
  return entries;
}

/** The list of an entry `left`. */
export function encodeKeys(keys: readonly number[]): Uint8Array {
  const out = new Uint8Array(keys.length * NUMBER_BYTES);
  const view = new DataView(out.buffer);
  keys.forEach((key, index) => {
    view.setFloat64(index * NUMBER_BYTES, key, true);
  });
  return out;
}

export function decodeKeys(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = Math.floor(bytes.length / NUMBER_BYTES);
  return Array.from({ length: count }, (_, index) => view.getFloat64(index * NUMBER_BYTES, true));
}

/** The CRC-32 of zlib and Ethernet. */
function crc32(bytes: Uint8Array): number {
  let crc = ~0;
  for (const byte of bytes) crc = (CRC_TABLE[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8);
  return ~crc >>> 0;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});
