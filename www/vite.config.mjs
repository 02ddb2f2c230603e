// Builds the chat into www/dist with Vite: every script, style and module has its content's hash in its name, so that
// what is stored under a name is right for ever. service_worker.config.mjs then adds the worker that stores them.

import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const folder = (name) => fileURLToPath(new URL(name, import.meta.url));

export default defineConfig({
  root: folder("src"),
  publicDir: folder("static"),
  // The chat may stand in any folder of a server.
  base: "./",
  logLevel: "warn",
  build: {
    outDir: folder("dist"),
    emptyOutDir: true,
    target: "es2022",
    // Nothing becomes a data: address, which the page's content security policy would refuse.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    assetsDir: "",
    reportCompressedSize: false,
  },
});
