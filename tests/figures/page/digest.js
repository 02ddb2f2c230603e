// What two sides must agree on about a set of rows. Runs in the page and in Node.

/** Counts, sums and distinct values of each column, and a hash over all rows without their ids. */
export async function digest(rows) {
  const columns = {};
  for (const row of rows) {
    for (const [name, value] of Object.entries(row)) {
      if (name === "id") continue;
      columns[name] ??= { count: 0, sum: 0n, min: value, max: value, values: new Set() };
      const column = columns[name];
      column.count += 1;
      column.sum += exact(value);
      if (value < column.min) column.min = value;
      if (value > column.max) column.max = value;
      column.values.add(value);
    }
  }
  const named = Object.entries(columns).sort(([left], [right]) => (left < right ? -1 : 1));
  const plain = named.map(([name, { count, sum, min, max, values }]) => {
    return { name, count, sum: String(sum), min, max, distinct: values.size };
  });
  return { rows: rows.length, columns: plain, hash: await hashOf(rows) };
}

/** A number in units of 2^-40: sums of these are exact, so that their order does not matter. */
function exact(value) {
  if (typeof value !== "number") return BigInt(String(value).length);
  return BigInt(Math.round(value * 2 ** 40));
}

/** SHA-256 of the rows without ids, in the order of their text. */
async function hashOf(rows) {
  const texts = rows.map((row) => {
    const { id: _, ...fields } = row;
    return JSON.stringify(Object.entries(fields).sort(([left], [right]) => (left < right ? -1 : 1)));
  });
  const bytes = new TextEncoder().encode(texts.sort().join("\n"));
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
