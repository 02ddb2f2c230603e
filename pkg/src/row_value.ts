// Comparing, ordering and freezing what came out of `JSON.parse`.

import type { Value } from "./types.ts";

/** Whether two values are the same in content. The order of an object's keys does not count. */
export function sameValue(left: Value | undefined, right: Value | undefined): boolean {
  if (left === right) return true;
  if (typeof left !== "object" || typeof right !== "object" || left === null || right === null) return false;
  if (isList(left) || isList(right)) {
    return (
      isList(left) &&
      isList(right) &&
      left.length === right.length &&
      left.every((item, index) => sameValue(item, right[index]))
    );
  }
  const keys = Object.keys(left);
  return (
    keys.length === Object.keys(right).length &&
    keys.every((key) => Object.hasOwn(right, key) && sameValue(left[key], right[key]))
  );
}

/** Freezes a value with everything inside. */
export function deepFreeze<T extends Value>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const member of Object.values(value)) deepFreeze(member as Value);
    Object.freeze(value);
  }
  return value;
}

/** Whether two lists hold the same objects. */
export function sameItems<T>(left: readonly T[], right: readonly T[]): boolean {
  return left.length === right.length && left.every((item, index) => item === right[index]);
}

/** Sorts rows by their ids. Ids are ASCII, so this is the order of their bytes too. */
export function byId(left: { readonly id: string }, right: { readonly id: string }): number {
  return left.id < right.id ? -1 : 1;
}

// `Array.isArray` does not narrow readonly arrays.
function isList(value: Value): value is readonly Value[] {
  return Array.isArray(value);
}
