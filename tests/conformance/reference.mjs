// A second implementation of what docs/protocol.md says about bytes, small and independent of the Rust code: the engine's
// own language prints numbers and strings here. The vectors in this folder were computed with it.

import { createHash } from "node:crypto";

const ROW_BYTES_MAX = 1024 * 1024;
const ROW_FIELDS_MAX = 1000;
const DEPTH_MAX = 32;
const TOKEN_BYTES_MAX = 4096;
const U64 = (1n << 64n) - 1n;

/** RFC 8785: JavaScript's own printing of numbers and strings, and its own order of text. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.keys(value).sort();
  return `{${members.map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(",")}}`;
}

/** The number whose IEEE 754 bits these 16 hexadecimal digits are. */
export function numberOfBits(hex) {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt(`0x${hex}`));
  return view.getFloat64(0);
}

/** The canonical bytes of an intent: what is absent, null or the default is written in one way only. */
export function canonicalIntent(text) {
  const { op_id, after = [], issued_at, schema = 0, changes } = JSON.parse(text);
  const plain = changes.map((change) => {
    const present = Object.entries(change).filter(([, value]) => value !== null);
    return Object.fromEntries(present);
  });
  return canonical({ op_id, issued_at, schema, changes: plain, ...(after.length > 0 ? { after } : {}) });
}

/** What tells a replay from a reused op_id: the first 16 bytes of SHA-256, in hexadecimal. */
export function intentHash(canonicalText) {
  return createHash("sha256").update(canonicalText, "utf8").digest("hex").slice(0, 32);
}

/** `bearer.` and the token with every byte encoded that is no token character of RFC 7230; null when it is too long. */
export function bearerSubprotocol(token) {
  const bytes = Buffer.from(token, "utf8");
  if (bytes.length > TOKEN_BYTES_MAX) return null;
  const encode = (byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  const plain = /[A-Za-z0-9!#$&'*+\-.^_`|~]/;
  const parts = [...bytes].map((byte) =>
    plain.test(String.fromCharCode(byte)) ? String.fromCharCode(byte) : encode(byte),
  );
  return `bearer.${parts.join("")}`;
}

/** The token of a `bearer.` subprotocol, or null. */
export function tokenOfSubprotocol(offered) {
  if (!offered.startsWith("bearer.")) return null;
  const encoded = offered.slice("bearer.".length);
  if (/%(?![0-9A-Fa-f]{2})/.test(encoded)) return null;
  const bytes = encoded.replace(/%(..)/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)));
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.from(bytes, "latin1"));
  } catch {
    return null;
  }
}

/** The text of a case: as it stands, or built from `repeat` or `fields` when it would be a megabyte. */
export function rowText({ text, repeat, fields }) {
  if (repeat !== undefined) return repeat.before + repeat.unit.repeat(repeat.count) + repeat.after;
  if (fields === undefined) return text;
  return JSON.stringify(
    Object.fromEntries(Array.from({ length: fields }, (_, index) => [`f${index}`, index])),
  );
}

/** The code with which a row's text is refused, or null. */
export function rowRefusal(text) {
  let row;
  try {
    row = JSON.parse(text);
  } catch {
    return "INVALID_JSON";
  }
  if (row === null || typeof row !== "object" || Array.isArray(row)) return "INVALID_JSON";
  if (Object.keys(row).length > ROW_FIELDS_MAX) return "ROW_TOO_LARGE";
  for (const [name, value] of Object.entries(row)) {
    const refused = keyRefusal(name) ?? nameRefusal(name) ?? valueRefusal(value, 1);
    if (refused !== null) return refused;
  }
  return Buffer.byteLength(canonical(row), "utf8") > ROW_BYTES_MAX ? "ROW_TOO_LARGE" : null;
}

function valueRefusal(value, depth) {
  if (depth > DEPTH_MAX) return "VALUE_TOO_DEEP";
  if (typeof value === "number") return numberRefusal(value);
  if (typeof value === "string") return textRefusal(value);
  if (value === null || typeof value !== "object") return null;
  for (const [key, member] of Object.entries(value)) {
    const refused = (Array.isArray(value) ? null : keyRefusal(key)) ?? valueRefusal(member, depth + 1);
    if (refused !== null) return refused;
  }
  return null;
}

