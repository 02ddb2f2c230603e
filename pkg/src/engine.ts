// The engine: starts, stops and exchanges replicas, passes writes down and news up.

import type { Settings } from "./config.ts";
import { compose, Draft } from "./draft.ts";
import { type ErrorCode, errorCode, SynclineError } from "./errors.ts";
import { Listeners } from "./listeners.ts";
import { fromRawError, Queue } from "./mutation_queue.ts";
import { News, reportUncaught } from "./news.ts";
import type { RawAccepted, RawEngine, RawEvent, RawModule, RawStatus } from "./raw.ts";
import { Rows } from "./rows.ts";
import { fetchIdentity, forgetIdentity, TokenSource } from "./session.ts";
import { IDLE, sameIdentity, toIdentity, toStatus } from "./status.ts";
import { fromThrown, guard } from "./thrown.ts";
import { delay, nextTask } from "./time.ts";
import type {
  EntityOf,
  Identity,
  MutationQueue,
  MutationTransition,
  NewRow,
  Patch,
  Row,
  Status,
  StorageStatus,
  Store,
  SyncEngine,
  Token,
  Transaction,
  Unsubscribe,
  Write,
} from "./types.ts";
import { Waiters } from "./waiters.ts";
import { emptyWrite, Writes } from "./writes.ts";

/** One application's engine; over time it may hold the replicas of several identities, one after another. */
export class Engine<S extends object> implements SyncEngine<S> {
  readonly store: Store<S>;
  readonly mutations: MutationQueue;

  readonly #settings: Settings;
  readonly #load: () => Promise<RawModule>;
  readonly #tokens: TokenSource;
  readonly #rows: Rows;
  readonly #queue: Queue;
  readonly #writes: Writes = new Writes();
  readonly #statusListeners: Listeners<Status>;
  readonly #errorListeners: Listeners<SynclineError>;
  readonly #news: News = new News();
  readonly #waiters: Waiters = new Waiters();

  #module: RawModule | undefined;
  /** The replica that runs. */
  #raw: RawEngine | undefined;
  /** One that was stopped and whose rows are still shown. */
  #retired: RawEngine | undefined;
  #token: string | undefined;
  #status: Status = IDLE;
  /** Whose replica was opened last; stays while another one is being opened. */
  #identity: Identity | null = null;
  #isOpen = false;
  #isPaused = false;
  #starting: Promise<void> | undefined;
  /** Aborted by `stop()`; whatever began before and ends after it has no effect. */
  #lifetime: AbortController = new AbortController();
  /** Starting, stopping and changing the session happen one after another. */
  #turn: Promise<unknown> = Promise.resolve();
  /** Another replica was opened, and its readers have not been told. */
  #mustTellRows = false;
  #isRenewing = false;
  /** Times in a row that the server contradicted itself about the identity. */
  #flips = 0;

  constructor(settings: Settings, load: () => Promise<RawModule>) {
    const onThrow = (thrown: unknown): void => this.#listenerThrew(thrown);
    this.#settings = settings;
    this.#load = load;
    this.#tokens = new TokenSource(settings);
    this.#rows = new Rows(onThrow);
    this.#queue = new Queue(
      { retry: (opId) => this.#retry(opId), remove: (opId) => this.#remove(opId) },
      onThrow,
    );
    this.#statusListeners = new Listeners(onThrow);
    // A listener for errors that throws must not be told of it again.
    this.#errorListeners = new Listeners(reportUncaught);
    this.mutations = this.#queue;
    const rows = this.#rows;
    this.store = Object.freeze({
      get: <E extends EntityOf<S>>(entity: E, id: string) => rows.get(entity, id) as Row<S, E> | undefined,
      list: <E extends EntityOf<S>>(entity: E) => rows.list(entity) as unknown as readonly Row<S, E>[],
      subscribe: rows.subscribe.bind(rows),
    });
  }

  get status(): Status {
    return this.#status;
  }

