// Where the figures were taken, and how large the download is.

import { readFile } from "node:fs/promises";
import { cpus, loadavg, platform, release, totalmem } from "node:os";

/** Processor, memory, system and how busy the machine is. */
export function machine() {
  const processors = cpus();
  return {
    cpu: processors[0]?.model.trim() ?? "unknown",
    cores: processors.length,
    memory_gib: Math.round(totalmem() / 2 ** 30),
    system: `${platform()} ${release()}`,
    load_average: loadavg().map((load) => Number(load.toFixed(2))),
  };
}

/** Bytes after gzip -9 of what a page downloads, as `cargo xtask size` has counted them. */
export async function downloadSizes() {
  const report = process.env.SYNCLINE_SIZES_JSON;
  if (!report) throw new Error("SYNCLINE_SIZES_JSON is not set: run this by `cargo xtask figures`.");
  const { sdk } = JSON.parse(await readFile(report, "utf8"));
  return { wasm_gzip_bytes: sdk.wasm_gzip_bytes, js_gzip_bytes: sdk.js_gzip_bytes };
}
