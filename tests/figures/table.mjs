// The figures for people.

const LINES = [
  ["import_rows_per_s", "rows imported per second", 0],
  ["pull_100k_durable_s", "100,000 rows pulled and durable, s", 2],
  ["cold_start_100k_first_list_ms", "cold start to the first list of 100,000 rows, ms", 0],
  ["insert_notify_ms_p50", "insert to subscriber over 100,000 rows, ms, median", 4],
  ["insert_notify_ms_p99", "the same, 99th percentile", 4],
  ["insert_durable_ms_p50", "insert until it is on disk, ms, median", 2],
  ["offline_400_durable_s", "400 inserts offline until all are on disk, s", 3],
  ["wasm_gzip_bytes", "WebAssembly module, bytes after gzip", 0],
  ["js_gzip_bytes", "JavaScript, bytes after gzip", 0],
];

/** Prints the figures, then what they are made of, then the machine. */
export function printTable(result) {
  const { machine, rows, floor, details } = result;
  for (const [key, label, digits] of LINES) console.log(`${label.padEnd(54)}${number(result[key], digits)}`);
  console.log("\nparts (median; min to max; n)");
  printSpreads(details);
  console.log("\nthe floor: a plain Map and IndexedDB written by hand, in the same run");
  printSpreads(floor);
  const load = `load average ${machine.load_average[0]} before, ${machine.load_average_after[0]} after`;
  console.log(
    `\n${rows.count} rows of ${rows.fields} fields and ${rows.bytes_mean} bytes of JSON on average`,
  );
  console.log(
    `${machine.cpu}, ${machine.cores} cores, ${machine.memory_gib} GiB, ${machine.system}; ${load}`,
  );
  console.log(`Chromium ${machine.browser}`);
}

function printSpreads(group) {
  for (const [name, value] of Object.entries(group)) {
    const text =
      typeof value === "object" && value.median !== undefined ? spreadText(value) : JSON.stringify(value);
    console.log(`  ${name.padEnd(44)}${text}`);
  }
}

function spreadText({ median, p99, min, max, n }) {
  const tail = p99 === undefined ? "" : `, p99 ${short(p99)}`;
  return `${short(median)}  (${short(min)} to ${short(max)}${tail}; n = ${n})`;
}

function short(value) {
  return number(value, value >= 100 ? 0 : value >= 1 ? 2 : 4);
}

function number(value, digits) {
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
