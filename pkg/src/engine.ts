// The engine: passes writes and questions down to its replica, and news up to the application.

import type { Settings } from "./config.ts";
import { compose, Draft } from "./draft.ts";
import { errorCode, SynclineError } from "./errors.ts";
import { infiniteQuery } from "./infinite_query.ts";
import { Listeners } from "./listeners.ts";
import { Queue } from "./mutation_queue.ts";
import { News } from "./news.ts";
import type * as OnDemandModule from "./on_demand.ts";
import { QueueCopy } from "./queue_copy.ts";
import type { RawAccepted, RawEngine, RawEvent, RawModule, RawStatus } from "./raw.ts";
import type { Replica } from "./replica.ts";
import { Rows } from "./rows.ts";
import { copyServerData } from "./server_data.ts";
import { Sessions } from "./sessions.ts";
import { isStalled, sameIdentity, toIdentity, toStatus } from "./status.ts";
import { guard } from "./thrown.ts";
import type {
  Change,
  EntityOf,
  Identity,
  InfiniteQuery,
  InfiniteQueryOptions,
  Inspection,
  MutationQueue,
  MutationTransition,
  NewRow,
  PatchSource,
  Row,
  ServerData,
  SessionChangeOptions,
  SignOutOptions,
  Status,
  StorageNotice,
  StorageStatus,
  Store,
  SyncEngine,
  Token,
  Transaction,
  Unsubscribe,
  Write,
} from "./types.ts";
import { emptyWrite } from "./writes.ts";

/** One application's engine; over time it may hold the replicas of several identities, one after another. */
export class Engine<S extends object> implements SyncEngine<S> {
  readonly store: Store<S>;
  readonly mutations: MutationQueue;

  readonly #sessions: Sessions;
  readonly #rows: Rows;
  readonly #queue: Queue;
  readonly #news: News = new News();
  readonly #binaryListeners: Listeners<Uint8Array> = new Listeners(this.#news.listenerThrew);
  /** Another replica was opened, and its readers have not been told. */
  #mustTellRows = false;
  /** Times that the replica had everything the server had when it was asked. */
  #syncs = 0;

  readonly #storageListeners: Listeners<StorageNotice> = new Listeners(this.#news.listenerThrew);
  #hasWritten = false;
  #nextLookAt = 0;
  /** What the driver's database is. */
  #kept: StorageStatus;

