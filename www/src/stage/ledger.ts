// The account of what became of every message: computed from the notes of the page, both replicas and the server's rows, and
// from nothing that one of them says about itself.

import type { Life } from "../lives.ts";

/** A message's row, wherever it is held. */
export interface HeldRow {
  readonly id: string;
  readonly print: string;
}

/** One device's replica and what waits in its queue. */
export interface DeviceBooks {
  readonly user: string;
  readonly rows: readonly HeldRow[];
  /** Row ids in the queue that the server has not decided about. */
  readonly waiting: ReadonlySet<string>;
  /** Row ids that the server refused and nobody has decided about. */
  readonly refused: ReadonlySet<string>;
}

/** What the server held when it was asked. */
export interface ServerBooks {
  readonly rows: readonly HeldRow[];
  readonly askedAt: number;
}

export interface Ledger {
  readonly written: number;
  readonly onDisk: number;
  readonly confirmed: number;
  readonly refused: number;
  /** Held by nobody, or confirmed and not on the server. */
  readonly lost: number;
  /** Messages that somebody holds more than once. */
  readonly doubled: number;
  /** How many of the messages each holds, in the order of the devices; the server last, `null` while it was never asked. */
  readonly held: readonly (number | null)[];
  /** Every message that was not refused is with everybody. */
  readonly isSettled: boolean;
}

/** Counts. Messages that their author discarded do not count; messages of other pages are nobody's here. */
export function countUp(
  lives: readonly Life[],
  devices: readonly DeviceBooks[],
  server: ServerBooks | null,
): Ledger {
  const counted = lives.filter((life) => life.end !== "discarded");
  const known = new Set(counted.map((life) => life.id));
  const shelves = [...devices.map((device) => device.rows), ...(server === null ? [] : [server.rows])];
  const ids = shelves.map((rows) => new Set(rows.map((row) => row.id)));
  const serverIds = server === null ? null : (ids.at(-1) ?? null);
  const isQueued = (id: string): boolean =>
    devices.some(({ waiting, refused }) => waiting.has(id) || refused.has(id));
  const isRefused = (life: Life): boolean => devices.some(({ refused }) => refused.has(life.id));
  const isLost = (life: Life): boolean => {
    if (isQueued(life.id)) return false;
    // Only a server that was asked after it had confirmed can be found without it.
    const isMissing = server !== null && life.confirmedAt !== null && life.confirmedAt < server.askedAt;
    if (isMissing && serverIds?.has(life.id) === false) return true;
    return !ids.some((held) => held.has(life.id));
  };
  const held = ids.map((all) => intersection(all, known));
  const refused = counted.filter(isRefused).length;
  const lost = counted.filter(isLost).length;
  const isEverywhere = held.every((count) => count === counted.length - refused);
  return {
    written: counted.length,
    onDisk: counted.filter((life) => life.diskAt !== null).length,
    confirmed: counted.filter((life) => life.confirmedAt !== null).length,
    refused,
    lost,
    doubled: doubles(shelves, new Set(counted.map((life) => life.print))),
    held: server === null ? [...held, null] : held,
    isSettled:
      server !== null &&
      lost === 0 &&
      isEverywhere &&
      devices.every(({ waiting }) => intersection(waiting, known) === 0),
  };
}

/** How many of the messages stand more than once on some shelf, under whatever ids. */
function doubles(shelves: readonly (readonly HeldRow[])[], prints: ReadonlySet<string>): number {
  const doubled = new Set<string>();
  for (const rows of shelves) {
    const seen = new Set<string>();
    for (const { print } of rows) {
      if (seen.has(print) && prints.has(print)) doubled.add(print);
      seen.add(print);
    }
  }
  return doubled.size;
}

function intersection(some: ReadonlySet<string>, others: ReadonlySet<string>): number {
  let count = 0;
  for (const one of some) if (others.has(one)) count += 1;
  return count;
}
