// `await using` works for applications whose own settings do not name this library.
/// <reference lib="esnext.disposable" preserve="true" />

// What an application sees: configuration, rows, writes, the queue and the engine's status.

import type { ErrorCode, SynclineError } from "./errors.ts";

/** What may stand in a row. `Date` is accepted on the way in and becomes an ISO-8601 text. */
export type Value = null | boolean | number | string | readonly Value[] | { readonly [key: string]: Value };

/** Any entity with any fields: the schema of an engine created without a type argument. */
export type AnySchema = Record<string, Record<string, Value>>;

/** The names of a schema's entities. */
export type EntityOf<S extends object> = Extract<keyof S, string>;

/** A row as the store gives it: frozen, and the same object until the row changes. */
export type Row<S extends object, E extends EntityOf<S>> = {
  /** Unique within the entity. */
  readonly id: string;
} & { readonly [K in keyof S[E] as K extends "id" ? never : K]: S[E][K] };

/** The fields of a new row. `undefined` is the same as leaving the field out. */
export type NewRow<S extends object, E extends EntityOf<S>> = {
  /** Yours if you give one; else a UUID that sorts by time. */
  readonly id?: string | undefined;
} & {
  readonly [K in keyof S[E] as K extends "id" ? never : K]:
    | FieldInput<S[E][K]>
    | (undefined extends S[E][K] ? undefined : never);
};

/** The fields to change. A field that is absent or `undefined` stays as it is; `null` is a value. */
export type Patch<S extends object, E extends EntityOf<S>> = {
  readonly [K in keyof S[E] as K extends "id" ? never : K]?: FieldInput<S[E][K]> | undefined;
};

/** What an update takes: a patch, or a function that makes one from the row as it stands. It must not be async. */
export type PatchSource<S extends object, E extends EntityOf<S>> =
  | Patch<S, E>
  | ((row: Row<S, E>) => Patch<S, E>);

/** A field's type on the way in: where a text fits, a `Date` does too. */
export type FieldInput<T> = T | (string extends T ? Date : never);

/** Who the server says this session is. `null`: nobody signed in, or no organisation selected. */
export interface Identity {
  readonly userId: string | null;
  readonly tenantId: string | null;
}

/** What the server said about a write. */
export interface Confirmation {
  /** The transaction that holds the write: another one than at first after an edit or a retry of what it depended on. */
  readonly opId: string;
  /** The place in the server's log from which on everybody sees the write; 0 when it came to nothing before it was sent. */
  readonly seq: number;
}

/** A write that is visible already. Awaiting it gives `T` when it is on disk, with or without a network. */
export interface Write<T = string> extends Promise<T> {
  /** The row's final id. Of a transaction: the id of its first row, or `""` when it changed nothing. */
  readonly id: string;
  /** The name of the transaction, the same in the queue and on the server. `""` when it changed nothing. */
  readonly opId: string;
  /** The server's answer. Rejects with the reason when the server refused; may be ignored safely. */
  readonly confirmed: Promise<Confirmation>;
}

/** Several writes that become one: visible, stored, sent and decided together. */
export interface Transaction<S extends object = AnySchema> {
  /** The row, with what this transaction did so far. */
  get<E extends EntityOf<S>>(entity: E, id: string): Row<S, E> | undefined;
  /** The entity's rows in order of their ids, with what this transaction did so far. */
  list<E extends EntityOf<S>>(entity: E): readonly Row<S, E>[];
  /** Adds a row; returns its final id. */
  insert<E extends EntityOf<S>>(entity: E, row: NewRow<S, E>): string;
  update<E extends EntityOf<S>>(entity: E, id: string, patch: PatchSource<S, E>): void;
  delete<E extends EntityOf<S>>(entity: E, id: string): void;
}

/** Which entities' rows changed. */
export interface StoreChange {
  readonly entities: readonly string[];
}

/** Ends a subscription. */
export type Unsubscribe = () => void;