  constructor(settings: Settings, load: () => Promise<RawModule>) {
    this.#kept = Object.freeze(
      settings.backend === undefined
        ? { kind: "indexeddb", hasCopy: QueueCopy.isPossible }
        : { kind: "backend" },
    );
    const onThrow = this.#news.listenerThrew;
    this.#sessions = new Sessions(settings, load, this.#news, {
      show: (raw) => this.#show(raw),
      hideServed: () => this.#tellRows(this.#rows.serve(undefined)),
      receive: (replica, json, binaryFrame) => {
        if (binaryFrame !== undefined) this.#news.add(() => this.#binaryListeners.emit(binaryFrame));
        this.#receive(replica, json);
      },
      takeStatus: (raw) => this.#takeStatus(raw),
      tellStorage: (replica, notice) => this.#tellStorage(replica, notice),
    });
    this.#rows = new Rows(onThrow);
    const rows = this.#rows;
    this.#queue = new Queue(
      {
        retry: (opId) => this.#retry(opId),
        edit: (opId, changes) => this.#edit(opId, changes),
        remove: (opId) => this.#remove(opId),
        settled: () => this.#onDemand(({ settled }, access) => settled(access)),
        row: (entity, id) => rows.get(entity, id),
      },
      onThrow,
    );
    this.mutations = this.#queue;
    this.store = Object.freeze({
      get: <E extends EntityOf<S>>(entity: E, id: string) => rows.get(entity, id) as Row<S, E> | undefined,
      list: <E extends EntityOf<S>>(entity: E) => rows.list(entity) as unknown as readonly Row<S, E>[],
      subscribe: rows.subscribe.bind(rows),
    });
  }

  get status(): Status {
    return this.#news.status;
  }

  get storage(): StorageStatus {
    return this.status.storage;
  }

  resolvedSession(): Identity | null {
    return this.status.identity;
  }

  onStatus(listener: (status: Status) => void): Unsubscribe {
    return this.#news.onStatus(listener);
  }

  onStorage(listener: (notice: StorageNotice) => void): Unsubscribe {
    return this.#storageListeners.add(listener);
  }

  async persistStorage(): Promise<boolean> {
    return (await globalThis.navigator?.storage?.persist?.()) ?? false;
  }

  onError(listener: (error: SynclineError) => void): Unsubscribe {
    return this.#news.onError(listener);
  }

  start(): Promise<void> {
    return this.#sessions.start();
  }

  stop(): Promise<void> {
    return this.#sessions.stop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  synced(): Promise<void> {
    return this.#sessions.synced();
  }

  pause(): void {
    this.#sessions.pause(true);
  }

  resume(): void {
    this.#sessions.pause(false);
  }

  notifySessionChanged(token?: Token, { unsent }: SessionChangeOptions = {}): Promise<void> {
    return this.#sessions.change(token, unsent === "carry");
  }

  async signOut({ unsent = "keep", erase = false }: SignOutOptions = {}): Promise<void> {
    if (unsent === "discard") this.#discardUnsent();
    await this.#sessions.signOut(erase);
  }

  insert<E extends EntityOf<S>>(entity: E, row: NewRow<S, E>): Write {
    const draft = new Draft(this.#rows);
    return this.#commit(draft, draft.insert(entity, row));
  }

  update<E extends EntityOf<S>>(entity: E, id: string, patch: PatchSource<S, E>): Write {
    const draft = new Draft(this.#rows);
    draft.update(entity, id, patch);
    return this.#commit(draft, id);
  }

  delete<E extends EntityOf<S>>(entity: E, id: string): Write {
    const draft = new Draft(this.#rows);
    draft.delete(entity, id);
    return this.#commit(draft, id);
  }

  transaction<T>(body: (tx: Transaction<S>) => T): Write<T> {
    const draft = new Draft(this.#rows);
    const value = compose(draft, body as (tx: unknown) => T);
    return draft.changes.length === 0 ? emptyWrite(value) : this.#commit(draft, value);
  }

  push(): Promise<void> {
    return this.#onDemand(({ push }, access) => push(access));
  }

  pull(): Promise<void> {
    return this.#onDemand(({ pull }, access) => pull(access));
  }

  resetReplica(): Promise<void> {
    return this.#onDemand(({ resetReplica }, access) => resetReplica(access));
  }

  createInfiniteQuery<E extends EntityOf<S>>(
    entity: E,
    options: InfiniteQueryOptions<Row<S, E>> = {},
  ): InfiniteQuery<Row<S, E>> {
    // While the first pull runs, the next page may be on its way.
    const isAtRest = (): boolean => !this.#sessions.isRunning || this.status.synced || isStalled(this.status);
    return infiniteQuery(
      {
        list: () => this.store.list(entity),
        subscribe: this.store.subscribe,
        until: (isMet) => this.#news.until(() => isMet() || isAtRest()),
        onThrow: this.#news.listenerThrew,
      },
      options,
    );
  }

  hydrate(data: ServerData<S>): void {
    this.#tellRows(this.#rows.serve(copyServerData(data)));
    this.#checkServed();
    this.#news.deliver();
  }

  inspect(): Promise<Inspection<S>> {
    return this.#onDemand(({ inspect }, access) => inspect(access));
  }

  export(): Promise<Blob> {
    return this.#onDemand(({ toFile }, access) => toFile(access));
  }

  onBinaryFrame(listener: (frame: Uint8Array) => void): Unsubscribe {
    return this.#binaryListeners.add(listener);
  }

  setPresence(): never {
    throw later("presence messages");
  }

  publishTopic(): never {
    throw later("topics");
  }

  subscribeCrdt(): never {
    throw later("CRDT rows");
  }

  unsubscribeCrdt(): never {
    throw later("CRDT rows");
  }

  /** Makes rows and queue those of another replica, or of none. */
  #show(raw: RawEngine | undefined): void {
    this.#tellRows(this.#rows.attach(raw));
    this.#queue.attach(raw);
  }

  /** Most pages never ask for these, so their code comes when it is first asked for. */
  async #onDemand<T>(
    use: (code: typeof OnDemandModule, access: OnDemandModule.Access<S>) => Promise<T>,
  ): Promise<T> {
    const load = import("./on_demand.ts").catch((cause: unknown) => {
      throw new SynclineError("NETWORK_UNAVAILABLE", "a part of the package could not be loaded", {
        cause,
        hint: "Serve all files that the build made, and let a service worker keep them for when there is no network.",
      });
    });
    return use(await load, {
      engine: this,
      entities: this.#rows.names(),
      news: this.#news,
      sessions: this.#sessions,
      syncs: () => this.#syncs,
      isStalled,
      SynclineError,
    });
  }

  // Writes.

  #commit<T>(draft: Draft, value: T): Write<T> {
    return this.#queued(Object.freeze(draft.changes), value, (raw) => raw.mutate(draft.toJson()));
  }

  #retry(opId: string): Write {
    const changes = this.#queue.changes(opId);
    return this.#queued(changes, changes[0]?.rowId ?? "", (raw) => raw.mutate("[]", opId));
  }

  #edit(opId: string, changes: readonly Change[]): Write {
    if (changes.length === 0) {
      const hint = "To discard the transaction call remove().";
      throw new SynclineError("INVALID_VALUE", "edit() was given no changes", { hint });
    }
    const draft = new Draft(this.#rows);
    for (const change of changes) draft.add(change);
    return this.#queued(Object.freeze(draft.changes), draft.changes[0]?.rowId ?? "", (raw) =>
      raw.mutate(draft.toJson(), opId),
    );
  }

  #queued<T>(changes: readonly Change[], value: T, call: (raw: RawEngine) => string): Write<T> {
    const replica = this.#sessions.running();
    const accepted = JSON.parse(guard(() => call(replica.raw))) as RawAccepted;
    const write = replica.writes.open(accepted.op_id, changes[0]?.rowId ?? "", value);
    this.#tellMutations(this.#queue.added(accepted.op_id, changes));
    this.#receiveEvents(replica, accepted.events);
    return write;
  }

  #remove(opId: string): void {
    const replica = this.#sessions.running();
    this.#receive(
      replica,
      guard(() => replica.raw.remove(opId)),
    );
  }

  /** Those that others depend on go after them. What may have reached the server stays. */
  #discardUnsent(): void {
    this.#sessions.running();
    for (const { opId, status } of [...this.#queue.list()].reverse()) {
      if (status === "pending" || status === "failed") this.#remove(opId);
    }
  }

  // News.

  #receive(replica: Replica, eventsJson: string): void {
    this.#receiveEvents(replica, JSON.parse(eventsJson) as readonly RawEvent[]);
  }

  /** Brings everything up to date first, then tells the listeners. */
  #receiveEvents(replica: Replica, events: readonly RawEvent[]): void {
    const changed: string[] = [];
    for (const event of events) {
      // A replica that is being closed still settles its writes, and nothing else.
      replica.writes.settle(event);
      if (replica === this.#sessions.replica) this.#apply(replica, event, changed);
    }
    if (replica === this.#sessions.replica) this.#queue.invalidate();
    this.#rows.invalidate(changed);
    this.#tellRows(changed);
    this.#news.deliver();
  }

  #apply(replica: Replica, event: RawEvent, changed: string[]): void {
    switch (event.type) {
      case "changed":
        changed.push(...event.entities);
        break;
      case "opened":
        this.#sessions.opened(replica, toIdentity(event.identity));
        this.#queue.opened();
        changed.push(...this.#rows.known());
        // Also when nobody has read anything: who waits for news reads now.
        this.#mustTellRows = true;
        break;
      case "status_changed":
        this.#takeStatus(event.status);
        break;
      case "token_needed":
        this.#sessions.renewToken(replica, errorCode(event.code));
        break;
      case "identity_flipped":
        this.#sessions.identityFlipped(replica);
        break;
      case "broke_down":
        this.#sessions.brokeDown(replica, event.message);
        break;
      case "problem":
        if (event.code === "STORAGE_UNAVAILABLE" || event.code === "STORAGE_FULL")
          this.#sessions.heal(replica);
        this.#news.tellError(new SynclineError(errorCode(event.code), event.message));
        break;
      case "synced":
        this.#syncs += 1;
        this.#lookAfterStorage(false);
        break;
      case "mutation_durable":
        this.#lookAfterStorage(true);
        break;
      default:
        this.#tellMutations(this.#queue.took(event));
    }
  }

  #takeStatus(raw: RawStatus): void {
    this.#news.setStatus(toStatus(raw, this.#kept));
    if (raw.connection.state === "live") this.#sessions.agreed();
    this.#checkServed();
  }

  #tellStorage(replica: Replica, notice: StorageNotice): void {
    if (replica !== this.#sessions.replica) return;
    if (notice.kind === "copy_failed" || notice.kind === "copy_resumed") {
      this.#kept = Object.freeze({ kind: "indexeddb", hasCopy: notice.kind === "copy_resumed" });
      const { status } = this;
      if (status.storage.kind === "indexeddb") this.#news.setStatus({ ...status, storage: this.#kept });
    }
    this.#news.add(() => this.#storageListeners.emit(notice));
    this.#news.deliver();
  }

  /** Now and then, and after the first write. */
  #lookAfterStorage(hasWritten: boolean): void {
    const now = performance.now();
    const isFirst = hasWritten && !this.#hasWritten;
    const canLook = this.storage.kind === "indexeddb" && globalThis.navigator?.storage?.estimate;
    if (!canLook || (now < this.#nextLookAt && !isFirst)) return;
    this.#hasWritten ||= hasWritten;
    this.#nextLookAt = now + LOOK_MS;
    const { replica } = this.#sessions;
    import("./storage_care.ts")
      .then(({ lookAfterStorage }) =>
        lookAfterStorage(hasWritten, (notice) => replica && this.#tellStorage(replica, notice)),
      )
      .catch(() => {
        // A browser that does not say, or a script that cannot be loaded now: the next look may fare better.
      });
  }

  /** The page's rows go when this replica has its own, and at once when it is another identity's. */
  #checkServed(): void {
    const { identity, synced } = this.status;
    const { servedTo } = this.#rows;
    if (servedTo === undefined || identity === null) return;
    const isOthers = !sameIdentity(identity, servedTo);
    if (isOthers)
      this.#news.tellError(
        new SynclineError("IDENTITY_CHANGED", "hydrate() was given the rows of another session"),
      );
    if (isOthers || synced) this.#tellRows(this.#rows.serve(undefined));
  }

  #tellRows(entities: readonly string[]): void {
    if (entities.length === 0 && !this.#mustTellRows) return;
    this.#mustTellRows = false;
    this.#news.add(() => this.#rows.notify([...new Set(entities)]));
  }

  #tellMutations(transitions: readonly MutationTransition[]): void {
    for (const transition of transitions) this.#news.add(() => this.#queue.notify(transition));
  }
}

/** How often the room that is left is looked at. */
const LOOK_MS = 60_000;

function later(what: string): SynclineError {
  return new SynclineError("NOT_SUPPORTED", `${what} are not in version 0.1; they come with 0.2`);
}
