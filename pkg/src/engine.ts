// The engine: starts, stops and exchanges replicas, passes writes down and news up.

import type { Settings } from "./config.ts";
import { compose, Draft } from "./draft.ts";
import { type ErrorCode, errorCode, SynclineError } from "./errors.ts";
import { fromRawError, Queue } from "./mutation_queue.ts";
import { News } from "./news.ts";
import type { RawAccepted, RawEngine, RawEvent, RawModule, RawStatus } from "./raw.ts";
import { Replica } from "./replica.ts";
import { Rows } from "./rows.ts";
import { type Answer, fetchIdentity, forgetIdentity, TokenSource } from "./session.ts";
import { IDLE, isStalled, sameIdentity, toIdentity, toStatus } from "./status.ts";
import { fromThrown, guard } from "./thrown.ts";
import { delay, nextTask, unlessAborted } from "./time.ts";
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
import { emptyWrite } from "./writes.ts";

/** One application's engine; over time it may hold the replicas of several identities, one after another. */
export class Engine<S extends object> implements SyncEngine<S> {
  readonly store: Store<S>;
  readonly mutations: MutationQueue;

  readonly #settings: Settings;
  readonly #load: () => Promise<RawModule>;
  readonly #tokens: TokenSource;
  readonly #rows: Rows;
  readonly #queue: Queue;
  readonly #news: News = new News();

  #module: RawModule | undefined;
  /** The one that runs. */
  #replica: Replica | undefined;
  /** One that ran before another session was asked for; the next to open takes its writes over or gives them up. */
  #former: Replica | undefined;
  /** One that was stopped and whose rows are still shown. */
  #retired: RawEngine | undefined;
  #isPaused = false;
  #starting: Promise<void> | undefined;
  /** Aborted by `stop()`; whatever began before and ends after it has no effect. */
  #lifetime: AbortController = new AbortController();
  /** Aborted when the session is asked for anew; an answer to an earlier question has no effect. */
  #question: AbortController = new AbortController();
  /** Starting, stopping and changing the session happen one after another. */
  #turn: Promise<unknown> = Promise.resolve();
  /** Another replica was opened, and its readers have not been told. */
  #mustTellRows = false;
  /** Times in a row that the server contradicted itself about the identity. */
  #flips = 0;

  constructor(settings: Settings, load: () => Promise<RawModule>) {
    const onThrow = this.#news.listenerThrew;
    this.#settings = settings;
    this.#load = load;
    this.#tokens = new TokenSource(settings);
    this.#rows = new Rows(onThrow);
    this.#queue = new Queue(
      { retry: (opId) => this.#retry(opId), remove: (opId) => this.#remove(opId) },
      onThrow,
    );
    this.mutations = this.#queue;
    const rows = this.#rows;
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

  onError(listener: (error: SynclineError) => void): Unsubscribe {
    return this.#news.onError(listener);
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
    this.#question.abort();
    this.#news.giveUp(new SynclineError("NOT_STARTED", "the engine was stopped"));
    return this.#inTurn(() => this.#end());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  synced(): Promise<void> {
    if (this.#starting === undefined) return Promise.reject(notStarted());
    return this.#news.until(() => this.status.synced);
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
    if (this.#starting === undefined) return this.#inTurn(async () => this.#hideRetired());
    const { signal } = this.#lifetime;
    const question = this.#askAnew();
    await this.#inTurn(() => this.#changeSession(signal, question, token === undefined));
    if (signal.aborted) return;
    await this.#news.until(() => this.#isOpen || isStalled(this.status));
  }

  // Starting and stopping.

  async #start(): Promise<void> {
    const lifetime = new AbortController();
    this.#lifetime = lifetime;
    const question = this.#askAnew();
    await this.#inTurn(() => this.#begin(lifetime.signal, question));
    checkRunning(lifetime.signal);
    await this.#news.until(() => this.#isOpen || this.status.identity === null);
  }

  async #begin(signal: AbortSignal, question: AbortSignal): Promise<void> {
    checkRunning(signal);
    // Who starts it may be somebody else, and the token may be long in coming.
    this.#hideRetired();
    const known = this.#tokens.known();
    const asked = known === undefined && this.#tokens.canAsk ? this.#askForToken(null, question) : undefined;
    this.#module = await unlessAborted(this.#load(), signal);
    checkRunning(signal);
    if (asked === undefined) return this.#open(known);
    // A function that has the token at hand has answered by now. One that asks a server is not waited for.
    const answer = await Promise.race([asked, nextTask()]);
    checkRunning(signal);
    if (answer !== "later") return this.#openAnswered(answer);
    this.#news.setStatus({ ...IDLE, connection: { state: "connecting" } });
    this.#news.deliver();
    this.#inBackground(asked.then((late) => this.#inTurn(async () => this.#openLate(late, question))));
  }

  /** In the meantime the application may have named another session, or stopped. */
  #openLate(answer: Answer, question: AbortSignal): void {
    if (!question.aborted && this.#replica === undefined) this.#openAnswered(answer);
  }

  #askAnew(): AbortSignal {
    this.#question.abort();
    this.#question = new AbortController();
    return this.#question.signal;
  }

