// Runs a test program that was compiled for wasm32-wasip1, as cargo's runner: its arguments, output and exit code pass through.

import { readFile } from "node:fs/promises";
import { argv, env, exit } from "node:process";
import { WASI } from "node:wasi";

const [, , program, ...args] = argv;
const wasi = new WASI({
  version: "preview1",
  args: [program, ...args],
  env,
  // Tests read vectors and expectations from the checkout by absolute path.
  preopens: { "/": "/" },
  returnOnExit: true,
});
const module = await WebAssembly.compile(await readFile(program));
exit(wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject())));