/** The rows as this replica shows them: what the server confirmed, under what is still on its way there. */
export interface Store<S extends object = AnySchema> {
  /** The row, or `undefined`. */
  get<E extends EntityOf<S>>(entity: E, id: string): Row<S, E> | undefined;
  /** The entity's rows in order of their ids; the same frozen array until one of them changes. */
  list<E extends EntityOf<S>>(entity: E): readonly Row<S, E>[];
  /** Calls `listener` after every change of rows, once for what changed together. It may read and write. */
  subscribe(listener: (change: StoreChange) => void): Unsubscribe;
}

export type ChangeKind = "insert" | "update" | "delete";

/** One row of a transaction. */
export interface Change {
  readonly entity: string;
  readonly rowId: string;
  readonly kind: ChangeKind;
  /** The new row's fields or the patch; absent for a delete. */
  readonly data?: { readonly [field: string]: Value };
}

/** Where a transaction in the queue stands. */
export type MutationStatus = "pending" | "sent" | "applied" | "failed";

/** A transaction in the queue. */
export interface Mutation {
  readonly opId: string;
  readonly status: MutationStatus;
  readonly changes: readonly Change[];
  /** Why it failed; `null` otherwise. */
  readonly error: SynclineError | null;
  /**
   * The op_ids of earlier transactions that must apply first. One of a failed transaction among them means that this one is
   * held: it is sent once the application has retried, edited or removed that one.
   */
  readonly waitingOn: readonly string[];
  /** When the application wrote it, in milliseconds since 1970. */
  readonly issuedAt: number;
}

/**
 * A transaction moved on. `removed`: the application discarded it, or another one stands for it, which `replacedBy` names.
 * `pending` after `sent`: it is held by one that failed, which is in `mutation.waitingOn`.
 */
export type MutationTransition = {
  /** The transaction's first change; all are in `mutation.changes`. */
  readonly change: Change;
  readonly mutation: Mutation;
} & (
  | { readonly status: "failed"; readonly error: SynclineError }
  | { readonly status: "removed"; readonly error: null; readonly replacedBy: string | null }
  | { readonly status: Exclude<MutationStatus, "failed">; readonly error: null }
);

/** A transaction whose effect was taken back. */
export interface Rollback {
  readonly mutation: Mutation;
  readonly error: SynclineError;
  /** The rows it had touched, each as it is shown now: with the application's other writes, without this one. */
  readonly rows: readonly {
    readonly entity: string;
    readonly id: string;
    readonly row: { readonly id: string; readonly [field: string]: Value } | undefined;
  }[];
}

/** The writes that the server has not confirmed, in the order in which they are sent. */
export interface MutationQueue {
  /** The same frozen array until the queue changes. */
  list(): readonly Mutation[];
  /** Whether the server has not answered something that shows in the rows. */
  readonly hasPending: boolean;
  /**
   * Resolves when the server has answered everything that it can be asked, whatever it said and however long that takes.
   * What is held by a failed transaction waits for the application and is not waited for.
   */
  settled(): Promise<void>;
  /**
   * Writes a failed transaction again as a new one, with a new op_id at the end of the queue. What was held by it goes on
   * behind it.
   */
  retry(opId: string): Write;
  /**
   * Puts other changes in place of those of a transaction that failed or was not sent yet, as a new one at the end of the
   * queue. What depended on it goes on behind it. A function gets the present changes.
   * @throws SynclineError when the changes cannot be stored; then nothing happened.
   */
  edit(opId: string, changes: readonly Change[] | ((changes: readonly Change[]) => readonly Change[])): Write;
  /**
   * Discards a transaction that failed or was not sent yet; its effect disappears from the rows. What depended on it goes on
   * without it, or fails with `DEPENDENCY_FAILED`.
   */
  remove(opId: string): void;
  /** Calls `listener` once for each transition of each transaction. */
  subscribe(listener: (transition: MutationTransition) => void): Unsubscribe;
  /** Calls `listener` when a transaction failed, once its effect is gone from the rows. */
  onRollback(listener: (rollback: Rollback) => void): Unsubscribe;
}

