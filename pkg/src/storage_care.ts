// Asks the browser once to keep what is stored, and looks how much room is left. Loaded when something was stored.
//
// It imports nothing but types, for the reason given in on_demand.ts.

import type { StorageNotice } from "./types.ts";

/** Less than this, or than a part of the quota where that is small, is too little for comfort. */
const LEFT_BYTES_MIN = 64 * 1024 * 1024;
const LEFT_PART_MIN = 0.1;

/** Where it is noted that this origin asked to be kept. */
const ASKED = "syncline_persist_asked";

/** Whether the last look found too little room: it is told once, and again after there was enough. */
let wasNearlyFull = false;

/** Looks how much room is left. With a write on the disk there is something that nobody else has. */
export async function lookAfterStorage(
  hasWritten: boolean,
  tell: (notice: StorageNotice) => void,
): Promise<void> {
  if (hasWritten) await askToPersist();
  const { usage = 0, quota = 0 } = await navigator.storage.estimate();
  const isNearlyFull = quota > 0 && quota - usage < Math.min(LEFT_BYTES_MIN, quota * LEFT_PART_MIN);
  if (isNearlyFull && !wasNearlyFull) tell({ kind: "nearly_full", usedBytes: usage, quotaBytes: quota });
  wasNearlyFull = isNearlyFull;
}

/** Asks once for each origin, and never where the browser would ask its user: only the application knows a good moment for that. */
async function askToPersist(): Promise<void> {
  if (navigator.userAgent.includes("Firefox/") || localStorage.getItem(ASKED) !== null) return;
  localStorage.setItem(ASKED, "");
  if (!(await navigator.storage.persisted())) await navigator.storage.persist();
}
