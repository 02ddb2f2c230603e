// What few pages ask for: the engine loads this file when one of these is first called.
//
// It imports nothing but types. What it shared with the engine, bundlers would cut into a file of its own, which every page
// would then load.

import type { SynclineError } from "./errors.ts";
import type { News } from "./news.ts";
import type { Sessions } from "./sessions.ts";
import type { isStalled } from "./status.ts";
import type { EntityOf, Inspection, Mutation, SyncEngine } from "./types.ts";

/** What the engine lets these functions see and do. */
export interface Access<S extends object> {
  readonly engine: SyncEngine<S>;
  /** Every entity of the replica. */
  readonly entities: readonly string[];
  readonly news: News;
  readonly sessions: Sessions;
  /** Counts how often the replica had everything the server had when it was asked. */
  syncs(): number;
  readonly isStalled: typeof isStalled;
  readonly SynclineError: typeof SynclineError;
}

/** Sends what waits, and waits for the answers. */
export async function push<S extends object>(access: Access<S>): Promise<void> {
  const { engine, sessions } = access;
  sessions.running();
  const wanted = new Set(awaited(engine.mutations.list()));
  sessions.command((raw) => raw.command("wake"));
  await reach(access, () => !awaited(engine.mutations.list()).some((opId) => wanted.has(opId)));
}

/** Asks for what is new, and waits for it. Who asks meanwhile shares the next pull: each would put off the end of the last. */
export function pull<S extends object>(access: Access<S>): Promise<void> {
  const pulls = pullsOf.get(access.engine) ?? { ended: Promise.resolve(), next: undefined };
  pullsOf.set(access.engine, pulls);
  pulls.next ??= pulls.ended.then(() => {
    const now = pullNow(access);
    pulls.ended = now.catch(() => {});
    pulls.next = undefined;
    return now;
  });
  return pulls.next;
}

/** When the pull under way has ended, and the one that follows it, of each engine. */
const pullsOf: WeakMap<object, { ended: Promise<void>; next: Promise<void> | undefined }> = new WeakMap();

async function pullNow<S extends object>(access: Access<S>): Promise<void> {
  const before = access.syncs();
  access.sessions.running();
  access.sessions.command((raw) => raw.command("pull"));
  await reach(access, () => access.syncs() > before);
}

/** Has every row fetched anew, and waits for the first copy that is. */
export async function resetReplica<S extends object>(access: Access<S>): Promise<void> {
  const { engine, sessions, SynclineError } = access;
  sessions.running();
  if (!sessions.isOpen)
    throw new SynclineError("NOT_STARTED", "there is no replica yet", {
      hint: "Wait until `status.identity` is known.",
    });
  sessions.command((raw) => raw.command("resync"));
  await reach(access, () => engine.status.synced);
}

/** @throws SynclineError when the server cannot be reached before the condition holds. */
async function reach<S extends object>(access: Access<S>, isMet: () => boolean): Promise<void> {
  const { engine, news, isStalled } = access;
  await news.until(() => isMet() || isStalled(engine.status));
  if (!isMet()) throw unreachable(access);
}

/** Waits until the server has answered everything that it can be asked, however long that takes. */
export async function settled<S extends object>({ engine, news, sessions }: Access<S>): Promise<void> {
  sessions.running();
  await news.until(() => awaited(engine.mutations.list()).length === 0);
}

/** What the server will still answer, of a list in order: neither failed nor waiting for one that failed. */
function awaited(list: readonly Mutation[]): readonly string[] {
  const held = new Set<string>();
  return list
    .filter(({ opId, status, waitingOn }) => {
      const isHeld = status === "failed" || waitingOn.some((other) => held.has(other));
      if (isHeld) held.add(opId);
      return !isHeld && status !== "applied";
    })
    .map(({ opId }) => opId);
}

/** Why nothing comes from the server, for who asked it to come now. */
function unreachable<S extends object>({ engine, SynclineError }: Access<S>): SynclineError {
  const { connection, lastError } = engine.status;
  const why = lastError === null ? "" : `: ${lastError.message}`;
  const hint = connection.state === "paused" ? "Call resume() first." : undefined;
  const message = `the server cannot be reached now (${connection.state}${why})`;
  return new SynclineError(lastError?.code ?? "NETWORK_UNAVAILABLE", message, { hint });
}

/** Reads everything that is shown and everything that waits. */
export async function inspect<S extends object>({ engine, entities }: Access<S>): Promise<Inspection<S>> {
  const estimate = await storageEstimate();
  const { identity, connection, lastError, seq, serverHead, synced, storage } = engine.status;
  const rows = entities.map((entity) => [entity, engine.store.list(entity as EntityOf<S>)] as const);
  return Object.freeze({
    identity,
    connection,
    lastError,
    cursor: Object.freeze({ seq, serverHead, synced }),
    storage: Object.freeze({ ...storage, ...estimate }),
    rows: Object.freeze(Object.fromEntries(rows)) as Inspection<S>["rows"],
    queue: engine.mutations.list(),
  });
}

/** Makes a file of the same: one JSON document, a line for each row and each write. */
export async function toFile<S extends object>(access: Access<S>): Promise<Blob> {
  const { rows, queue, ...rest } = await inspect(access);
  const head = { format: FORMAT, exportedAt: new Date().toISOString(), ...rest };
  const parts = [JSON.stringify(head).slice(0, -1), ',\n"rows":{'];
  Object.entries<readonly unknown[] | undefined>(rows).forEach(([entity, list], index) => {
    parts.push(index > 0 ? "," : "", `\n${JSON.stringify(entity)}:`, lines(list ?? []));
  });
  const writes = queue.map(({ error, ...write }) => ({
    ...write,
    error: error && { code: error.code, message: error.message },
  }));
  parts.push('},\n"queue":', lines(writes), "}\n");
  return new Blob(parts, { type: "application/json" });
}

/** Version of the file's shape. */
const FORMAT = 1;

function lines(items: readonly unknown[]): string {
  return `[${items.map((item) => `\n${JSON.stringify(item)}`).join(",")}]`;
}

async function storageEstimate(): Promise<{ readonly usageBytes?: number; readonly quotaBytes?: number }> {
  try {
    const { usage, quota } = (await globalThis.navigator?.storage?.estimate?.()) ?? {};
    return {
      ...(usage === undefined ? {} : { usageBytes: usage }),
      ...(quota === undefined ? {} : { quotaBytes: quota }),
    };
  } catch {
    // Some browsers refuse in private mode. The rest is worth having.
    return {};
  }
}