/** What the engine does about the server at the moment. */
export type Connection =
  /** Not started, or there is nothing to do yet. */
  | { readonly state: "idle" }
  | { readonly state: "connecting" }
  /** The socket is open and the server was heard; see `lastHeardAt` for when. */
  | { readonly state: "live" }
  /** The next try is at `retryAt`, in milliseconds since 1970. */
  | { readonly state: "waiting"; readonly retryAt: number | null }
  /** `pause()` was called. */
  | { readonly state: "paused" }
  /** The server refuses the token, and the application had no better one. */
  | { readonly state: "unauthorized" }
  /** The server speaks another version of the protocol. */
  | { readonly state: "incompatible" }
  | { readonly state: "stopped" };

/** Where rows and queue are kept. */
export type StorageStatus =
  | { readonly kind: "opening" }
  /** `hasCopy`: unsent writes are also kept in files, from which they come back should the browser lose its database. */
  | { readonly kind: "indexeddb"; readonly hasCopy: boolean }
  /** The application's own, as given by `persistence`. */
  | { readonly kind: "backend" }
  /** Nothing outlives the page, and why: asked for, private mode, quota, broken storage. */
  | { readonly kind: "memory"; readonly reason: string };

/** Something that happened to what is kept on this device. */
export type StorageNotice =
  /**
   * The browser lost the database. What was in the queue is there again, so many transactions; the rows are fetched anew.
   * Without a copy `recovered` is 0, and what was not sent is gone.
   */
  | { readonly kind: "lost"; readonly recovered: number }
  /** The second copy of the queue cannot be written: from now on the database is all there is. Said once. */
  | { readonly kind: "copy_failed"; readonly reason: string }
  /** The second copy is complete again. */
  | { readonly kind: "copy_resumed" }
  /** The origin has used up nearly all it may store. What is unsent is kept longest; rows can be fetched again. */
  | { readonly kind: "nearly_full"; readonly usedBytes: number; readonly quotaBytes: number };

/** Everything an honest indicator needs. The same object until something in it changes. */
export interface Status {
  /** This tab's own, or that of the tab that talks to the server for all tabs of this user. */
  readonly connection: Connection;
  /** Whether it is this tab that talks to the server. Every tab can do everything; when the leader goes another one leads. */
  readonly role: "leader" | "follower";
  /** `null` until it is known whose rows to show: a token this device never saw has to be resolved by the server. */
  readonly identity: Identity | null;
  /** A complete pull has been applied since this database was made. */
  readonly synced: boolean;
  /** Rows are arriving now. */
  readonly syncing: boolean;
  /** When the server was last heard, in milliseconds since 1970. */
  readonly lastHeardAt: number | null;
  /** Transactions that wait for the server's answer. */
  readonly pending: number;
  /** Transactions that the server refused and the application has not yet retried or removed. */
  readonly failed: number;
  readonly storage: StorageStatus;
  /** How far this replica has read the server's log. */
  readonly seq: number;
  /** How far the server's log goes, as far as is known. */
  readonly serverHead: number | null;
  readonly lastError: { readonly code: ErrorCode; readonly message: string } | null;
}

/** A synchronous key-value store for the token, such as a wrapper of `localStorage`. */
export interface KeyValueStorage {
  get(key: string): string | null | undefined;
  set(key: string, value: string): void;
  remove(key: string): void;
}

/**
 * A place for rows and queue where there is no IndexedDB, or instead of it: a file, a database of the host. The engine holds
 * a copy of all records in memory.
 */
export interface PersistenceBackend {
  /**
   * Opens what is kept under a name, one for each application and identity: nothing at first. Throw, or reject, while another
   * process has it open, because two would overwrite each other's records. The engine then runs in memory and says why.
   */
  open(name: string): PersistentRecords | Promise<PersistentRecords>;
}

