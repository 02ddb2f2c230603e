// What the files of the second copy of the queue come to: of several tabs, torn, and of tabs that knew different things.

import assert from "node:assert/strict";
import { test } from "node:test";
import { merge } from "../src/lost_queue.ts";
import { decode, type Entry, encode, encodeKeys, HEAD, KIND } from "../src/queue_copy_format.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const added = (key: number, text: string): Entry => ({ kind: KIND.added, fence: 0, key, bytes: bytes(text) });
const put = (fence: number, key: number, text: string): Entry => ({
  kind: KIND.put,
  fence,
  key,
  bytes: bytes(text),
});
const removed = (key: number): Entry => ({ kind: KIND.removed, fence: 0, key, bytes: new Uint8Array() });
const undone = (key: number): Entry => ({ kind: KIND.undone, fence: 0, key, bytes: new Uint8Array() });
const left = (key: number, ...keys: number[]): Entry => ({
  kind: KIND.left,
  fence: 0,
  key,
  bytes: encodeKeys(keys),
});

function check(files: readonly (readonly Entry[])[], expected: readonly string[], last: number): void {
  const found = merge(files);
  const texts = found.records.map(([key, record]) => `${key} ${new TextDecoder().decode(record)}`);
  assert.deepEqual(texts, expected);
  assert.equal(found.last, last);
}

test("records stand in order of their keys, whichever tab added them", () => {
  check([[added(2, "b"), added(3, "c")], [added(1, "a")], []], ["1 a", "2 b", "3 c"], 3);
});

test("what was removed by any tab is gone, also where the record comes later", () => {
  check([[removed(1)], [added(1, "a"), added(2, "b")]], ["2 b"], 2);
  check([[added(1, "a")], [removed(1), removed(7)]], [], 7);
});

test("of what leaders wrote the greatest fence is right, and of one leader the latest", () => {
  check(
    [[added(1, "new")], [put(2, 1, "sent")], [put(3, 1, "failed"), put(3, 1, "sent again")]],
    ["1 sent again"],
    1,
  );
  check([[put(3, 1, "of the third")], [put(2, 1, "of the second")]], ["1 of the third"], 1);
  assert.equal(merge([[put(3, 1, "x")], [put(2, 1, "y")]]).fence, 3);
});

test("a file that was written anew speaks for all keys up to one", () => {
  check([[left(3, 2)], [added(1, "a"), added(2, "b"), added(3, "c"), added(4, "d")]], ["2 b", "4 d"], 4);
});

test("what failed to be stored does not take another tab's record of the same key away", () => {
  check([[added(1, "failed"), undone(1)], [added(1, "stored")]], ["1 stored"], 1);
  // A crash came before it was undone: neither is guessed away.
  check(
    [[added(1, "failed")], [added(1, "stored"), added(2, "other")]],
    ["1 failed", "2 other", "3 stored"],
    3,
  );
});

test("a file is read up to the first entry that is not whole", () => {
  const entries = [added(1, "first"), put(2, 3, "second"), left(9, 1, 3)];
  const file = new Uint8Array([...HEAD, ...encode(entries)]);
  assert.deepEqual(decode(file), entries);
  const ends = entries.map((_, index) => HEAD.length + encode(entries.slice(0, index + 1)).length);
  for (let size = 0; size <= file.length; size += 1) {
    const whole = ends.filter((end) => end <= size).length;
    assert.deepEqual(decode(file.slice(0, size)), entries.slice(0, whole), `${size} bytes`);
  }
  for (let at = HEAD.length; at < file.length; at += 1) {
    const damaged = file.slice();
    damaged[at] = (damaged[at] ?? 0) ^ 1;
    const whole = ends.filter((end) => end <= at).length;
    assert.deepEqual(decode(damaged), entries.slice(0, whole), `byte ${at}`);
  }
});

test("the file of a newer version is refused", () => {
  assert.throws(() => decode(bytes("SYQ2")), /another format/);
});
