// Medians and their company.

/** The value that half of the samples do not exceed. */
export function median(samples) {
  return percentile(samples, 50);
}

/** The value that `percent` of the samples do not exceed, by the nearest rank. */
export function percentile(samples, percent) {
  if (samples.length === 0) throw new Error("no samples");
  const sorted = [...samples].sort((left, right) => left - right);
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)];
}

/** Median, extremes and number of the samples. */
export function spread(samples) {
  const ends = { min: Math.min(...samples), max: Math.max(...samples) };
  const tail = samples.length >= 100 ? { p99: percentile(samples, 99) } : {};
  return { median: median(samples), ...tail, ...ends, n: samples.length };
}