/** What a backend keeps under one name. One call at a time. */
export interface PersistentRecords {
  /** Gives every record, in any order. */
  read(): RecordList | Promise<RecordList>;
  /** Puts and removes records, all of them or none. Each key comes once. */
  commit(changes: readonly RecordChange[], durability: Durability): void | Promise<void>;
  close(): void | Promise<void>;
}

export type RecordList = Iterable<readonly [key: string, value: Uint8Array]>;
/** `null` removes the record. */
export type RecordChange = readonly [key: string, value: Uint8Array | null];
/** `strict`: it survives a power cut once `commit` has returned. `relaxed`: it may be lost then, but only with all that follows. */
export type Durability = "strict" | "relaxed";

/** Why a token is asked for. `null`: the engine starts and has none. */
export interface TokenRequest {
  readonly code: ErrorCode | null;
}

export type Token = string | null | undefined;

/** Options of an engine. An unknown key is refused by name. */
export interface SyncEngineConfig {
  /** Only `websocket` in this version. */
  readonly transport?: "websocket" | "sse" | "poll" | undefined;
  /** The socket's address where it is not `baseUrl` + `/api/sync/ws`. */
  readonly wsUrl?: string | undefined;
  /** Milliseconds between polls; has no effect with `websocket`. */
  readonly pollInterval?: number | undefined;
  /** First step of the reconnect delay in milliseconds. Default 1000. */
  readonly reconnectDelay?: number | undefined;
  /** The bearer token. Stands above `storage`. */
  readonly token?: Token;
  /**
   * Gives a token when there is none or the server refuses it; called once for each need, by one tab for all. While what it
   * gives is refused it is called again, after ever longer pauses.
   */
  readonly getToken?: ((request: TokenRequest) => Token | Promise<Token>) | undefined;
  /** Keep rows and queue in IndexedDB. Default: wherever there is one. */
  readonly persist?: boolean | undefined;
  /** Where rows and queue are kept: the same as `persist` by name, or a backend of your own. */
  readonly persistence?: "indexeddb" | "memory" | PersistenceBackend | undefined;
  /** Separates applications on one origin. Default `default`. */
  readonly appName?: string | undefined;
  /** Where the token stands, under the key `syncline_token`, or `pylon_token` as in Pylon. */
  readonly storage?: KeyValueStorage | undefined;
  /** The version of the application's schema, stored with every write. Default 1. */
  readonly schema?: number | undefined;
  /** Where the WebAssembly module is, or its bytes. Default: beside this package's script. */
  readonly wasm?: WasmSource | undefined;
}

/** The configuration with the server's address in it. */
export interface SyncEngineOptions extends SyncEngineConfig {
  /** The server's address: `https://app.example`. */
  readonly baseUrl: string;
}

/** The WebAssembly module: its address, an answer that carries it, its bytes, or compiled. */
export type WasmSource = string | URL | Request | Response | BufferSource | WebAssembly.Module;

/** What becomes of unsent writes when another session begins. */
export interface SessionChangeOptions {
  /**
   * Default `"keep"`: they wait for their own user. `"carry"`: those that were never sent, and depend on none that was, go to
   * the next session, in their order and under the same op_ids; what cannot go stays.
   */
  readonly unsent?: "keep" | "carry" | undefined;
}

/** What becomes of unsent writes at the end of a session. */
export interface SignOutOptions {
  /** Default `"keep"`: they are sent when the same user signs in on this device again. */
  readonly unsent?: "keep" | "discard" | undefined;
  /**
   * Removes everything of this user and organisation from the device: rows, unsent writes, files, what is known of the token.
   * `signOut()` then rejects if a part of it cannot be removed, and the next start tries again.
   */
  readonly erase?: boolean | undefined;
}