  get storage(): StorageStatus {
    return this.#status.storage;
  }

  resolvedSession(): Identity | null {
    return this.#status.identity;
  }

  onStatus(listener: (status: Status) => void): Unsubscribe {
    return this.#statusListeners.add(listener);
  }

  onError(listener: (error: SynclineError) => void): Unsubscribe {
    return this.#errorListeners.add(listener);
  }

  start(): Promise<void> {
    if (this.#starting === undefined) {
      const starting = this.#start();
      this.#starting = starting;
      starting.catch(() => {
        if (this.#starting === starting) this.#starting = undefined;
      });
    }
    return this.#starting;
  }

  stop(): Promise<void> {
    this.#starting = undefined;
    this.#lifetime.abort();
    this.#waiters.reject(new SynclineError("NOT_STARTED", "the engine was stopped"));
    return this.#inTurn(() => this.#end());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  synced(): Promise<void> {
    if (this.#starting === undefined) return Promise.reject(notStarted());
    return this.#waiters.until(() => this.#status.synced);
  }

  pause(): void {
    this.#isPaused = true;
    this.#command((raw) => raw.pause());
  }

  resume(): void {
    this.#isPaused = false;
    this.#command((raw) => raw.resume());
  }

  insert<E extends EntityOf<S>>(entity: E, row: NewRow<S, E>): Write {
    const draft = new Draft(this.#rows);
    return this.#commit(draft, draft.insert(entity, row));
  }

  update<E extends EntityOf<S>>(entity: E, id: string, patch: Patch<S, E>): Write {
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

  async notifySessionChanged(token?: Token): Promise<void> {
    if (token !== undefined) this.#tokens.give(token);
    if (this.#starting === undefined) return;
    const { signal } = this.#lifetime;
    await this.#inTurn(() => this.#changeSession(signal, token === undefined));
    if (signal.aborted) return;
    await this.#waiters.until(() => this.#isOpen || STALLED.has(this.#status.connection.state));
  }

  // Starting and stopping.

  async #start(): Promise<void> {
    const lifetime = new AbortController();
    this.#lifetime = lifetime;
    await this.#inTurn(() => this.#begin(lifetime.signal));
    checkRunning(lifetime.signal);
    await this.#waiters.until(() => this.#isOpen || this.#status.identity === null);
  }

  async #begin(signal: AbortSignal): Promise<void> {
    checkRunning(signal);
    const known = this.#tokens.known();
    const asked = known === undefined && this.#tokens.canAsk ? this.#askForToken(null) : undefined;
    this.#module = await this.#load();
    checkRunning(signal);
    if (asked === undefined) return this.#open(known);
    // A function that has the token at hand has answered by now. One that asks a server is not waited for.
    const answer = await Promise.race([asked, nextTask()]);
    checkRunning(signal);
    if (answer !== "later") return this.#openAnswered(answer);
    this.#setStatus({ ...IDLE, connection: { state: "connecting" } });
    this.#deliver();
    this.#inBackground(
      asked.then((late) => {
        if (!signal.aborted && this.#raw === undefined) this.#openAnswered(late);
      }),
    );
  }

  /** Opens with the application's answer; without one nobody's rows can be shown. */
  #openAnswered(answer: Answer): void {
    if (answer.failed) {
      const lastError = { code: answer.error.code, message: answer.error.message };
      this.#setStatus({ ...IDLE, connection: { state: "unauthorized" }, lastError });
      this.#deliver();
    } else {
      this.#open(answer.token);
    }
  }

  #open(token: string | undefined): void {
    const module = this.#module;
    if (module === undefined) throw notStarted();
    const { baseUrl, wsUrl, appName, persist, schema, reconnectMs } = this.#settings;
    const options = { baseUrl, wsUrl, appName, persist, schema, reconnectMs, startPaused: this.#isPaused };
    const raw = guard(() => new module.RawEngine(options, (json) => this.#receive(raw, json)));
    this.#raw = raw;
    this.#token = token;
    this.#isOpen = false;
    this.#show(raw);
    this.#retired?.free();
    this.#retired = undefined;
    this.#receive(
      raw,
      guard(() => raw.start(token)),
    );
    this.#setStatus(toStatus(JSON.parse(raw.statusJson()) as RawStatus));
    this.#deliver();
  }

  async #end(): Promise<void> {
    const raw = this.#raw;
    if (raw === undefined) return;
    try {
      await this.#close(raw);
    } finally {
      // The rows stay readable until another replica is opened.
      this.#raw = undefined;
      this.#retired = raw;
      this.#isOpen = false;
      this.#writes.abandon("NOT_STARTED", "the engine was stopped");
      this.#setStatus({ ...this.#status, connection: { state: "stopped" } });
      this.#deliver();
    }
  }

  /** Waits for the disk first: the raw engine tells nothing any more once it stops. */
  async #close(raw: RawEngine): Promise<void> {
    if (this.#isOpen) await this.#writes.allDurable();
    await guard(() => raw.stop());
  }

  /** Makes rows and queue those of another replica, or of none. */
  #show(raw: RawEngine | undefined): void {
    this.#tellRows(this.#rows.attach(raw));
    this.#queue.attach(raw);
  }

  /** Runs after what was asked for before has ended, however it ended. */
  #inTurn(action: () => Promise<void>): Promise<void> {
    const result = this.#turn.then(action);
    this.#turn = result.catch(() => {});
    return result;
  }

