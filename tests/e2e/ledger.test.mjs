// The ledger's arithmetic: it must find what is lost and what is doubled, else it would prove nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const { outputFiles } = await build({
  entryPoints: [fileURLToPath(new URL("../../www/src/stage/ledger.ts", import.meta.url))],
  bundle: true,
  write: false,
  format: "esm",
});
const { countUp } = await import(
  `data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`
);

const life = (id, more = {}) => ({ id, print: `print ${id}`, diskAt: 1, confirmedAt: 2, end: null, ...more });
const row = (id, print = `print ${id}`) => ({ id, print });
const device = (rows, { waiting = [], refused = [] } = {}) => ({
  rows,
  waiting: new Set(waiting),
  refused: new Set(refused),
});
const server = (rows, askedAt = 10) => ({ rows, askedAt });

/** Counts and gives those of the numbers that are asked for. */
function check(lives, devices, books, expected) {
  const ledger = countUp(lives, devices, books);
  const asked = Object.fromEntries(Object.keys(expected).map((key) => [key, ledger[key]]));
  assert.deepEqual(asked, expected);
}

test("what everybody holds once is settled", () => {
  check([life("a")], [device([row("a")]), device([row("a")])], server([row("a")]), {
    ...{ written: 1, onDisk: 1, confirmed: 1, refused: 0, lost: 0, doubled: 0 },
    ...{ held: [1, 1, 1], isSettled: true },
  });
});

test("what waits in a queue is neither lost nor settled", () => {
  const waiting = life("a", { confirmedAt: null });
  check([waiting], [device([row("a")], { waiting: ["a"] }), device([])], server([]), {
    lost: 0,
    isSettled: false,
  });
});

test("what nobody holds is lost", () => {
  check([life("a", { confirmedAt: null })], [device([]), device([])], server([]), {
    lost: 1,
    isSettled: false,
  });
});

test("what was confirmed and is not on the server is lost, whoever else shows it", () => {
  check([life("a")], [device([row("a")]), device([row("a")])], server([]), { lost: 1 });
});

test("a server that was asked before it confirmed says nothing about a message", () => {
  check([life("a", { confirmedAt: 20 })], [device([row("a")]), device([])], server([]), { lost: 0 });
  check([life("a")], [device([row("a")]), device([])], null, {
    lost: 0,
    held: [1, 0, null],
    isSettled: false,
  });
});

test("one message under two ids is doubled, in a replica or on the server", () => {
  const twice = [row("a"), row("temporary", "print a")];
  check([life("a")], [device(twice), device([row("a")])], server([row("a")]), { doubled: 1 });
  check([life("a")], [device([row("a")]), device(twice)], server(twice), { doubled: 1 });
  check([life("a")], [device([row("a")]), device([])], server([row("x", "other"), row("y", "other")]), {
    doubled: 0,
  });
});

test("a refused message is in its queue and missing nowhere; a discarded one does not count", () => {
  const refused = life("a", { confirmedAt: null, end: "refused" });
  check([refused], [device([], { refused: ["a"] }), device([])], server([]), {
    refused: 1,
    lost: 0,
    isSettled: true,
  });
  check([life("a", { end: "discarded" })], [device([]), device([])], server([]), { written: 0, lost: 0 });
});
