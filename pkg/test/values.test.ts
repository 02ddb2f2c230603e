import assert from "node:assert/strict";
import { test } from "node:test";
import { SynclineError } from "../src/errors.ts";
import { encodeFields } from "../src/values.ts";

const cyclic: { self?: unknown } = {};
cyclic.self = cyclic;

function nested(depth: number): unknown {
  return depth === 0 ? 1 : { a: nested(depth - 1) };
}

const REFUSED: readonly [fields: unknown, code: string, part: string][] = [
  [{ n: Number.NaN }, "INVALID_VALUE", "todo.n is NaN"],
  [{ n: [0, Number.POSITIVE_INFINITY] }, "INVALID_VALUE", "todo.n[1] is Infinity"],
  [{ n: 10n }, "INVALID_VALUE", "todo.n is a bigint"],
  [{ f: () => 1 }, "INVALID_VALUE", "todo.f is a function"],
  [{ s: Symbol("s") }, "INVALID_VALUE", "todo.s is a symbol"],
  [{ list: [1, undefined] }, "INVALID_VALUE", "todo.list[1] is undefined"],
  [{ list: new Array(1) }, "INVALID_VALUE", "todo.list[0] is undefined"],
  [cyclic, "INVALID_VALUE", "todo.self contains itself"],
  [{ m: new Map() }, "INVALID_VALUE", "todo.m is an instance of Map"],
  [{ b: { bytes: new Uint8Array(1) } }, "INVALID_VALUE", "todo.b.bytes is an instance of Uint8Array"],
  [{ d: new Date(Number.NaN) }, "INVALID_VALUE", "todo.d is an invalid Date"],
  [{ d: new Date(Date.UTC(10_000, 0)) }, "VALUE_OUT_OF_RANGE", "todo.d"],
  [{ t: "a\ud800b" }, "INVALID_TEXT", "todo.t holds half"],
  [{ t: "\udc00" }, "INVALID_TEXT", "todo.t holds half"],
  [{ t: "a\0b" }, "INVALID_TEXT", "todo.t holds U+0000"],
  [{ o: { "k\0": 1 } }, "INVALID_TEXT", "todo.o"],
  [JSON.parse('{"a":{"__proto__":1}}'), "RESERVED_KEY", "todo.a.__proto__"],
  [{ constructor: 1 }, "RESERVED_KEY", "todo.constructor"],
  [nested(33), "VALUE_TOO_DEEP", "todo.a.a"],
  [{ n: 2 ** 53 }, "VALUE_OUT_OF_RANGE", "todo.n is 9007199254740992"],
  [{ n: -(2 ** 60) }, "VALUE_OUT_OF_RANGE", "todo.n"],
  [{ t: "x".repeat(1024 * 1024) }, "ROW_TOO_LARGE", "todo is 1048584 bytes"],
  [{ t: "ü".repeat(600 * 1024) }, "ROW_TOO_LARGE", "todo is"],
  [undefined, "INVALID_VALUE", "todo is undefined"],
  [[1], "INVALID_VALUE", "todo is an array"],
  ["text", "INVALID_VALUE", "todo is a string"],
];

for (const [fields, code, part] of REFUSED) {
  test(`${part} is refused with ${code}`, () => {
    assert.throws(
      () => encodeFields(fields, "todo"),
      (error) => error instanceof SynclineError && error.code === code && error.message.startsWith(part),
    );
  });
}

test("what fits is copied, frozen and encoded", () => {
  const when = new Date(Date.UTC(2026, 0, 2, 3, 4, 5, 6));
  const inner = [1, { deep: true }];
  const given = {
    id: "mine",
    when,
    absent: undefined,
    nothing: null,
    list: inner,
    pair: "😀",
    zero: -0,
    far: 1e300,
  };
  const { data, json } = encodeFields(given, "todo");
  inner.push(2);
  assert.deepEqual(JSON.parse(json), {
    when: "2026-01-02T03:04:05.006Z",
    nothing: null,
    list: [1, { deep: true }],
    pair: "😀",
    zero: 0,
    far: 1e300,
  });
  assert.ok(Object.isFrozen(data) && Object.isFrozen(data.list));
});

test("objects without a prototype and the same object twice are plain values", () => {
  const twice = { a: 1 };
  const bare: { [key: string]: unknown } = Object.create(null);
  bare.list = [twice, twice];
  assert.deepEqual(JSON.parse(encodeFields(bare, "todo").json), { list: [{ a: 1 }, { a: 1 }] });
});

test("32 levels and the largest integer are stored", () => {
  assert.equal(encodeFields(nested(32), "todo").json.length > 0, true);
  assert.equal(encodeFields({ n: Number.MAX_SAFE_INTEGER }, "todo").json, '{"n":9007199254740991}');
});
