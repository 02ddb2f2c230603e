// What `npm pack` makes, installed by hand in an empty folder, in Node: nothing it needs was left out.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { NOWHERE } from "./wire_server.ts";

const run = promisify(execFile);
const folder = await mkdtemp(join(tmpdir(), "syncline-tarball-"));
after(() => rm(folder, { recursive: true }));

const SCRIPT = `
import { createSyncEngine } from "syncline";
const engine = createSyncEngine("${NOWHERE}");
await engine.start();
const id = await engine.insert("todo", { title: "in memory" });
const { queue } = await engine.inspect();
console.log(JSON.stringify([engine.storage.kind, engine.store.get("todo", id)?.title, queue.length]));
await engine.stop();
const kept = createSyncEngine("${NOWHERE}", { persistence: { open: () => ({ read: () => [], commit() {}, close() {} }) } });
await kept.start();
console.log(JSON.stringify(kept.storage));
await kept.stop();
`;

test("the packed package works in Node, in memory and over a backend", async () => {
  const root = fileURLToPath(new URL("../pkg/", process.env.SYNCLINE_DOCS));
  const { stdout } = await run("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: root });
  await mkdir(join(folder, "node_modules/syncline"), { recursive: true });
  const unpacked = ["--strip-components=1", "-C", join(folder, "node_modules/syncline")];
  await run("tar", ["-xzf", join(folder, stdout.trim()), ...unpacked]);
  await writeFile(join(folder, "app.mjs"), SCRIPT);
  const answer = await run(process.execPath, [join(folder, "app.mjs")]);
  assert.deepEqual(answer.stdout.trim().split("\n"), ['["memory","in memory",1]', '{"kind":"backend"}']);
  assert.equal(answer.stderr, "");
});
