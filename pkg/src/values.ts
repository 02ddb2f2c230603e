// What may stand in a row, checked before it crosses into WebAssembly: the error names the path, and nothing was written.
// docs/values.md says what becomes of a value on its way to SQL and back.

import { type ErrorCode, SynclineError } from "./errors.ts";
import type { Value } from "./types.ts";

/** A row's fields, copied and frozen, with the JSON text that crosses. */
export interface EncodedFields {
  readonly data: { readonly [field: string]: Value };
  readonly json: string;
}

/** Deepest nesting of a value; the row itself is depth zero. */
const DEPTH_MAX = 32;
/** Largest row, in bytes of its encoding. */
const ROW_BYTES_MAX = 1024 * 1024;
/** From here on JSON writes an exponent, which every reader takes for a float. */
const FLOAT_FROM = 1e21;

const RESERVED_KEYS: ReadonlySet<string> = new Set(["__proto__", "constructor", "prototype"]);
/** U+0000 and surrogates without their other half. */
const FORBIDDEN_TEXT: RegExp = /[\0\p{Surrogate}]/u;

/**
 * Checks and copies the fields of a row or patch; `id` is left out, `undefined` counts as absent.
 * @throws SynclineError with the path of what cannot be stored.
 */
export function encodeFields(fields: unknown, where: string): EncodedFields {
  if (!isPlainObject(fields)) {
    throw refuse("INVALID_VALUE", where, `is ${describe(fields)}; give an object with the row's fields`);
  }
  const walk = new Walk();
  const data = walk.object(fields, where, 0);
  const json = JSON.stringify(data);
  checkSize(json, where);
  return { data, json };
}

/** Follows one value, remembering the objects it is inside of. */
class Walk {
  readonly #ancestors: object[] = [];

  object(source: object, path: string, depth: number): { readonly [key: string]: Value } {
    this.#enter(source, path);
    const copy: { [key: string]: Value } = {};
    for (const [key, value] of Object.entries(source)) {
      if (value === undefined || (depth === 0 && key === "id")) continue;
      const at = `${path}.${key}`;
      if (RESERVED_KEYS.has(key)) throw refuse("RESERVED_KEY", at, "is a reserved name; choose another");
      checkText(key, at);
      copy[key] = this.value(value, at, depth + 1);
    }
    this.#ancestors.pop();
    return Object.freeze(copy);
  }

  value(value: unknown, path: string, depth: number): Value {
    if (depth > DEPTH_MAX) throw refuse("VALUE_TOO_DEEP", path, `is nested deeper than ${DEPTH_MAX} levels`);
    if (value === null || typeof value === "boolean") return value;
    if (typeof value === "string") {
      checkText(value, path);
      return value;
    }
    if (typeof value === "number") return checkNumber(value, path);
    if (Array.isArray(value)) return this.#array(value, path, depth);
    if (isPlainObject(value)) return this.object(value, path, depth);
    if (isDate(value)) return dateText(value, path);
    throw refuse("INVALID_VALUE", path, `is ${describe(value)}, which a row cannot hold`);
  }

  #array(source: readonly unknown[], path: string, depth: number): readonly Value[] {
    this.#enter(source, path);
    // Not `map`, which skips holes.
    const copy = Array.from(source, (item, index) => this.value(item, `${path}[${index}]`, depth + 1));
    this.#ancestors.pop();
    return Object.freeze(copy);
  }

  #enter(source: object, path: string): void {
    if (this.#ancestors.includes(source)) throw refuse("INVALID_VALUE", path, "contains itself");
    this.#ancestors.push(source);
  }
}

function checkNumber(value: number, path: string): number {
  if (!Number.isFinite(value)) throw refuse("INVALID_VALUE", path, `is ${value}; use null`);
  if (Number.isInteger(value) && !Number.isSafeInteger(value) && Math.abs(value) < FLOAT_FROM) {
    throw refuse("VALUE_OUT_OF_RANGE", path, `is ${value}, beyond the safe integers (2^53 - 1); use a text`);
  }
  return value;
}

function checkText(value: string, path: string): void {
  if (!FORBIDDEN_TEXT.test(value)) return;
  const what = value.includes("\0") ? "U+0000" : "half of a surrogate pair";
  throw refuse("INVALID_TEXT", path, `holds ${what}`);
}

function dateText(value: Date, path: string): string {
  if (Number.isNaN(value.getTime())) throw refuse("INVALID_VALUE", path, "is an invalid Date");
  const text = value.toISOString();
  // Years outside 0000 to 9999 get a sign and six digits.
  if (text.length !== 24)
    throw refuse("VALUE_OUT_OF_RANGE", path, `is ${text}, outside the years 0000 to 9999`);
  return text;
}

function checkSize(json: string, where: string): void {
  // A UTF-16 unit takes at most three bytes, so most rows need no count.
  if (json.length * 3 <= ROW_BYTES_MAX) return;
  const bytes = new TextEncoder().encode(json).length;
  if (bytes > ROW_BYTES_MAX)
    throw refuse("ROW_TOO_LARGE", where, `is ${bytes} bytes; at most ${ROW_BYTES_MAX} are stored`);
}

function isPlainObject(value: unknown): value is object {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // The last case is Object.prototype of another frame.
  return (
    prototype === null ||
    prototype === Object.prototype ||
    (Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype as object, "isPrototypeOf"))
  );
}

function isDate(value: unknown): value is Date {
  return Object.prototype.toString.call(value) === "[object Date]" && value instanceof Object;
}

function describe(value: unknown): string {
  if (value === undefined) return "undefined";
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value !== "object") return `a ${typeof value}`;
  return `an instance of ${value.constructor?.name ?? "a class"}`;
}

function refuse(code: ErrorCode, path: string, problem: string): SynclineError {
  return new SynclineError(code, `${path} ${problem}`);
}
