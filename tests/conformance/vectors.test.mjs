// Reads the vectors with the small independent implementation in reference.mjs; crates/protocol/tests/vectors.rs reads the
// same files with the code that is shipped. Run with `node --test tests/conformance`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as reference from "./reference.mjs";

const load = (name) => JSON.parse(readFileSync(new URL(name, import.meta.url), "utf8"));

test("canonical JSON", () => {
  const { values, numbers } = load("canonical.json");
  for (const { name, text, canonical } of values) {
    assert.equal(reference.canonical(JSON.parse(text)), canonical, name);
    assert.equal(reference.canonical(JSON.parse(canonical)), canonical, `${name}, again`);
  }
  for (const { bits, canonical } of numbers) {
    assert.equal(reference.canonical(reference.numberOfBits(bits)), canonical, bits);
  }
});

test("intents", () => {
  const { intents, refused } = load("intents.json");
  for (const { name, text, canonical, hash } of intents) {
    assert.equal(reference.canonicalIntent(text), canonical, name);
    assert.equal(reference.canonicalIntent(canonical), canonical, `${name}, again`);
    assert.equal(reference.intentHash(canonical), hash, name);
  }
  assert.ok(refused.every(({ code }) => /^[A-Z_]+$/.test(code)));
});

test("bearer subprotocols", () => {
  const { tokens, decoded, refused, too_long } = load("subprotocol.json");
  for (const { token, subprotocol } of tokens) {
    assert.equal(reference.bearerSubprotocol(token), subprotocol);
    assert.equal(reference.tokenOfSubprotocol(subprotocol), token);
    assert.match(subprotocol, /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/, "a browser's WebSocket accepts it");
  }
  for (const { name, token, subprotocol } of decoded) {
    assert.equal(reference.tokenOfSubprotocol(subprotocol), token, name);
  }
  for (const subprotocol of refused)
    assert.equal(reference.tokenOfSubprotocol(subprotocol), null, subprotocol);
  for (const bytes of too_long) assert.equal(reference.bearerSubprotocol("x".repeat(bytes)), null);
});

test("values of rows", () => {
  for (const row of load("values.json").rows) {
    assert.equal(reference.rowRefusal(reference.rowText(row)), row.code, row.name);
  }
});

test("what can be stored can be stored again from its canonical bytes", () => {
  for (const row of load("values.json").rows.filter(({ code }) => code === null)) {
    const canonical = reference.canonical(JSON.parse(reference.rowText(row)));
    assert.equal(reference.rowRefusal(canonical), null, row.name);
  }
});

test("checksums", () => {
  for (const { name, changes, count, checksum } of load("checksum.json").checksums) {
    const made = Array.from({ length: count ?? 0 }, (_, i) => ({
      entity: "Row",
      row_id: `row-${i}`,
      seq: i + 1,
    }));
    assert.equal(reference.pageChecksum(changes ?? made), checksum, name);
  }
});

test("ids and names", () => {
  const { row_ids, names, op_ids, minted } = load("row_ids.json");
  for (const { id, code } of row_ids) assert.equal(reference.rowIdRefusal(id), code, JSON.stringify(id));
  for (const { id, code } of names) assert.equal(reference.nameRefusal(id), code, JSON.stringify(id));
  for (const { id, code } of op_ids) assert.equal(reference.opIdRefusal(id), code, JSON.stringify(id));
  for (const { ms, random, row_id } of minted) {
    assert.equal(reference.rowIdV7(ms, random), row_id);
    assert.equal(reference.rowIdRefusal(row_id), null);
  }
});

test("pages hold together", () => {
  const { server, pages, answers, wrong_checksums } = load("messages.json");
  const parsed = [...server, ...pages, ...answers].map(({ text, name }) => ({
    name,
    body: JSON.parse(text),
  }));
  const found = parsed
    .map(({ name, body }) => ({ name, page: body.frame ?? body }))
    .filter(({ page }) => page.changes);
  assert.ok(found.length >= 10);
  for (const { name, page } of found) checkPage(name, page);
  for (const { name, text } of wrong_checksums) {
    const page = JSON.parse(text);
    assert.notEqual(reference.pageChecksum(page.changes), page.checksum, name);
  }
});

function checkPage(name, page) {
  assert.equal(reference.pageChecksum(page.changes), page.checksum, name);
  assert.ok(page.from <= page.to && page.cursor.last_seq === page.to, name);
  for (const change of page.changes) {
    assert.equal(reference.rowIdRefusal(change.row_id), null, name);
    const full = change.data !== undefined;
    if (["insert", "update", "enter"].includes(change.kind))
      assert.ok(full, `${name}: ${change.kind} has the row`);
    if (["delete", "leave"].includes(change.kind)) assert.ok(!full, `${name}: ${change.kind} has no row`);
    const own = page.transactions.some(
      ({ first_seq, last_seq }) => first_seq <= change.seq && change.seq <= last_seq,
    );
    assert.ok(own || change.kind === "enter", `${name}: seq ${change.seq} belongs to a transaction`);
  }
  const last = page.transactions.at(-1)?.last_seq;
  assert.ok(last === undefined || last === page.to, `${name}: a page ends at the end of a transaction`);
}
