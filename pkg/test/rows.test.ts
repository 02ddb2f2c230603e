import assert from "node:assert/strict";
import { test } from "node:test";
import type { RawEngine } from "../src/raw.ts";
import { Rows } from "../src/rows.ts";

/** A replica with one row, at the version that every replica's first row has. */
function replicaOf(owner: string): RawEngine {
  const some: Pick<RawEngine, "rowVersion" | "rowJson"> = {
    rowVersion: () => 1,
    rowJson: (_entity, id) => JSON.stringify({ id, owner }),
  };
  return some as RawEngine;
}

test("a row read by itself is the present replica's, also when the page's rows were shown between two", () => {
  const rows = new Rows(() => {});
  rows.attach(replicaOf("alice"));
  assert.deepEqual(rows.get("note", "a"), { id: "a", owner: "alice" });
  rows.serve({ identity: { userId: "bob", tenantId: null }, rows: new Map() });
  rows.attach(replicaOf("bob"));
  rows.serve(undefined);
  assert.deepEqual(rows.get("note", "a"), { id: "a", owner: "bob" });
});
