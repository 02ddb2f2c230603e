// The rows of the figures: nine fields with the id, about 250 bytes of JSON each, the same on every machine.

import { createWriteStream } from "node:fs";
import { finished } from "node:stream/promises";

export const ENTITY = "Task";
const WORDS =
  "alpha bridge cargo delta engine field garden harbour island journal kernel ladder market north orbit paper quarry river signal tower union valley winter yellow zenith".split(
    " ",
  );

/** Writes `count` rows as NDJSON and returns their size on average, in bytes. */
export async function writeRows(path, count) {
  const file = createWriteStream(path);
  let bytes = 0;
  for (const line of lines(count)) {
    bytes += line.length;
    if (!file.write(line)) await new Promise((resolve) => file.once("drain", resolve));
  }
  file.end();
  await finished(file);
  return bytes / count;
}

/** The rows as lines, a thousand together. */
function* lines(count) {
  const random = generator(20_261_121);
  let block = "";
  for (let index = 0; index < count; index += 1) {
    block += `${JSON.stringify(row(index, random))}\n`;
    if (index % 1000 === 999 || index === count - 1) {
      yield block;
      block = "";
    }
  }
}

function row(index, random) {
  const created = 1_700_000_000_000 + index * 1000;
  const title = text(random, 24);
  const body = text(random, 47);
  return {
    id: uuid(created, random),
    title,
    done: random() < 0.5,
    priority: Math.floor(random() * 5),
    project: `p${Math.floor(random() * 200)}`,
    created_at: created,
    updated_at: created + Math.floor(random() * 1_000_000),
    assignee: `u${Math.floor(random() * 500)}`,
    body,
  };
}

/** A UUID of version 7, as the engine mints them: the rows lie in the order in which they were made. */
function uuid(ms, random) {
  const time = ms.toString(16).padStart(12, "0");
  const digits = (count) =>
    Math.floor(random() * 16 ** count)
      .toString(16)
      .padStart(count, "0");
  return `${time.slice(0, 8)}-${time.slice(8)}-7${digits(3)}-8${digits(3)}-${digits(6)}${digits(6)}`;
}

function text(random, length) {
  let words = "";
  while (words.length < length) words += `${WORDS[Math.floor(random() * WORDS.length)]} `;
  return words.slice(0, length).trim();
}

/** Mulberry32: small, and equal everywhere. */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
