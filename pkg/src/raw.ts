// The handle that crates/web exports, as this package sees it, and the JSON that crosses the boundary.

import type { QueueCopy } from "./queue_copy.ts";
import type { ChangeKind, Value } from "./types.ts";

/** Options of a raw engine; all are checked before they get here. */
export interface RawOptions {
  readonly baseUrl: string;
  readonly wsUrl?: string | undefined;
  readonly appName: string;
  readonly persist: boolean;
  readonly schema: number;
  readonly reconnectMs: number;
  readonly startPaused: boolean;
  /** Fetch every row anew and leave those on the disk unread: they may be what breaks the engine down. */
  readonly queueOnly: boolean;
  /** Where rows and queue are kept. */
  readonly disk: Disk;
}

/** What `js/storage.js` of crates/web is given. */
export interface Disk {
  /** Opens a database instead of IndexedDB. */
  readonly openDatabase?: OpenDatabase | undefined;
  readonly copy?: QueueCopy | undefined;
}

/** Gives what the driver can use like an `IDBDatabase`. */
export type OpenDatabase = (name: string, mayMake: boolean, limitMs: number) => Promise<object>;

/** What a transaction did to the queue. */
export interface QueueChanges {
  /** Of the leader that rewrote records; 0 for new ones. */
  readonly fence: number;
  readonly put: readonly (readonly [key: number, bytes: Uint8Array])[];
  readonly removed: readonly number[];
}

/** The whole queue as it stands in the database. */
export interface QueueNow {
  readonly records: readonly (readonly [key: number, bytes: Uint8Array | undefined])[];
  /** The one that is stored, and whether it is this tab's. */
  readonly fence: number;
  readonly leads: boolean;
  /** The highest key that is known to have been given out, for who did not see it happen. */
  readonly last?: number;
}

/** What a database that is gone had in its queue. */
export interface Lost {
  /** Whether it had a copy, so that this is all of it. */
  readonly isCopied: boolean;
  readonly records: readonly (readonly [key: number, bytes: Uint8Array])[];
  /** The highest key that was ever given out, and the highest fence. */
  readonly last: number;
  readonly fence: number;
}

/** One replica in WebAssembly. Calls return the events they caused; everything else comes by the callback. */
export interface RawEngine {
  start(token: string | undefined): string;
  setToken(token: string | undefined): string;
  /** `insteadOf`: in place of a write that the server does not have; no changes stand for those of one that failed. */
  mutate(changesJson: string, insteadOf?: string): string;
  remove(opId: string): string;
  /** Queues intents of another session, one a line; `!` before one says that the server may have it. */
  adopt(list: string, isOtherLog: boolean): string;
  rowJson(entity: string, id: string): string | undefined;
  rowVersion(entity: string, id: string): number;
  deltaJson(entity: string, since: number): string;
  mutationsJson(): string;
  statusJson(): string;
  command(name: Command): string;
  stop(): Promise<void>;
  free(): void;
}

/** What needs no more than its name. */
export type Command =
  /** Stay away from the network. */
  | "pause"
  | "resume"
  /** Cut a wait for the server short and check an open socket. */
  | "wake"
  /** Ask the server for what is new; the event `synced` says when everything is here. */
  | "pull"
  /** Fetch every row anew; unsent writes stay. */
  | "resync";

/** Hears what happens outside of calls, and the binary frames of the socket. */
export type OnEvents = (eventsJson: string, binaryFrame?: Uint8Array) => void;

/** What the loaded module offers. */
export interface RawModule {
  readonly RawEngine: new (options: RawOptions, onEvents: OnEvents) => RawEngine;
  /** SHA-256 of a text in hexadecimal. */
  tokenHash(token: string): string;
  /** The identity of a known token as JSON; `map` names the place where those are kept. */
  recallIdentity(map: string, tokenHash: string): string | undefined;
  /** Forgets whose a token is, and with an identity as JSON all tokens of that. */
  forgetIdentity(map: string, tokenHash: string | undefined, identity?: string): void;
  /** Makes place for engines after one broke down: the module is instantiated anew, unless that was done for another one. */
  renew(broken: RawEngine): void;
}

export interface RawIdentity {
  readonly user_id: string | null;
  readonly tenant_id: string | null;
}

export interface RawError {
  readonly code: string;
  readonly message: string;
  readonly hint?: string;
}

export interface RawStatus {
  readonly leads: boolean;
  readonly connection: { readonly state: string; readonly retry_at?: number };
  readonly identity: RawIdentity | null;
  readonly synced: boolean;
  readonly syncing: boolean;
  readonly last_heard_at: number | null;
  readonly pending: number;
  readonly failed: number;
  readonly storage: { readonly kind: string; readonly reason?: string };
  readonly seq: number;
  readonly server_head: number | null;
  readonly last_error: RawError | null;
}

export type RawEvent =
  | { readonly type: "changed"; readonly entities: readonly string[] }
  | { readonly type: "opened"; readonly identity: RawIdentity }
  | { readonly type: "status_changed"; readonly status: RawStatus }
  | { readonly type: "synced"; readonly seq: number }
  | { readonly type: "mutation_durable"; readonly op_id: string }
  | { readonly type: "mutation_sent"; readonly op_id: string }
  | { readonly type: "mutation_confirmed"; readonly op_id: string; readonly seq: number }
  | { readonly type: "mutation_failed"; readonly op_id: string; readonly error: RawError }
  | { readonly type: "mutation_removed"; readonly op_id: string }
  | { readonly type: "mutation_queued"; readonly op_id: string }
  | { readonly type: "mutation_held"; readonly op_id: string; readonly on: string }
  | { readonly type: "mutation_replaced"; readonly op_id: string; readonly by: string }
  | { readonly type: "mutation_lost"; readonly op_id: string; readonly error: RawError }
  | { readonly type: "token_needed"; readonly code: string }
  | { readonly type: "identity_flipped" }
  | { readonly type: "broke_down"; readonly message: string }
  | { readonly type: "problem"; readonly code: string; readonly message: string };

/** What `mutate` gives. */
export interface RawAccepted {
  readonly op_id: string;
  readonly row_ids: readonly string[];
  readonly events: readonly RawEvent[];
}

export interface RawChange {
  readonly entity: string;
  readonly row_id: string;
  readonly kind: ChangeKind;
  readonly data?: { readonly [field: string]: Value };
}

export interface RawMutation {
  readonly op_id: string;
  readonly status: "pending" | "sent" | "applied" | "failed";
  readonly changes: readonly RawChange[];
  readonly error: RawError | null;
  readonly waiting_on: readonly string[];
  readonly issued_at: number;
}

/** A row as it crosses: its fields and its id. */
export type RawRow = { readonly id: string; readonly [field: string]: Value };

/** What changed in an entity since a former call. `full`: forget what you have. */
export interface RawDelta {
  readonly at: number;
  readonly full: boolean;
  readonly rows: readonly RawRow[];
  readonly removed: readonly string[];
}
