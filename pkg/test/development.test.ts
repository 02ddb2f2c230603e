// The lines that a developer's console shows.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { logProblems } from "../src/development.ts";
import { REMEDIES } from "../src/remedies.ts";
import { code, known, make, started } from "./engine_harness.ts";

function lines() {
  const said: string[] = [];
  return { said, log: { warn: (line: string) => void said.push(line) } };
}

test("each problem is one line with code, cause and remedy, once while it lasts", async () => {
  const { engine, world } = await started();
  const { said, log } = lines();
  const end = logProblems(engine, log);
  world.engine.emit({ type: "problem", code: "STORAGE_FULL", message: "no space" });
  world.engine.emit({ type: "problem", code: "STORAGE_FULL", message: "no space" });
  engine.store.subscribe(() => {
    throw new Error("mine");
  });
  const write = engine.insert("todo", { id: "a", title: "one" });
  world.engine.fail(write.opId, { code: "POLICY_DENIED", message: "not yours", hint: "Ask." });
  assert.deepEqual(said.splice(0), [
    `syncline: STORAGE_FULL: no space. What to do: ${REMEDIES.STORAGE_FULL}`,
    `syncline: INTERNAL: a listener of the application threw (mine). What to do: ${REMEDIES.INTERNAL}`,
    "syncline: POLICY_DENIED: the insert of todo/a failed: not yours. What to do: Ask.",
    `syncline: INTERNAL: a listener of the application threw (mine). What to do: ${REMEDIES.INTERNAL}`,
  ]);
  end();
  world.engine.emit({ type: "problem", code: "STORAGE_CORRUPT", message: "damaged" });
  assert.deepEqual(said, []);
});

test("a start that fails is a line too, and still fails", async () => {
  const { engine } = make({}, known());
  const { said, log } = lines();
  logProblems(engine, log);
  const starting = engine.start();
  const stopping = engine.stop();
  await assert.rejects(starting, code("NOT_STARTED"));
  await stopping;
  assert.match(said.join("\n"), /^syncline: NOT_STARTED: .* What to do: [^\n]+$/);
});

test("the remedies are those of the page", async () => {
  const page = await readFile(new URL("errors.md", process.env.SYNCLINE_DOCS), "utf8");
  const listed = page
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) => line.slice(2, -2).split(" | "))
    .map((cells) => [cells[0]?.trim().replaceAll("`", ""), cells[4]?.trim()]);
  assert.deepEqual(Object.entries(REMEDIES), listed);
});
