// Builds the chat into www/dist: script, style and wasm with their content's hash in their names, the page that names
// them, and the service worker that stores them.

import { createHash } from "node:crypto";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const dist = join(here, "dist");
const packageFolder = join(here, "../pkg");

const shared = {
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  legalComments: "none",
  logLevel: "warning",
  absWorkingDir: here,
};

await rm(dist, { recursive: true, force: true });
await mkdir(dist, { recursive: true });
await cp(join(here, "static"), dist, { recursive: true });

const { metafile } = await build({
  ...shared,
  entryPoints: ["src/main.ts", "src/style.css"],
  outdir: "dist",
  entryNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  loader: { ".wasm": "file" },
  metafile: true,
  plugins: [publishedSurface()],
});

const built = Object.keys(metafile.outputs).map((path) => basename(path));
const html = fill(await readFile(join(here, "src/index.html"), "utf8"), {
  script: named(built, "main-", ".js"),
  style: named(built, "style-", ".css"),
});
await writeFile(join(dist, "index.html"), html);
await buildServiceWorker(html);

/** Resolves `syncline` as an installed package would be: through its exports map, which hides everything else. */
function publishedSurface() {
  return {
    name: "published-surface",
    async setup({ onResolve }) {
      const manifest = JSON.parse(await readFile(join(packageFolder, "package.json"), "utf8"));
      onResolve({ filter: /^syncline(\/|$)/ }, ({ path }) => {
        const entry = manifest.exports[`.${path.slice("syncline".length)}`];
        const target = typeof entry === "string" ? entry : (entry?.import ?? entry?.default);
        if (typeof target !== "string")
          return { errors: [{ text: `the package syncline does not export "${path}"` }] };
        return { path: join(packageFolder, target), sideEffects: manifest.sideEffects ?? true };
      });
    },
  };
}

async function buildServiceWorker(page) {
  const files = (await readdir(dist)).filter((name) => name !== "index.html").sort();
  const hash = createHash("sha256").update(page);
  // Names of copied files carry no hash, so their content counts too.
  for (const name of files) hash.update(name).update(await readFile(join(dist, name)));
  await build({
    ...shared,
    // Not every browser runs a module as service worker.
    format: "iife",
    entryPoints: ["src/service_worker.ts"],
    outfile: "dist/service_worker.js",
    define: {
      BUILD: JSON.stringify(hash.digest("hex").slice(0, 16)),
      FILES: JSON.stringify(files.map((name) => `./${name}`)),
    },
  });
}

function named(names, start, end) {
  const name = names.find((candidate) => candidate.startsWith(start) && candidate.endsWith(end));
  if (name === undefined) throw new Error(`the build made no file ${start}*${end}`);
  return name;
}

function fill(text, values) {
  return text.replace(/\{\{(\w+)\}\}/g, (_, key) => values[key]);
}