/** How an infinite query pages, filters and orders. */
export interface InfiniteQueryOptions<R> {
  /** Rows that `loadMore()` adds. Default 20. */
  readonly pageSize?: number | undefined;
  /** Which rows; all without it. */
  readonly filter?: ((row: R) => boolean) | undefined;
  /** Their order, as for `Array.sort`; by id without it, and among rows that it calls equal. */
  readonly order?: ((left: R, right: R) => number) | undefined;
}

/** The first pages of an entity's rows. */
export interface InfiniteQuery<R> {
  /** The rows of the pages asked for so far; the same frozen array until one of them changes. */
  readonly data: readonly R[];
  /** Whether this replica has rows beyond `data`. */
  readonly hasMore: boolean;
  /** Adds a page. Resolves when its rows are there, or when there are no more and none can be fetched now. */
  loadMore(): Promise<void>;
  /** Starts over without a page. */
  reset(): void;
  /** Calls `listener` when `data` became another array. */
  subscribe(listener: () => void): Unsubscribe;
}

/** Rows that a server read for one session, as plain data. */
export interface ServerData<S extends object = AnySchema> {
  /** Whose session it was. */
  readonly identity: Identity;
  readonly rows: { readonly [E in EntityOf<S>]?: readonly Row<S, E>[] };
}

/** What an engine holds at one moment. */
export interface Inspection<S extends object = AnySchema> {
  readonly identity: Identity | null;
  readonly connection: Connection;
  readonly lastError: Status["lastError"];
  /** How far the server's log was read, how far it goes, and whether a complete pull was applied. */
  readonly cursor: Pick<Status, "seq" | "serverHead" | "synced">;
  readonly storage: StorageStatus & {
    /** What the browser says this origin uses and may use, in bytes; absent where it does not say. */
    readonly usageBytes?: number;
    readonly quotaBytes?: number;
  };
  /** Every row that is shown, by entity. */
  readonly rows: { readonly [E in EntityOf<S>]?: readonly Row<S, E>[] };
  /** What the server has not confirmed. */
  readonly queue: readonly Mutation[];
}

/** A replica of one user's rows, and the queue of their unsent writes. */
export interface SyncEngine<S extends object = AnySchema> {
  readonly store: Store<S>;
  readonly mutations: MutationQueue;
  /** A frozen snapshot; `onStatus` tells when there is another. */
  readonly status: Status;
  /** Where rows and queue are kept; the same as `status.storage`. */
  readonly storage: StorageStatus;

  /** Resolves when local rows can be read; never waits for the network. Calling it twice starts once. */
  start(): Promise<void>;
  /** Closes socket and database. The queue stays on disk; `start()` goes on where it stood. */
  stop(): Promise<void>;
  /** Resolves after the first complete pull; at once if this database has had one. */
  synced(): Promise<void>;
  /** Stops talking to the server; reads and writes go on. */
  pause(): void;
  /** Talks to the server again, at once. */
  resume(): void;

  /**
   * Adds a row. It is in `store` when this returns.
   * @throws SynclineError when the row cannot be stored; then nothing was written.
   */
  insert<E extends EntityOf<S>>(entity: E, row: NewRow<S, E>): Write;
  /**
   * Changes the given fields of a row. Throws as `insert`.
   * A function gets the row as it is shown now and gives the patch: `update("post", id, (post) => ({ likes: post.likes + 1 }))`.
   */
  update<E extends EntityOf<S>>(entity: E, id: string, patch: PatchSource<S, E>): Write;
  /** Removes a row. Throws as `insert`. */
  delete<E extends EntityOf<S>>(entity: E, id: string): Write;
  /**
   * Makes all writes of `body` one. `body` must not be async; when it throws, nothing is written.
   * Awaiting the result gives what `body` returned, when it is on disk.
   */
  transaction<T>(body: (tx: Transaction<S>) => T): Write<T>;

