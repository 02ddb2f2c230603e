// The engine: starts, stops and exchanges replicas, passes writes down and news up.

import type { Settings } from "./config.ts";
import { type Deferred, defer, quiet } from "./deferred.ts";
import { Draft } from "./draft.ts";
import { type ErrorCode, errorCode, SynclineError } from "./errors.ts";
import { Listeners } from "./listeners.ts";
import { fromRawError, Queue } from "./mutation_queue.ts";
import type { RawAccepted, RawEngine, RawEvent, RawModule, RawStatus } from "./raw.ts";
import { Rows } from "./rows.ts";
import { fetchIdentity, forgetIdentity, TokenSource } from "./session.ts";
import { IDLE, sameIdentity, toIdentity, toStatus } from "./status.ts";
import { fromThrown } from "./thrown.ts";
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
import { emptyWrite, Writes } from "./writes.ts";

/** Somebody who waits for the engine to get somewhere. */
interface Waiter {
  readonly isMet: () => boolean;
  readonly deferred: Deferred<void>;
}

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

  #module: RawModule | undefined;
  #raw: RawEngine | undefined;
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
  #waiters: Waiter[] = [];
  /** News in the order in which listeners hear it; a listener that writes adds to its end. */
  readonly #news: (() => void)[] = [];
  #isDelivering = false;

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
      const starting = this.#inTurn(() => this.#begin());
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
    const stopped = new SynclineError("NOT_STARTED", "the engine was stopped");
    for (const { deferred } of this.#waiters.splice(0)) deferred.reject(stopped);
    return this.#inTurn(() => this.#end());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  synced(): Promise<void> {
    if (this.#starting === undefined) return Promise.reject(notStarted());
    return this.#until(() => this.#status.synced);
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
    let value: T;
    try {
      value = body(draft as unknown as Transaction<S>);
    } finally {
      draft.close();
    }
    if (isThenable(value)) {
      // What the function still does has nowhere to go, and nobody else sees it fail.
      Promise.resolve(value).catch(() => {});
      throw new SynclineError(
        "NOT_SUPPORTED",
        "the function given to transaction() returned a promise; nothing was written",
        {
          hint: "Fetch what you need before, then write in a function that is not async.",
        },
      );
    }
    return draft.changes.length === 0 ? emptyWrite(value) : this.#commit(draft, value);
  }

  notifySessionChanged(token?: Token): Promise<void> {
    if (token !== undefined) this.#tokens.give(token);
    if (this.#starting === undefined) return Promise.resolve();
    const { signal } = this.#lifetime;
    return this.#inTurn(() => this.#changeSession(signal, token === undefined));
  }

  // Starting and stopping.

  async #begin(): Promise<void> {
    this.#lifetime = new AbortController();
    const { signal } = this.#lifetime;
    const known = this.#tokens.known();
    const asked = known === undefined && this.#tokens.canAsk ? this.#askForToken(null) : undefined;
    this.#module = await this.#load();
    checkRunning(signal);
    if (asked === undefined) {
      this.#open(known);
      return this.#until(() => this.#isOpen || this.#status.identity === null);
    }
    // A function that has the token at hand has answered by now. One that asks a server is not waited for.
    const answer = await Promise.race([asked, nextTask()]);
    checkRunning(signal);
    if (answer !== "later") {
      this.#openAnswered(answer);
      return this.#until(() => this.#isOpen || this.#status.identity === null);
    }
    this.#setStatus({ ...IDLE, connection: { state: "connecting" } });
    this.#deliver();
    asked.then((late) => {
      if (!signal.aborted && this.#raw === undefined) this.#openAnswered(late);
    });
  }

  /** Opens with the application's answer; without one nobody's rows can be shown. */
  #openAnswered(answer: Answer): void {
    if (answer.failed) this.#setUnauthorized(answer.error);
    else this.#open(answer.token);
    this.#deliver();
  }

  #open(token: string | undefined): void {
    const module = this.#module;
    if (module === undefined) throw notStarted();
    const { baseUrl, wsUrl, appName, persist, schema, reconnectMs } = this.#settings;
    const options = { baseUrl, wsUrl, appName, persist, schema, reconnectMs, startPaused: this.#isPaused };
    const raw = guard(() => new module.RawEngine(options, (json) => this.#receive(raw, json)));
    this.#raw?.free();
    this.#raw = raw;
    this.#token = token;
    this.#isOpen = false;
    const shown = this.#rows.attach(raw);
    this.#queue.attach(raw);
    this.#tellRows(shown);
    this.#receive(
      raw,
      guard(() => raw.start(token)),
    );
    this.#readStatus(raw);
    this.#deliver();
  }

  async #end(): Promise<void> {
    const raw = this.#raw;
    if (raw === undefined) return;
    await raw.stop();
    this.#isOpen = false;
    this.#writes.abandon("NOT_STARTED", "the engine was stopped");
    this.#setStatus({ ...this.#status, connection: { state: "stopped" } });
    this.#deliver();
  }

  /** Runs after what was asked for before has ended, however it ended. */
  #inTurn(action: () => Promise<void>): Promise<void> {
    const result = this.#turn.then(action);
    this.#turn = quiet(result).catch(() => {});
    return result;
  }

  #until(isMet: () => boolean): Promise<void> {
    if (isMet()) return Promise.resolve();
    const deferred = defer<void>();
    this.#waiters.push({ isMet, deferred });
    return deferred.promise;
  }

  // Sessions.

  async #changeSession(signal: AbortSignal, ask: boolean): Promise<void> {
    if (signal.aborted) return;
    let token = this.#tokens.known();
    if (ask && this.#tokens.canAsk) {
      const answer = await this.#askForToken(null);
      if (signal.aborted) return;
      if (answer.failed) return;
      token = answer.token;
    }
    if (this.#raw === undefined) {
      this.#open(token);
    } else if (token !== this.#token) {
      await this.#reopen(signal, token);
    } else {
      const identity = await fetchIdentity(this.#settings.baseUrl, token, signal);
      if (signal.aborted) return;
      if (identity !== undefined && !sameIdentity(identity, this.#status.identity)) {
        this.#forget(token);
        await this.#reopen(signal, token);
      } else {
        this.#command((raw) => raw.setToken(token));
      }
    }
    if (signal.aborted) return;
    await this.#until(() => this.#isOpen || STALLED.has(this.#status.connection.state));
  }

  /** Hides the former rows at once, then closes their database and opens another. */
  async #reopen(signal: AbortSignal, token: string | undefined): Promise<void> {
    const former = this.#raw;
    this.#raw = undefined;
    this.#isOpen = false;
    const hidden = this.#rows.attach(undefined);
    this.#queue.attach(undefined);
    this.#tellRows(hidden);
    this.#setStatus({ ...IDLE, connection: { state: "connecting" } });
    this.#deliver();
    await former?.stop();
    former?.free();
    if (!signal.aborted) this.#open(token);
  }

  #forget(token: string | undefined): void {
    if (token !== undefined && this.#module !== undefined) {
      forgetIdentity(this.#settings.appName, this.#module.tokenHash(token));
    }
  }

  /** The server does not accept the token: another one may be in the storage, or the application has one. */
  async #renewToken(former: RawEngine, code: ErrorCode): Promise<void> {
    let token = this.#tokens.known();
    if (this.#tokens.canAsk && (token === undefined || token === this.#token)) {
      const answer = await this.#askForToken(code);
      token = answer.failed ? undefined : answer.token;
    }
    if (this.#raw !== former) return;
    const isNew = token !== undefined && token !== this.#token;
    if (isNew) this.#token = token;
    this.#command((raw) => raw.setToken(isNew ? token : undefined));
  }

  async #askForToken(code: ErrorCode | null): Promise<Answer> {
    try {
      return { failed: false, token: await this.#tokens.ask(code) };
    } catch (cause) {
      const error = new SynclineError("UNAUTHENTICATED", "getToken() failed, so there is no token", {
        cause,
      });
      this.#news.push(() => this.#errorListeners.emit(error));
      this.#deliver();
      return { failed: true, error };
    }
  }

  #setUnauthorized(error: SynclineError): void {
    const lastError = { code: error.code, message: error.message };
    this.#setStatus({ ...IDLE, connection: { state: "unauthorized" }, lastError });
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
    if (this.#raw !== undefined) return this.#raw;
    throw new SynclineError(
      "NOT_STARTED",
      "it is not known yet whose rows these are, so nothing can be written",
      {
        hint: "Await start(); if status.identity is null then, wait for a status that names one.",
      },
    );
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
      if (raw === this.#raw) this.#apply(raw, event, changed);
      else this.#settle(event);
    }
    this.#rows.invalidate(changed);
    this.#tellRows(changed);
    this.#deliver();
  }

  #apply(raw: RawEngine, event: RawEvent, changed: string[]): void {
    this.#settle(event);
    switch (event.type) {
      case "changed":
        changed.push(...event.entities);
        break;
      case "opened":
        this.#opened(toIdentity(event.identity));
        changed.push(...this.#rows.known());
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
        void this.#renewToken(raw, errorCode(event.code));
        break;
      case "identity_flipped":
        void this.#identityFlipped(raw);
        break;
      case "problem": {
        const error = new SynclineError(errorCode(event.code), event.message);
        this.#news.push(() => this.#errorListeners.emit(error));
        break;
      }
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

  async #identityFlipped(raw: RawEngine): Promise<void> {
    const { signal } = this.#lifetime;
    await this.#inTurn(async () => {
      if (signal.aborted || this.#raw !== raw) return;
      this.#forget(this.#token);
      await this.#reopen(signal, this.#token);
    });
  }

  #readStatus(raw: RawEngine): void {
    this.#setStatus(toStatus(JSON.parse(raw.statusJson()) as RawStatus));
  }

  #setStatus(status: Status): void {
    this.#status = Object.freeze(status);
    this.#news.push(() => {
      if (this.#status === status) this.#statusListeners.emit(status);
    });
  }

  #tellRows(entities: readonly string[]): void {
    if (entities.length > 0) this.#news.push(() => this.#rows.notify([...new Set(entities)]));
  }

  #tellMutation(transition: MutationTransition | undefined): void {
    if (transition !== undefined) this.#news.push(() => this.#queue.notify(transition));
  }

  #deliver(): void {
    if (this.#isDelivering) return;
    this.#isDelivering = true;
    try {
      for (let next = this.#news.shift(); next !== undefined; next = this.#news.shift()) next();
    } finally {
      this.#isDelivering = false;
    }
    const met = this.#waiters.filter(({ isMet }) => isMet());
    this.#waiters = this.#waiters.filter((waiter) => !met.includes(waiter));
    for (const { deferred } of met) deferred.resolve();
  }

  #listenerThrew(thrown: unknown): void {
    if (this.#errorListeners.isEmpty) {
      reportUncaught(thrown);
      return;
    }
    const error = new SynclineError("INTERNAL", "a listener of the application threw", { cause: thrown });
    this.#news.push(() => this.#errorListeners.emit(error));
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

/** Calls into WebAssembly; what it throws becomes a `SynclineError`. */
function guard<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw fromThrown(thrown);
  }
}

/** Shows an error where uncaught ones are shown, without stopping the caller. */
function reportUncaught(thrown: unknown): void {
  if (typeof reportError === "function") reportError(thrown);
  else
    queueMicrotask(() => {
      throw thrown;
    });
}

function nextTask(): Promise<"later"> {
  return new Promise((resolve) => {
    setTimeout(() => resolve("later"), 0);
  });
}

function checkRunning(signal: AbortSignal): void {
  if (signal.aborted) throw new SynclineError("NOT_STARTED", "the engine was stopped while it started");
}

function notStarted(): SynclineError {
  return new SynclineError("NOT_STARTED", "the engine is not running", { hint: "Call start() first." });
}

function isThenable(value: unknown): boolean {
  return typeof (value as { readonly then?: unknown } | null | undefined)?.then === "function";
}
