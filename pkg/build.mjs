// Builds dist/: the declarations, and the minified scripts: for production, for development, and what is loaded on demand.
// They hold the glue of wasm/ (made before by `cargo xtask build`).

import { execFile } from "node:child_process";
import { access, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const dist = join(here, "dist");
const glue = join(here, "wasm/syncline_web.js");

/** What all scripts have in common. */
const SCRIPT = {
  absWorkingDir: here,
  outdir: "dist",
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  legalComments: "none",
  sourcemap: "external",
  sourcesContent: true,
  logLevel: "warning",
};

await access(glue).catch(() => {
  console.error("pkg/wasm is missing. Run `cargo xtask build`, which makes it and then calls this script.");
  process.exit(1);
});
await rm(dist, { recursive: true, force: true });
await Promise.all([bundle(), bundleWorker(), declare()]);

async function bundle() {
  await build({
    ...SCRIPT,
    entryPoints: ["src/index.ts", "src/development.ts"],
    // All files lie side by side: src/module.ts names the module by its place relative to them, src/copy_line.ts the worker.
    chunkNames: "[name]-[hash]",
    splitting: true,
  });
}

/** A worker is found by its address, so it is one file that shares nothing with the page. */
async function bundleWorker() {
  await build({ ...SCRIPT, entryPoints: ["src/queue_copy_worker.ts"] });
}

/** Emits the declarations with the names that resolve in every TypeScript setting. */
async function declare() {
  const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
  await promisify(execFile)(process.execPath, [tsc, "--project", here]).catch((error) => {
    console.error(error.stdout);
    process.exit(1);
  });
  const types = join(dist, "types");
  for (const name of await readdir(types)) {
    const file = join(types, name);
    const text = await readFile(file, "utf8");
    await writeFile(file, text.replaceAll(/(from |import\()"(\.\/\w+)\.ts"/g, '$1"$2.js"'));
  }
}
