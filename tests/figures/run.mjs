// The figures of the README, in one run of headless Chromium against a real server on this machine.
//
//   node tests/figures/run.mjs [--server PROGRAM] [--static FOLDER] [--port N] [--json]
//
// `cargo xtask figures` builds everything first and calls this. The page takes all times but one by its own
// performance.now, cross-origin isolated so that the clock ticks in 5 µs; the import is timed around its process.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { measure } from "./measure.mjs";
import { printTable } from "./table.mjs";

const { values: options } = parseArgs({
  options: {
    server: { type: "string" },
    static: { type: "string" },
    port: { type: "string", default: "0" },
    json: { type: "boolean", default: false },
  },
});
const folder = await mkdtemp(join(tmpdir(), "syncline-figures-"));
try {
  const result = await measure({
    program: options.server,
    statics: options.static ?? join(folder, "site"),
    port: Number(options.port),
    folder,
    say: (line) => process.stderr.write(`${line}\n`),
  });
  if (options.json) console.log(JSON.stringify(result, null, 2));
  else printTable(result);
} finally {
  await rm(folder, { recursive: true, force: true });
}
