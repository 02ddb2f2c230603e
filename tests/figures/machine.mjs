// Where the figures were taken, and how large the download is.

import { readFile } from "node:fs/promises";
import { cpus, loadavg, platform, release, totalmem } from "node:os";
import { gzipSync } from "node:zlib";
import { MODULE, SCRIPT } from "./stage/site.mjs";

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

/** Bytes after gzip -9, as `cargo xtask size` counts them where that has run. */
export async function downloadSizes() {
  const report = process.env.SYNCLINE_SIZES_JSON;
  if (report) {
    const { sdk } = JSON.parse(await readFile(report, "utf8"));
    return { wasm_gzip_bytes: sdk.wasm_gzip_bytes, js_gzip_bytes: sdk.js_gzip_bytes };
  }
  const gzip = async (file) => gzipSync(await readFile(file), { level: 9 }).length;
  return { wasm_gzip_bytes: await gzip(MODULE), js_gzip_bytes: await gzip(SCRIPT) };
}
