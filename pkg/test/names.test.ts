// Every name of the table "Coming from Pylon's client" in docs/api.md is there, or says when it comes.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { NOWHERE } from "./wire_server.ts";

const name: string = "syncline";
const exports = (await import(name)) as typeof import("../src/index.ts");
type Named = Readonly<Record<string, unknown>>;

/** The document this API takes its names from has these; the table must not lose one. */
const NAMES_MIN = 45;

const page = await readFile(new URL("api.md", process.env.SYNCLINE_DOCS), "utf8");
const rows = page
  .slice(page.indexOf("## Coming from Pylon's client"))
  .split("\n")
  .filter((line) => line.startsWith("| `"))
  .flatMap((line) => {
    const [there = "", here = ""] = line.slice(2).split(" | ");
    return [...there.matchAll(/`([^`]+)`/g)].map(([, entry = ""]) => ({
      entry,
      isLater: here.startsWith("0.2"),
    }));
  });

const engine = exports.createSyncEngine(NOWHERE);
const objects: Readonly<Record<string, unknown>> = { engine, query: engine.createInfiniteQuery("post") };

/** What a path such as `engine.store.list` leads to. */
function at(path: string): unknown {
  const [first = "", ...rest] = path.split(".");
  return rest.reduce<unknown>(
    (object, part) => (object as Named)[part],
    objects[first] ?? (exports as Named)[first],
  );
}

/** Names an option, as `{ wsUrl }` or `{ transport: "sse" }`, with the value it stands for. */
function option(entry: string): readonly [string, unknown] | undefined {
  const [, key, value] = /^\{ (\w+)(?:: "(\w+)")? \}$/.exec(entry) ?? [];
  return key === undefined ? undefined : [key, value];
}

function isLaterError(error: unknown): boolean {
  return (
    error instanceof exports.SynclineError && error.code === "NOT_SUPPORTED" && /\b0\.2\b/.test(error.message)
  );
}

test("the table has all of the names", () => {
  assert.ok(new Set(rows.map(({ entry }) => entry)).size >= NAMES_MIN, `${rows.length}`);
});

for (const { entry, isLater } of rows) {
  test(`${entry} ${isLater ? "says when it comes" : "is here"}`, () => {
    const named = option(entry);
    const use = (): unknown => {
      if (named === undefined) return isLater ? (at(entry) as () => unknown)() : at(entry);
      return exports.createSyncEngine({ baseUrl: NOWHERE, [named[0]]: named[1] });
    };
    if (isLater) assert.throws(use, isLaterError);
    else assert.notEqual(use(), undefined);
  });
}
