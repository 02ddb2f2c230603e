// Rows that a server put into the page, as they arrive at the engine.

import { SynclineError } from "./errors.ts";
import type { RawRow } from "./raw.ts";
import type { Identity, ServerData } from "./types.ts";

/** What `hydrate()` was given, with rows that are the engine's own. */
export interface ServedRows {
  readonly identity: Identity;
  readonly rows: ReadonlyMap<string, readonly RawRow[]>;
}

/** Takes a copy: the engine freezes its rows. */
export function copyServerData(data: unknown): ServedRows {
  try {
    const { identity, rows } = structuredClone(data) as ServerData;
    const lists = new Map(Object.entries<readonly RawRow[] | undefined>(rows)) as ServedRows["rows"];
    const isRow = (row: RawRow): boolean => typeof row.id === "string";
    if (identity.userId !== undefined && [...lists.values()].every((list) => list.every(isRow)))
      return { identity, rows: lists };
  } catch {
    // Not of this shape at all.
  }
  throw new SynclineError("INVALID_VALUE", "hydrate() takes what getServerData() gave");
}