  /** For what nobody waits for: its failure is told like any other news. */
  #inBackground(work: Promise<void>): void {
    work.catch((thrown: unknown) => {
      this.#tellError(fromThrown(thrown));
      this.#deliver();
    });
  }

  // Sessions.

  async #changeSession(signal: AbortSignal, ask: boolean): Promise<void> {
    if (signal.aborted) return;
    let token = this.#tokens.known();
    if (ask && this.#tokens.canAsk) {
      const answer = await this.#askForToken(null);
      if (signal.aborted || answer.failed) return;
      token = answer.token;
    }
    if (this.#raw === undefined) return this.#open(token);
    if (token !== this.#token) return this.#reopen(signal, token);
    const identity = await fetchIdentity(this.#settings.baseUrl, token, signal);
    if (signal.aborted) return;
    if (identity !== undefined && !sameIdentity(identity, this.#status.identity)) {
      this.#forget(token);
      return this.#reopen(signal, token);
    }
    // The raw engine takes no token for "there is none", which is no news to an anonymous session.
    if (token !== undefined) this.#command((raw) => raw.setToken(token));
  }

  /** Hides the former rows at once, then closes their database and opens another. */
  async #reopen(signal: AbortSignal, token: string | undefined): Promise<void> {
    const former = this.#raw;
    const wasOpen = this.#isOpen;
    const closed = former === undefined ? undefined : this.#close(former);
    // No database was open yet, so these writes were nowhere but in memory.
    if (!wasOpen)
      this.#writes.abandon("IDENTITY_CHANGED", "the session changed before its database was open");
    this.#raw = undefined;
    this.#isOpen = false;
    this.#show(undefined);
    this.#setStatus({ ...IDLE, connection: { state: "connecting" } });
    this.#deliver();
    await closed;
    former?.free();
    if (!signal.aborted) this.#open(token);
  }

  /** The server says that the token is another identity's than the replica's. */
  async #identityFlipped(raw: RawEngine): Promise<void> {
    const { signal } = this.#lifetime;
    // A server that contradicts itself must not make us go round as fast as it answers.
    if (this.#flips > 0)
      await delay(Math.min(this.#settings.reconnectMs * 2 ** this.#flips, FLIP_MS_MAX), signal);
    this.#flips += 1;
    await this.#inTurn(async () => {
      if (signal.aborted || this.#raw !== raw) return;
      this.#forget(this.#token);
      await this.#reopen(signal, this.#token);
    });
  }

  #forget(token: string | undefined): void {
    if (token !== undefined && this.#module !== undefined) {
      forgetIdentity(this.#settings.appName, this.#module.tokenHash(token));
    }
  }

  /** The server does not accept the token: another one may be in the storage, or the application has one. */
  async #renewToken(former: RawEngine, code: ErrorCode): Promise<void> {
    if (this.#isRenewing) return;
    this.#isRenewing = true;
    let token = this.#tokens.known();
    if (this.#tokens.canAsk && (token === undefined || token === this.#token)) {
      const answer = await this.#askForToken(code);
      token = answer.failed ? undefined : answer.token;
    }
    this.#isRenewing = false;
    if (this.#raw !== former) return;
    const isNew = token !== undefined && token !== this.#token;
    if (isNew) {
      this.#token = token;
      this.#tokens.renewed(token);
    }
    this.#command((raw) => raw.setToken(isNew ? token : undefined));
  }

  async #askForToken(code: ErrorCode | null): Promise<Answer> {
    try {
      return { failed: false, token: await this.#tokens.ask(code) };
    } catch (cause) {
      const error = new SynclineError("UNAUTHENTICATED", "getToken() failed, so there is no token", {
        cause,
      });
      this.#tellError(error);
      this.#deliver();
      return { failed: true, error };
    }
  }

  // Writes.

  #commit<T>(draft: Draft, value: T): Write<T> {
    const raw = this.#running();
    const accepted = JSON.parse(guard(() => raw.mutate(draft.toJson()))) as RawAccepted;
    const write = this.#writes.open(accepted.op_id, draft.changes[0]?.rowId ?? "", value);
    this.#tellMutation(this.#queue.added(accepted.op_id, Object.freeze(draft.changes)));
    this.#receiveEvents(raw, accepted.events);
    return write;
  }

  #retry(opId: string): Write {
    const raw = this.#running();
    const changes = this.#queue.changes(opId);
    const accepted = JSON.parse(guard(() => raw.retry(opId))) as RawAccepted;
    const id = changes[0]?.rowId ?? "";
    const write = this.#writes.open(accepted.op_id, id, id);
    this.#tellMutation(this.#queue.added(accepted.op_id, changes));
    this.#receiveEvents(raw, accepted.events);
    return write;
  }

  #remove(opId: string): void {
    const raw = this.#running();
    this.#receive(
      raw,
      guard(() => raw.remove(opId)),
    );
  }

  #running(): RawEngine {
    if (this.#starting === undefined) throw notStarted();
    // While the identity is unknown the write waits in memory for its token's identity: another token gets another raw
    // engine, and stopping this one rejects what never reached a disk.
    if (this.#raw !== undefined) return this.#raw;
    throw new SynclineError("NOT_STARTED", "the engine is still starting", {
      hint: "Await start() before the first write.",
    });
  }

  #command(call: (raw: RawEngine) => string): void {
    const raw = this.#raw;
    if (raw === undefined || this.#starting === undefined) return;
    this.#receive(
      raw,
      guard(() => call(raw)),
    );
  }

  // News.

  #receive(raw: RawEngine, eventsJson: string): void {
    this.#receiveEvents(raw, JSON.parse(eventsJson) as readonly RawEvent[]);
  }

  /** Brings everything up to date first, then tells the listeners. */
  #receiveEvents(raw: RawEngine, events: readonly RawEvent[]): void {
    const changed: string[] = [];
    for (const event of events) {
      // A replica that is being closed still settles its writes, and nothing else.
      this.#settle(event);
      if (raw === this.#raw) this.#apply(raw, event, changed);
    }
    this.#rows.invalidate(changed);
    this.#tellRows(changed);
    this.#deliver();
  }

  #apply(raw: RawEngine, event: RawEvent, changed: string[]): void {
    switch (event.type) {
      case "changed":
        changed.push(...event.entities);
        break;
      case "opened":
        this.#opened(toIdentity(event.identity));
        changed.push(...this.#rows.known());
        // Also when nobody has read anything: who waits for news reads now.
        this.#mustTellRows = true;
        break;
      case "status_changed":
        this.#setStatus(toStatus(event.status));
        break;
      case "mutation_sent":
        this.#tellMutation(this.#queue.moved(event.op_id, "sent", null));
        break;
      case "mutation_confirmed":
        this.#tellMutation(this.#queue.moved(event.op_id, "applied", null));
        break;
      case "mutation_failed":
      case "mutation_lost":
        this.#tellMutation(this.#queue.moved(event.op_id, "failed", fromRawError(event.error)));
        break;
      case "mutation_removed":
        this.#tellMutation(this.#queue.moved(event.op_id, "removed", null));
        break;
      case "token_needed":
        this.#inBackground(this.#renewToken(raw, errorCode(event.code)));
        break;
      case "identity_flipped":
        this.#inBackground(this.#identityFlipped(raw));
        break;
      case "problem":
        this.#tellError(new SynclineError(errorCode(event.code), event.message));
        break;
      case "mutation_durable":
      case "synced":
        // The status says the same.
        break;
    }
  }

  #settle(event: RawEvent): void {
    switch (event.type) {
      case "mutation_durable":
        this.#writes.durable(event.op_id);
        break;
      case "mutation_confirmed":
        this.#writes.confirmed(event.op_id, event.seq);
        break;
      case "mutation_failed":
        this.#writes.failed(event.op_id, fromRawError(event.error));
        break;
      case "mutation_removed":
        this.#writes.failed(
          event.op_id,
          new SynclineError("DISCARDED", "the application discarded the write"),
        );
        break;
      case "mutation_lost":
        this.#writes.lost(event.op_id, fromRawError(event.error));
        break;
      default:
        break;
    }
  }

  #opened(identity: Identity): void {
    if (this.#identity !== null && !sameIdentity(identity, this.#identity)) {
      this.#writes.abandon("IDENTITY_CHANGED", "the session became another one");
    }
    this.#identity = identity;
    this.#isOpen = true;
    this.#queue.opened();
  }

  #setStatus(status: Status): void {
    this.#status = Object.freeze(status);
    if (status.connection.state === "live") this.#flips = 0;
    this.#news.add(() => {
      if (this.#status === status) this.#statusListeners.emit(status);
    });
  }

  #tellRows(entities: readonly string[]): void {
    if (entities.length === 0 && !this.#mustTellRows) return;
    this.#mustTellRows = false;
    this.#news.add(() => this.#rows.notify([...new Set(entities)]));
  }

  #tellMutation(transition: MutationTransition | undefined): void {
    if (transition !== undefined) this.#news.add(() => this.#queue.notify(transition));
  }

  #tellError(error: SynclineError): void {
    this.#news.add(() => this.#errorListeners.emit(error));
  }

  #deliver(): void {
    if (this.#news.deliver()) this.#waiters.check();
  }

  #listenerThrew(thrown: unknown): void {
    if (this.#errorListeners.isEmpty) reportUncaught(thrown);
    else
      this.#tellError(
        new SynclineError("INTERNAL", "a listener of the application threw", { cause: thrown }),
      );
  }
}

/** What `getToken` gave. */
type Answer =
  | { readonly failed: false; readonly token: string | undefined }
  | { readonly failed: true; readonly error: SynclineError };

/** States in which the server cannot say now whose token it is. */
const STALLED: ReadonlySet<string> = new Set([
  "waiting",
  "paused",
  "unauthorized",
  "incompatible",
  "stopped",
]);

/** Longest pause between two openings because of a server that contradicts itself, in milliseconds. */
const FLIP_MS_MAX = 30_000;

function checkRunning(signal: AbortSignal): void {
  if (signal.aborted) throw new SynclineError("NOT_STARTED", "the engine was stopped while it started");
}

function notStarted(): SynclineError {
  return new SynclineError("NOT_STARTED", "the engine is not running", { hint: "Call start() first." });
}
