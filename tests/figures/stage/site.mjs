// The folder that the server shows the browser: the page of this folder beside the built package, laid out as in the package.

import { cp, mkdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const FIGURES = dirname(dirname(fileURLToPath(import.meta.url)));
const PACKAGE = join(FIGURES, "../../pkg");

const SCRIPTS = join(PACKAGE, "dist");
const MODULE = join(PACKAGE, "wasm/syncline_web_bg.wasm");

/** Copies page and package into `folder`. */
export async function makeSite(folder) {
  for (const file of [SCRIPTS, MODULE]) {
    await stat(file).catch(() => {
      throw new Error(`${file} is missing: cargo xtask build makes it.`);
    });
  }
  await mkdir(folder, { recursive: true });
  await cp(join(FIGURES, "page"), folder, { recursive: true });
  await cp(SCRIPTS, join(folder, "dist"), { recursive: true });
  await cp(MODULE, join(folder, "wasm/syncline_web_bg.wasm"));
}
