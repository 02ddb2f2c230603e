// Builds the service worker after everything else: it holds the names of all files and the hash of their contents.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const folder = (name) => fileURLToPath(new URL(name, import.meta.url));
const WORKER = "service_worker.js";

export default defineConfig(() => {
  const dist = folder("dist");
  const files = readdirSync(dist)
    .filter((name) => name !== WORKER)
    .sort();
  const hash = createHash("sha256");
  // Names of copied files carry no hash, so their content counts too.
  for (const name of files) hash.update(name).update(readFileSync(`${dist}/${name}`));
  return {
    root: folder("src"),
    publicDir: false,
    logLevel: "warn",
    define: {
      BUILD: JSON.stringify(hash.digest("hex").slice(0, 16)),
      // The page itself is asked for by its folder's address.
      FILES: JSON.stringify(files.filter((name) => name !== "index.html").map((name) => `./${name}`)),
    },
    build: {
      outDir: dist,
      emptyOutDir: false,
      target: "es2022",
      reportCompressedSize: false,
      rollupOptions: {
        input: folder("src/service_worker.ts"),
        // Not every browser runs a module as service worker.
        output: { format: "iife", entryFileNames: WORKER },
      },
    },
  };
});