  /** Opens with the application's answer; without one nobody's rows can be shown. */
  #openAnswered(answer: Answer): void {
    if (answer.failed) {
      const lastError = { code: answer.error.code, message: answer.error.message };
      this.#news.setStatus({ ...IDLE, connection: { state: "unauthorized" }, lastError });
      this.#news.deliver();
    } else {
      this.#open(answer.token);
    }
  }

  #open(token: string | undefined): void {
    const module = this.#module;
    if (module === undefined) throw notStarted();
    const { baseUrl, wsUrl, appName, persist, schema, reconnectMs } = this.#settings;
    const options = { baseUrl, wsUrl, appName, persist, schema, reconnectMs, startPaused: this.#isPaused };
    const raw = guard(() => new module.RawEngine(options, (json) => this.#receive(replica, json)));
    const replica: Replica = new Replica(raw, token, this.#question.signal);
    this.#replica = replica;
    this.#show(raw);
    this.#receive(
      replica,
      guard(() => raw.start(token)),
    );
    this.#news.setStatus(toStatus(JSON.parse(raw.statusJson()) as RawStatus));
    this.#news.deliver();
  }

  async #end(): Promise<void> {
    const replica = this.#replica;
    try {
      await replica?.close();
    } finally {
      this.#replica = undefined;
      // The rows stay readable until somebody starts the engine again.
      this.#retired ??= replica?.raw;
      replica?.writes.abandon("NOT_STARTED", "the engine was stopped");
      this.#former?.writes.abandon("NOT_STARTED", "the engine was stopped");
      this.#former = undefined;
      if (this.status.connection.state !== "stopped") {
        this.#news.setStatus({ ...this.status, connection: { state: "stopped" } });
        this.#news.deliver();
      }
    }
  }

  /** Nobody may see the rows of a stopped replica any more. */
  #hideRetired(): void {
    if (this.#retired === undefined) return;
    this.#show(undefined);
    this.#retired.free();
    this.#retired = undefined;
    this.#news.setStatus({ ...IDLE, connection: { state: "stopped" } });
    this.#news.deliver();
  }

  get #isOpen(): boolean {
    return this.#replica?.isOpen === true;
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
      this.#news.tellError(fromThrown(thrown));
      this.#news.deliver();
    });
  }

  // Sessions.

  async #changeSession(signal: AbortSignal, question: AbortSignal, ask: boolean): Promise<void> {
    if (signal.aborted) return;
    let token = this.#tokens.known();
    if (ask && this.#tokens.canAsk) {
      const answer = await unlessAborted(this.#askForToken(null, question), question);
      if (answer === undefined || signal.aborted) return;
      if (answer.failed) {
        if (this.#replica === undefined) this.#openAnswered(answer);
        return;
      }
      token = answer.token;
    }
    const replica = this.#replica;
    if (replica === undefined) return this.#open(token);
    if (token !== replica.token) return this.#reopen(signal, token);
    // Nobody knows yet whose token it is: the raw engine asks, and until then writes wait for the answer.
    if (this.status.identity !== null) {
      const identity = await fetchIdentity(this.#settings.baseUrl, token, signal);
      if (signal.aborted) return;
      if (identity !== undefined && !sameIdentity(identity, this.status.identity)) {
        this.#forget(token);
        return this.#reopen(signal, token);
      }
    }
    // The raw engine takes no token for "there is none", which is no news to an anonymous session.
    if (token !== undefined) this.#command((raw) => raw.setToken(token));
  }

  async #reopen(signal: AbortSignal, token: string | undefined): Promise<void> {
    await this.#leave();
    if (!signal.aborted) this.#open(token);
  }

  /** Hides the rows at once, then closes their database. */
  async #leave(): Promise<void> {
    const replica = this.#replica;
    if (replica === undefined) return;
    // No database was open yet, so these writes were nowhere but in memory.
    if (!replica.isOpen)
      replica.writes.abandon("IDENTITY_CHANGED", "the session changed before its database was open");
    const closed = replica.close();
    this.#replica = undefined;
    this.#show(undefined);
    this.#news.setStatus({ ...IDLE, connection: { state: "connecting" } });
    this.#news.deliver();
    try {
      await closed;
    } catch (thrown) {
      replica.writes.abandon("IDENTITY_CHANGED", "the session changed");
      throw thrown;
    }
    replica.writes.abandonUnstored("IDENTITY_CHANGED", "the session changed");
    if (replica.isOpen) this.#former = replica;
    replica.raw.free();
  }

  /** The server says that the token is another identity's than the replica's. */
  async #identityFlipped(replica: Replica): Promise<void> {
    const { signal } = this.#lifetime;
    const question = this.#question.signal;
    const flips = this.#flips;
    this.#flips += 1;
    let isLeft = false;
    await this.#inTurn(async () => {
      if (signal.aborted || this.#replica !== replica) return;
      isLeft = true;
      this.#forget(replica.token);
      await this.#leave();
    });
    if (!isLeft) return;
    // A server that contradicts itself must not make us go round as fast as it answers.
    if (flips > 0) await delay(Math.min(this.#settings.reconnectMs * 2 ** flips, FLIP_MS_MAX), question);
    await this.#inTurn(async () => {
      if (!question.aborted && this.#replica === undefined) this.#open(replica.token);
    });
  }

  #forget(token: string | undefined): void {
    if (token !== undefined && this.#module !== undefined) {
      forgetIdentity(this.#settings.appName, this.#module.tokenHash(token));
    }
  }

  /** The server does not accept the token: another one may be in the storage, or the application has one. */
  async #renewToken(replica: Replica, code: ErrorCode): Promise<void> {
    if (replica.isRenewing) return;
    replica.isRenewing = true;
    try {
      const token = await this.#findOther(replica, code);
      if (this.#replica !== replica) return;
      if (token !== undefined) {
        replica.token = token;
        this.#tokens.renewed(token);
      }
      this.#command((raw) => raw.setToken(token));
    } finally {
      replica.isRenewing = false;
    }
  }

  async #findOther({ token: refused, question }: Replica, code: ErrorCode): Promise<string | undefined> {
    let token = this.#tokens.known();
    if (this.#tokens.canAsk && (token === undefined || token === refused)) {
      const answer = await this.#askForToken(code, question);
      token = answer.failed ? undefined : answer.token;
    }
    return token === refused ? undefined : token;
  }

  async #askForToken(code: ErrorCode | null, question: AbortSignal): Promise<Answer> {
    try {
      return { failed: false, token: await this.#tokens.ask(code, question) };
    } catch (cause) {
      const error = new SynclineError("UNAUTHENTICATED", "getToken() failed, so there is no token", {
        cause,
      });
      this.#news.tellError(error);
      this.#news.deliver();
      return { failed: true, error };
    }
  }

  // Writes.

  #commit<T>(draft: Draft, value: T): Write<T> {
    const replica = this.#running();
    const accepted = JSON.parse(guard(() => replica.raw.mutate(draft.toJson()))) as RawAccepted;
    const write = replica.writes.open(accepted.op_id, draft.changes[0]?.rowId ?? "", value);
    this.#tellMutation(this.#queue.added(accepted.op_id, Object.freeze(draft.changes)));
    this.#receiveEvents(replica, accepted.events);
    return write;
  }

  #retry(opId: string): Write {
    const replica = this.#running();
    const changes = this.#queue.changes(opId);
    const accepted = JSON.parse(guard(() => replica.raw.retry(opId))) as RawAccepted;
    const id = changes[0]?.rowId ?? "";
    const write = replica.writes.open(accepted.op_id, id, id);
    this.#tellMutation(this.#queue.added(accepted.op_id, changes));
    this.#receiveEvents(replica, accepted.events);
    return write;
  }

  #remove(opId: string): void {
    const replica = this.#running();
    this.#receive(
      replica,
      guard(() => replica.raw.remove(opId)),
    );
  }

  #running(): Replica {
    if (this.#starting === undefined) throw notStarted();
    // While the identity is unknown the write waits in memory for its token's identity: another token gets another raw
    // engine, and stopping this one rejects what never reached a disk.
    if (this.#replica !== undefined) return this.#replica;
    throw new SynclineError("NOT_STARTED", "the engine is still starting", {
      hint: "Await start() before the first write.",
    });
  }

  #command(call: (raw: RawEngine) => string): void {
    const replica = this.#replica;
    if (replica === undefined || this.#starting === undefined) return;
    this.#receive(
      replica,
      guard(() => call(replica.raw)),
    );
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
      replica.settle(event);
      if (replica === this.#replica) this.#apply(replica, event, changed);
    }
    if (replica === this.#replica) this.#queue.invalidate();
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
        this.#opened(replica, toIdentity(event.identity));
        changed.push(...this.#rows.known());
        // Also when nobody has read anything: who waits for news reads now.
        this.#mustTellRows = true;
        break;
      case "status_changed":
        this.#news.setStatus(toStatus(event.status));
        if (this.status.connection.state === "live") this.#flips = 0;
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
        this.#inBackground(this.#renewToken(replica, errorCode(event.code)));
        break;
      case "identity_flipped":
        this.#inBackground(this.#identityFlipped(replica));
        break;
      case "problem":
        this.#news.tellError(new SynclineError(errorCode(event.code), event.message));
        break;
      case "mutation_durable":
      case "synced":
        // The status says the same.
        break;
    }
  }

  #opened(replica: Replica, identity: Identity): void {
    replica.opened(identity, this.#former);
    this.#former = undefined;
    this.#queue.opened();
  }

  #tellRows(entities: readonly string[]): void {
    if (entities.length === 0 && !this.#mustTellRows) return;
    this.#mustTellRows = false;
    this.#news.add(() => this.#rows.notify([...new Set(entities)]));
  }

  #tellMutation(transition: MutationTransition | undefined): void {
    if (transition !== undefined) this.#news.add(() => this.#queue.notify(transition));
  }
}

/** Longest pause between two openings because of a server that contradicts itself, in milliseconds. */
const FLIP_MS_MAX = 30_000;

function checkRunning(signal: AbortSignal): void {
  if (signal.aborted) throw new SynclineError("NOT_STARTED", "the engine was stopped while it started");
}

function notStarted(): SynclineError {
  return new SynclineError("NOT_STARTED", "the engine is not running", { hint: "Call start() first." });
}
