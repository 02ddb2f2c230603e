// The package as a later version of it would be: the same sources, and more versions of the layout of a database. How many, the
// page says in `globalThis.layoutVersion` before it loads the package.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const LATER = join(here, "page/later_layout.js");
const PACKAGE = join(here, "../../pkg/src");

/** Builds it into a folder that lies beside `wasm/`, as the package's `dist/` does. */
export async function buildLaterPackage(outdir) {
  let added = 0;
  const plugin = {
    name: "later-layout",
    setup({ onLoad }) {
      onLoad({ filter: /snippets[\\/].*[\\/]storage\.js$/ }, async ({ path }) => {
        added += 1;
        const text = await readFile(path, "utf8");
        const more = `import { laterSteps } from ${JSON.stringify(LATER)};
          STEPS.push(...laterSteps(globalThis.layoutVersion ?? 1));`;
        return { contents: `${text}\n${more}`, loader: "js" };
      });
    },
  };
  const script = { bundle: true, minify: true, format: "esm", target: ["es2022"], outdir, logLevel: "error" };
  const worker = { ...script, entryPoints: [join(PACKAGE, "queue_copy_worker.ts")] };
  const page = { ...script, entryPoints: [join(PACKAGE, "index.ts")], splitting: true, plugins: [plugin] };
  await Promise.all([build(page), build(worker)]);
  if (added !== 1) throw new Error("the package has no steps that a version could be added to");
}
