// Row ids: UUIDs that sort by the time they were made (RFC 9562, version 7).

let lastMs = 0;
let sequence = 0;
/** Random bytes for the next ids: asking for 8 at a time took most of the time of an id. */
let pool: Uint8Array<ArrayBuffer> | undefined;
let used = 0;

/**
 * Makes an id that sorts after every id this page made before.
 *
 * The 12 bits after the milliseconds count within one millisecond (RFC 9562, section 6.2, method 1); when they run out or
 * the clock steps back, the time in the id runs ahead of the clock.
 */
export function mintRowId(now: number = Date.now()): string {
  if (now > lastMs) {
    lastMs = now;
    sequence = 0;
  } else {
    sequence += 1;
    if (sequence > 0xfff) {
      lastMs += 1;
      sequence = 0;
    }
  }
  const time = lastMs.toString(16).padStart(12, "0");
  const count = sequence.toString(16).padStart(3, "0");
  const variant = byteText((randomByte() & 0x3f) | 0x80);
  let tail = "";
  for (let index = 0; index < 7; index += 1) tail += byteText(randomByte());
  return `${time.slice(0, 8)}-${time.slice(8)}-7${count}-${variant}${tail.slice(0, 2)}-${tail.slice(2)}`;
}

function randomByte(): number {
  if (pool === undefined || used === pool.length) {
    pool = crypto.getRandomValues(pool ?? new Uint8Array(POOL_BYTES));
    used = 0;
  }
  const byte = pool[used] ?? 0;
  used += 1;
  return byte;
}

function byteText(byte: number): string {
  return (byte < 16 ? "0" : "") + byte.toString(16);
}

const POOL_BYTES = 1024;
