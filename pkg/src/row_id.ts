// Row ids: UUIDs that sort by the time they were made (RFC 9562, version 7).

let lastMs = 0;
let sequence = 0;

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
  const random = crypto.getRandomValues(new Uint8Array(8));
  const tail = Array.from(random, (byte, index) => hex(index === 0 ? (byte & 0x3f) | 0x80 : byte, 2)).join(
    "",
  );
  const time = hex(lastMs, 12);
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex(sequence, 3)}-${tail.slice(0, 4)}-${tail.slice(4)}`;
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
