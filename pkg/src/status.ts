// The engine's status as the application sees it, made from what crosses.

import { errorCode } from "./errors.ts";
import type { RawIdentity, RawStatus } from "./raw.ts";
import type { Connection, Identity, Status, StorageStatus } from "./types.ts";

/** Before the first start. */
export const IDLE: Status = Object.freeze({
  connection: Object.freeze({ state: "idle" }),
  role: "leader",
  identity: null,
  synced: false,
  syncing: false,
  lastHeardAt: null,
  pending: 0,
  failed: 0,
  storage: Object.freeze({ kind: "opening" }),
  seq: 0,
  serverHead: null,
  lastError: null,
});

/** Translates a status; everything in it is frozen. The driver calls its database `indexeddb`; `kept` says what it is. */
export function toStatus(raw: RawStatus, kept: StorageStatus): Status {
  return Object.freeze({
    connection: Object.freeze(toConnection(raw.connection)),
    role: raw.leads ? "leader" : "follower",
    identity: raw.identity === null ? null : toIdentity(raw.identity),
    synced: raw.synced,
    syncing: raw.syncing,
    lastHeardAt: raw.last_heard_at,
    pending: raw.pending,
    failed: raw.failed,
    storage: raw.storage.kind === "indexeddb" ? kept : (Object.freeze(raw.storage) as StorageStatus),
    seq: raw.seq,
    serverHead: raw.server_head,
    lastError:
      raw.last_error === null
        ? null
        : Object.freeze({ code: errorCode(raw.last_error.code), message: raw.last_error.message }),
  });
}

export function toIdentity(raw: RawIdentity): Identity {
  return Object.freeze({ userId: raw.user_id, tenantId: raw.tenant_id });
}

/** Reads the answer to whose session it is; `undefined` for anything else. */
export function readIdentity(body: unknown): Identity | undefined {
  const raw = Object(body) as { readonly [K in keyof RawIdentity]: unknown };
  const isName = (value: unknown): boolean => value === null || typeof value === "string";
  return isName(raw.user_id) && isName(raw.tenant_id) ? toIdentity(raw as RawIdentity) : undefined;
}

/** Whether two identities see the same rows. */
export function sameIdentity(left: Identity | null, right: Identity | null): boolean {
  return left?.userId === right?.userId && left?.tenantId === right?.tenantId;
}

/** Whether the server cannot say now whose token it is. */
export function isStalled(status: Status): boolean {
  return STALLED.has(status.connection.state);
}

const STALLED: ReadonlySet<string> = new Set([
  "waiting",
  "paused",
  "unauthorized",
  "incompatible",
  "stopped",
]);

function toConnection(raw: RawStatus["connection"]): Connection {
  return raw.state === "waiting"
    ? { state: "waiting", retryAt: raw.retry_at ?? null }
    : ({ state: raw.state } as Connection);
}
