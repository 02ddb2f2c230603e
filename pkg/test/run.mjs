// Bundles the tests of this folder and runs them: `npm test`, or `node test/run.mjs values` for some of them.

import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const [wanted = ""] = process.argv.slice(2);
const names = (await readdir(here)).filter((name) => name.endsWith(".test.ts") && name.includes(wanted));
const out = await mkdtemp(join(tmpdir(), "syncline-pkg-test-"));
try {
  await build({
    absWorkingDir: here,
    entryPoints: names,
    outdir: out,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    sourcemap: "inline",
    logLevel: "warning",
    // The built package is loaded as it is shipped.
    external: ["#wasm-glue", "syncline"],
  });
  // Makes `syncline` resolve through the exports map, as for somebody who installed it.
  await mkdir(join(out, "node_modules"));
  await symlink(join(here, ".."), join(out, "node_modules/syncline"), "dir");
  const files = names.map((name) => join(out, name.replace(/\.ts$/, ".mjs")));
  // Node 20 has the interface behind a flag; from 22 on it is there.
  const flags = "WebSocket" in globalThis ? [] : ["--experimental-websocket"];
  const run = spawn(process.execPath, [...flags, "--enable-source-maps", "--test", ...files], {
    stdio: "inherit",
    // The bundled tests lie elsewhere.
    env: { ...process.env, SYNCLINE_DOCS: new URL("../../docs/", import.meta.url).href },
  });
  process.exitCode = await new Promise((resolve) => run.on("exit", (code) => resolve(code ?? 1)));
} finally {
  await rm(out, { recursive: true, force: true });
}