function numberRefusal(value) {
  // A literal beyond the doubles is no number of JSON as the protocol means it.
  if (!Number.isFinite(value)) return "INVALID_JSON";
  // From 1e21 on JavaScript prints an exponent, so such a number can only have been meant as a float.
  return Math.abs(value) > Number.MAX_SAFE_INTEGER && Math.abs(value) < 1e21 ? "VALUE_OUT_OF_RANGE" : null;
}

function textRefusal(text) {
  if (!isWellFormed(text)) return "INVALID_JSON";
  return text.includes("\0") ? "INVALID_TEXT" : null;
}

function keyRefusal(key) {
  return ["__proto__", "constructor", "prototype"].includes(key) ? "RESERVED_KEY" : textRefusal(key);
}

function isWellFormed(text) {
  return !/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/.test(text);
}

/** The code with which an entity or field name is refused, or null. */
export function nameRefusal(name) {
  const bytes = Buffer.byteLength(name, "utf8");
  const shape = bytes >= 1 && bytes <= 128 && !name.startsWith("$") && !name.startsWith("__");
  return shape && !/\p{Cc}/u.test(name) ? null : "INVALID_NAME";
}

/** The code with which a row id is refused, or null. */
export function rowIdRefusal(id) {
  return /^[A-Za-z0-9._~:@+=-]{1,128}$/.test(id) && !id.endsWith("\n") ? null : "INVALID_ROW_ID";
}

/** The code with which an op_id or client id is refused, or null. */
export function opIdRefusal(id) {
  return /^[0-9a-f]{32}$/.test(id) && !id.endsWith("\n") ? null : "INVALID_OP_ID";
}

/** The UUID of version 7 of a time in milliseconds and ten random bytes in hexadecimal. */
export function rowIdV7(ms, randomHex) {
  const bytes = Buffer.concat([
    Buffer.from(ms.toString(16).padStart(12, "0"), "hex"),
    Buffer.from(randomHex, "hex"),
  ]);
  bytes[6] = (bytes[6] & 0x0f) | 0x70;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** The sum over a page's changes, in 16 hexadecimal digits. */
export function pageChecksum(changes) {
  let sum = 0n;
  for (const { entity, row_id, seq } of changes) {
    sum = (sum + xxh64(Buffer.from(`${entity}\0${row_id}`, "utf8"), BigInt(seq))) & U64;
  }
  return sum.toString(16).padStart(16, "0");
}

const P1 = 0x9e3779b185ebca87n;
const P2 = 0xc2b2ae3d27d4eb4fn;
const P3 = 0x165667b19e3779f9n;
const P4 = 0x85ebca77c2b2ae63n;
const P5 = 0x27d4eb2f165667c5n;

/** XXH64 after its specification (doc/xxhash_spec.md of the xxHash project). */
export function xxh64(bytes, seed) {
  let at = 0;
  const read64 = () => {
    at += 8;
    return bytes.readBigUInt64LE(at - 8);
  };
  let hash = (seed + P5) & U64;
  if (bytes.length >= 32) {
    const lanes = [seed + P1 + P2, seed + P2, seed, seed - P1].map((lane) => lane & U64);
    while (at + 32 <= bytes.length) {
      for (let lane = 0; lane < 4; lane += 1) lanes[lane] = round(lanes[lane], read64());
    }
    hash = [1n, 7n, 12n, 18n].reduce((sum, turn, lane) => (sum + rotate(lanes[lane], turn)) & U64, 0n);
    for (const lane of lanes) hash = ((hash ^ round(0n, lane)) * P1 + P4) & U64;
  }
  hash = (hash + BigInt(bytes.length)) & U64;
  while (at + 8 <= bytes.length) hash = (rotate(hash ^ round(0n, read64()), 27n) * P1 + P4) & U64;
  if (at + 4 <= bytes.length) {
    hash = (rotate(hash ^ ((BigInt(bytes.readUInt32LE(at)) * P1) & U64), 23n) * P2 + P3) & U64;
    at += 4;
  }
  for (; at < bytes.length; at += 1) hash = (rotate(hash ^ ((BigInt(bytes[at]) * P5) & U64), 11n) * P1) & U64;
  hash = ((hash ^ (hash >> 33n)) * P2) & U64;
  hash = ((hash ^ (hash >> 29n)) * P3) & U64;
  return hash ^ (hash >> 32n);
}

function round(lane, input) {
  return (rotate((lane + input * P2) & U64, 31n) * P1) & U64;
}

function rotate(value, turn) {
  return ((value << turn) | (value >> (64n - turn))) & U64;
}