  /** Who the rows belong to; `null` while that is unknown. */
  resolvedSession(): Identity | null;
  /**
   * Call it after signing in or out or selecting an organisation. Reads the token again; when the session is another
   * one, the former rows leave memory and the other database is opened. Unsent writes stay with their own user.
   * A token given here stands above `storage` from now on; `null` means signed out. Resolves when the new rows can be
   * read, or when the server cannot say now whose they are.
   *
   * With `unsent: "carry"` what was never sent goes to the next session instead: a guest's work to the account.
   */
  notifySessionChanged(token?: Token, options?: SessionChangeOptions): Promise<void>;

  /**
   * Ends the session: forgets the token, also in `storage`, and shows what is there without one. The former user's unsent
   * writes wait on this device until they come back, unless `unsent` is `"discard"`; what may have reached the server is
   * never discarded. The token itself stays valid: revoking it is the server's.
   */
  signOut(options?: SignOutOptions): Promise<void>;

  /**
   * Sends what waits, now. Resolves when the server has answered every write that was queued at the call, whatever it
   * said; rejects when it cannot be reached.
   */
  push(): Promise<void>;

  /**
   * Asks for what is new, now. Resolves when everything the server had then is in `store`; rejects when it cannot be
   * reached.
   */
  pull(): Promise<void>;
  /**
   * Fetches every row anew, in case this copy is doubted. The rows stay shown until the new copy is complete, and unsent
   * writes are kept. Resolves with the new copy; rejects when the server cannot be reached, and fetches it when it can.
   */
  resetReplica(): Promise<void>;

  /** The entity's rows a page more at a time, from this replica; they stay right while rows change. */
  createInfiniteQuery<E extends EntityOf<S>>(
    entity: E,
    options?: InfiniteQueryOptions<Row<S, E>>,
  ): InfiniteQuery<Row<S, E>>;

  /**
   * Shows rows that the server put into the page, from `getServerData`, until this replica has read its own. They can be
   * read and not written, belong to one identity, and say nothing about how far this replica has come. Call it before
   * `start()`. The other session's rows are never shown: `onError` tells of them instead.
   */
  hydrate(data: ServerData<S>): void;

  /** What this engine holds, for people: rows, queue, cursor, storage. */
  inspect(): Promise<Inspection<S>>;
  /** The same as a file of JSON, to keep or to send to somebody who helps. */
  export(): Promise<Blob>;

  /** Calls `listener` with every binary frame of the socket. No server of this version sends any: a backend in between may. */
  onBinaryFrame(listener: (frame: Uint8Array) => void): Unsubscribe;

  /** Comes with 0.2. @throws SynclineError NOT_SUPPORTED. */
  setPresence(presence: object): never;
  /** Comes with 0.2. @throws SynclineError NOT_SUPPORTED. */
  publishTopic(topic: string, message: unknown): never;
  /** Comes with 0.2. @throws SynclineError NOT_SUPPORTED. */
  subscribeCrdt(entity: EntityOf<S>, id: string): never;
  /** Comes with 0.2. @throws SynclineError NOT_SUPPORTED. */
  unsubscribeCrdt(entity: EntityOf<S>, id: string): never;

  /** Calls `listener` with every new status. */
  onStatus(listener: (status: Status) => void): Unsubscribe;
  /** Calls `listener` with what went wrong outside of a call: storage, network, a listener that threw. */
  onError(listener: (error: SynclineError) => void): Unsubscribe;
  /** What happened to what is kept on this device, from a database that was lost to a disk that is nearly full. */
  onStorage(listener: (notice: StorageNotice) => void): Unsubscribe;
  /**
   * Asks the browser never to remove what is stored to make room; says whether it agreed. Firefox asks the user. The other
   * browsers decide by themselves and are asked after the first write.
   */
  persistStorage(): Promise<boolean>;

  /** The same as `stop()`: `await using engine = createSyncEngine(…)`. */
  [Symbol.asyncDispose](): Promise<void>;
}
