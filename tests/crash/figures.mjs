// What a run of kills came to.

/** Counts over all kills. Lists hold what must never happen, so they stay short or are the finding. */
export class Figures {
  kills = 0;
  acknowledged = 0;
  survivors = 0;
  lost = [];
  torn = [];
  refused = [];
  wiped = 0;
  wipes_provoked = 0;
  /** Those that the engine told of, and the transactions that it then had again. */
  wipes_reported = 0;
  recovered = 0;
  identity_forgotten = 0;
  /** Kills after which the upgrade had to be done again, and such after which the new layout was there. */
  upgrades_undone = 0;
  upgrades_complete = 0;
  /** Starts at which the browser could not open its store. */
  unreadable = [];
  problems = [];
  /** Why the second copy of the queue could not be written. */
  copy_failed = [];
  server_lost = [];
  server_doubled = [];
  server_differs = [];
  handover_ms = [];

  /** What a comparison found. */
  add({ lost, survivors, torn, refused }) {
    this.lost.push(...lost);
    this.survivors += survivors;
    this.torn.push(...torn);
    this.refused.push(...refused);
  }

  /** What must be zero and is not, and stores that were lost without a word. */
  failures(during) {
    const names = [
      "lost",
      "torn",
      "refused",
      "copy_failed",
      "server_lost",
      "server_doubled",
      "server_differs",
    ];
    const bad = names.filter((name) => this[name].length > 0);
    // A page that was killed while it came back has told nobody, and may have come back all the same.
    const isKilledAtStart = during === "recovery" || during === "upgrade";
    const [least, most] = isKilledAtStart ? [0, Number.POSITIVE_INFINITY] : [this.wiped, this.wiped];
    if (this.wipes_reported < least || this.wipes_reported > most) bad.push("wipes_reported");
    return bad;
  }

  /** As printed: numbers, and the first few of what must not be. */
  summary() {
    const shown = {};
    for (const [name, value] of Object.entries(this)) {
      if (name === "handover_ms") shown[name] = spread(value);
      else if (!Array.isArray(value)) shown[name] = value;
      else shown[name] = value.length === 0 ? 0 : { count: value.length, first: value.slice(0, EXAMPLES) };
    }
    return shown;
  }
}

const EXAMPLES = 5;

/** The middle, the 99th percentile and the worst of some times. */
export function spread(values) {
  if (values.length === 0) return null;
  const sorted = values.map(Math.round).sort((a, b) => a - b);
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: sorted.at(-1) };
}
