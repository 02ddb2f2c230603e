// Which replica runs: starting, stopping, and changing from one session to the next. One file because all of it moves the same
// replica, token and question, one step at a time.

import { Breakdowns, breakdownError } from "./breakdowns.ts";
import type { Settings } from "./config.ts";
import { quiet } from "./deferred.ts";
import { type ErrorCode, SynclineError } from "./errors.ts";
import type * as LeftDatabaseModule from "./left_database.ts";
import type { News } from "./news.ts";
import { OtherTabs, oneTabAtATime, type TabNews } from "./other_tabs.ts";
import { QueueCopy } from "./queue_copy.ts";
import type { OnEvents, OpenDatabase, RawEngine, RawModule, RawStatus } from "./raw.ts";
import { Replica } from "./replica.ts";
import { type Answer, fetchIdentity, TokenSource } from "./session.ts";
import { IDLE, isStalled, readIdentity, sameIdentity } from "./status.ts";
import { fromThrown, guard } from "./thrown.ts";
import { delay, nextTask, unlessAborted } from "./time.ts";
import type { Identity, PersistenceBackend, StorageNotice, Token } from "./types.ts";

/** What the sessions tell the engine. */
export interface SessionHost {
  /** Rows and queue are this replica's from now on, or nobody's. */
  show(raw: RawEngine | undefined): void;
  /** The rows that came with the page are not this session's. */
  hideServed(): void;
  receive(replica: Replica, eventsJson: string, binaryFrame?: Uint8Array): void;
  takeStatus(raw: RawStatus): void;
  tellStorage(replica: Replica, notice: StorageNotice): void;
}

/** The sessions of one engine, one after another. */
export class Sessions {
  readonly #settings: Settings;
  readonly #load: () => Promise<RawModule>;
  readonly #news: News;
  readonly #host: SessionHost;
  readonly #tokens: TokenSource;

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
  readonly #tabs: OtherTabs;
  /** Unsent writes of the former session are on their way to this one. */
  #carrying: Promise<void> | undefined;
  /** Whose session this tab left because another one did. */
  #leftBehind: Identity | null = null;
  /** That one went on with a token that may still come to this tab's storage. */
  #awaitsToken = false;
  /** Whether the token was known when the page went into the browser's cache. */
  #wasKnown = false;
  /** Times in a row that the server contradicted itself about the identity. */
  #flips = 0;
  readonly #breakdowns: Breakdowns = new Breakdowns();

  constructor(settings: Settings, load: () => Promise<RawModule>, news: News, host: SessionHost) {
    this.#settings = settings;
    this.#load = load;
    this.#news = news;
    this.#host = host;
    this.#tokens = new TokenSource(
      settings,
      (token) => this.#module?.tokenHash(token),
      (error) => {
        news.tellError(error);
        news.deliver();
      },
    );
    this.#tabs = new OtherTabs(
      settings.appName,
      (said) => this.#heard(said),
      (isBack) => this.#cached(isBack),
      () => this.#stored(),
    );
  }

  get replica(): Replica | undefined {
    return this.#replica;
  }

  /** Where crates/web keeps whose the known tokens are. */
  get #knownTokens(): string {
    return `syncline_${this.#settings.appName}_identities`;
  }

  /** Whether a replica runs whose database was read. */
  get isOpen(): boolean {
    return this.#replica?.isOpen === true;
  }

  /** Whether it was started and not stopped. */
  get isRunning(): boolean {
    return this.#starting !== undefined;
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

  synced(): Promise<void> {
    if (this.#starting === undefined) return Promise.reject(notStarted());
    return this.#news.until(() => this.#news.status.synced);
  }

  /** Stays away from the network, or not any more; said before the start it holds then. */
  pause(isPaused: boolean): void {
    this.#isPaused = isPaused;
    this.command((raw) => raw.command(isPaused ? "pause" : "resume"));
  }

  async change(token?: Token, carries = false): Promise<void> {
    // Without this code nothing could be carried over, so it has to be there first.
    if (carries) await loadLeft();
    if (token !== undefined) this.#tokens.give(token);
    this.#leftBehind = null;
    this.#awaitsToken = false;
    if (this.#starting === undefined) return this.#inTurn(async () => this.#hideStopped());
    const { signal } = this.#lifetime;
    const question = this.#askAnew();
    await this.#inTurn(() => this.#changeSession(signal, question, token === undefined, carries));
    if (signal.aborted) return;
    await this.#news.until(() => this.isOpen || isStalled(this.#news.status));
    await this.#carrying;
  }

  async signOut(erases: boolean): Promise<void> {
    // Without this code nothing could be erased, so it has to be there first.
    const code = erases ? await import("./erase.ts") : undefined;
    const token = this.#replica?.token;
    const { identity } = this.#news.status;
    this.#tokens.forget();
    const name = identity && this.#databaseOf(identity);
    if (name) code?.noteErasure(this.#eraseNote, name);
    const changed = this.change(null);
    this.#forget(token, identity);
    await changed;
    if (erases) await this.#inTurn(() => this.#erase());
  }

  /** @throws SynclineError NOT_STARTED when there is none. */
  running(): Replica {
    if (this.#starting === undefined) throw notStarted();
    // While the identity is unknown the write waits in memory for its token's identity: another token gets another raw
    // engine, and stopping this one rejects what never reached a disk.
    if (this.#replica !== undefined) return this.#replica;
    throw new SynclineError("NOT_STARTED", "the engine is still starting", {
      hint: "Await start() before the first write.",
    });
  }

  /** For what can wait for the next start when there is no replica. */
  command(call: (raw: RawEngine) => string): void {
    const replica = this.#replica;
    if (replica === undefined || this.#starting === undefined) return;
    this.#host.receive(
      replica,
      guard(() => call(replica.raw)),
    );
  }

  /** Its database was read. */
  opened(replica: Replica, identity: Identity): void {
    const former = this.#former;
    replica.opened(identity);
    this.#former = undefined;
    if (hasNote(this.#noteName)) this.#carrying = this.#carryOver(replica, identity, former);
    else if (former !== undefined) replica.succeed(former);
    if (former !== undefined && former.token !== replica.token && sameIdentity(former.identity, identity))
      this.#tellRenewed(replica);
  }

  /** The server spoke of no other identity. */
  agreed(): void {
    this.#flips = 0;
  }

  // Starting and stopping.

  async #start(): Promise<void> {
    const lifetime = new AbortController();
    this.#lifetime = lifetime;
    const question = this.#askAnew();
    await this.#inTurn(() => this.#begin(lifetime.signal, question));
    checkRunning(lifetime.signal);
    await this.#news.until(() => this.isOpen || this.#news.status.identity === null);
  }

  async #begin(signal: AbortSignal, question: AbortSignal): Promise<void> {
    checkRunning(signal);
    // Who starts it may be somebody else, and the token may be long in coming.
    this.#hideRetired();
    // Before the token is read: a tab that leaves its session later is heard.
    this.#tabs.listen();
    const known = this.#tokens.known();
    const asked = known === undefined && this.#tokens.canAsk ? this.#tokens.ask(null, question) : undefined;
    this.#module = await unlessAborted(this.#load(), signal);
    checkRunning(signal);
    await this.#tryToErase();
    // What was heard meanwhile counts.
    if (asked === undefined) return this.#open(this.#tokens.known());
    // A function that has the token at hand has answered by now. One that asks a server is not waited for.
    const answer = await Promise.race([asked, nextTask()]);
    checkRunning(signal);
    if (answer !== "later") return this.#openAnswered(answer);
    this.#news.show({ ...IDLE, connection: { state: "connecting" } });
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
      this.#news.show({ ...IDLE, connection: { state: "unauthorized" }, lastError });
    } else {
      this.#open(answer.token);
    }
  }

  #open(token: string | undefined, queueOnly = false): void {
    const module = this.#module;
    if (module === undefined) throw notStarted();
    const { baseUrl, wsUrl, appName, persist, schema, reconnectMs, backend } = this.#settings;
    const copy =
      backend === undefined && persist && QueueCopy.isPossible
        ? new QueueCopy((notice) => this.#host.tellStorage(replica, notice))
        : undefined;
    const disk = { openDatabase: backend && openerOf(backend), copy };
    const startPaused = this.#isPaused;
    const options = {
      baseUrl,
      wsUrl,
      appName,
      persist,
      schema,
      reconnectMs,
      startPaused,
      queueOnly,
      disk,
    };
    const onEvents: OnEvents = (json, frame) => this.#host.receive(replica, json, frame);
    const raw = guard(() => new module.RawEngine(options, onEvents));
    const replica: Replica = new Replica(raw, token, this.#question.signal);
    this.#replica = replica;
    this.#host.show(raw);
    this.#host.receive(
      replica,
      guard(() => raw.start(token)),
    );
    this.#host.takeStatus(JSON.parse(raw.statusJson()) as RawStatus);
    this.#news.deliver();
  }

  /** WebAssembly trapped. Everything of this replica but its writes is gone from memory; the disk has what was promised. */
  brokeDown(replica: Replica, message: string): void {
    const module = this.#module;
    if (replica !== this.#replica || module === undefined) return;
    this.#replica = undefined;
    this.#host.show(undefined);
    // Which of its writes reached the disk, the disk will tell.
    if (replica.isOpen) this.#former = replica;
    else replica.writes.abandon("INTERNAL", "the engine broke down");
    const recovery = this.#breakdowns.add(performance.now());
    this.#news.tellError(breakdownError(message, recovery));
    try {
      module.renew(replica.raw);
      if (recovery !== "none") {
        this.#open(replica.token, recovery === "queue");
        return;
      }
    } catch (thrown) {
      this.#news.tellError(fromThrown(thrown));
    }
    this.#news.show({ ...IDLE, connection: { state: "stopped" } });
    this.#inBackground(this.stop());
  }

  /** Storage failed, and this replica is in memory. When its database works again, another one takes its place there. */
  heal(replica: Replica): void {
    if (replica.isHealing || this.#settings.backend !== undefined) return;
    replica.isHealing = true;
    this.#inBackground(this.#heal(replica));
  }

  async #heal(replica: Replica): Promise<void> {
    const { signal } = this.#lifetime;
    const name = (): string => (replica.identity && this.#databaseOf(replica.identity)) || "";
    const { untilHealed } = await import("./healing.ts");
    const isOver = (): boolean => this.#replica !== replica;
    // What waits in the queue may be nowhere else.
    const mayLook = (): boolean =>
      this.#news.status.storage.kind === "memory" && replica.isOpen && replica.queue().length === 0;
    if (!(await untilHealed(name, signal, isOver, mayLook))) return;
    await this.#inTurn(async () => {
      if (!isOver() && mayLook() && !signal.aborted) await this.#reopen(signal, replica.token);
    });
  }

  async #end(): Promise<void> {
    this.#tabs.close();
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
      if (this.#news.status.connection.state !== "stopped") {
        this.#news.show({ ...this.#news.status, connection: { state: "stopped" } });
      }
    }
  }

  /** Nobody knows whose the next session will be. */
  #hideStopped(): void {
    this.#host.hideServed();
    this.#hideRetired();
    this.#news.deliver();
  }

  /** Nobody may see the rows of a stopped replica any more. */
  #hideRetired(): void {
    if (this.#retired === undefined) return;
    this.#host.show(undefined);
    this.#retired.free();
    this.#retired = undefined;
    this.#news.show({ ...IDLE, connection: { state: "stopped" } });
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

  async #changeSession(
    signal: AbortSignal,
    question: AbortSignal,
    ask: boolean,
    carries: boolean,
  ): Promise<void> {
    if (signal.aborted) return;
    let token = this.#tokens.known();
    if (ask && this.#tokens.canAsk) {
      const answer = await unlessAborted(this.#tokens.ask(null, question), question);
      if (answer === undefined || signal.aborted) return;
      if (answer.failed) {
        if (this.#replica === undefined) this.#openAnswered(answer);
        return;
      }
      token = answer.token;
    }
    const replica = this.#replica;
    if (replica === undefined) return this.#open(token);
    if (token !== replica.token || hasNote(this.#eraseNote)) {
      await this.#note(carries, token);
      if (!this.#isOf(token, this.#news.status.identity)) this.#tellLeft(replica.token, token);
      return this.#reopen(signal, token);
    }
    // Nobody knows yet whose token it is: the raw engine asks, and until then writes wait for the answer.
    if (this.#news.status.identity !== null) {
      const identity = await fetchIdentity(this.#settings.baseUrl, token, signal);
      if (signal.aborted || question.aborted) return;
      if (identity !== undefined && !sameIdentity(identity, this.#news.status.identity)) {
        this.#forget(token);
        this.#tellLeft(undefined, undefined);
        return this.#reopen(signal, token);
      }
    }
    // The raw engine takes no token for "there is none", which is no news to an anonymous session.
    if (token !== undefined) this.command((raw) => raw.setToken(token));
  }

  async #reopen(signal: AbortSignal, token: string | undefined): Promise<void> {
    await this.#leave();
    await this.#tryToErase();
    if (!signal.aborted) this.#open(token);
  }

  get #eraseNote(): string {
    return `syncline_${this.#settings.appName}_erase`;
  }

  /** Removes what a session was to leave behind no more. */
  async #erase(): Promise<void> {
    if (!hasNote(this.#eraseNote)) return;
    try {
      await (await import("./erase.ts")).erase(this.#eraseNote, this.#settings.backend);
    } catch (cause) {
      throw new SynclineError("STORAGE_UNAVAILABLE", "not everything could be erased", { cause });
    }
  }

  /** A failure is told, and the next start tries again. */
  async #tryToErase(): Promise<void> {
    await this.#erase().catch((error: SynclineError) => this.#news.tellError(error));
  }

  /** The name of an identity's database, as crates/web makes it. */
  #databaseOf({ userId, tenantId }: Identity): string | undefined {
    const key = this.#module?.tokenHash(JSON.stringify([userId, tenantId])).slice(0, 32);
    return key && `syncline_${this.#settings.appName}_${key}`;
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
    this.#host.hideServed();
    this.#host.show(undefined);
    this.#news.show({ ...IDLE, connection: { state: "connecting" } });
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
  identityFlipped(replica: Replica): void {
    this.#inBackground(this.#resolveAgain(replica));
  }

  async #resolveAgain(replica: Replica): Promise<void> {
    const { signal } = this.#lifetime;
    const question = this.#question.signal;
    const flips = this.#flips;
    this.#flips += 1;
    let isLeft = false;
    await this.#inTurn(async () => {
      if (signal.aborted || this.#replica !== replica) return;
      isLeft = true;
      this.#forget(replica.token);
      this.#tellLeft(undefined, undefined);
      await this.#leave();
    });
    if (!isLeft) return;
    // A server that contradicts itself must not make us go round as fast as it answers.
    if (flips > 0) await delay(Math.min(this.#settings.reconnectMs * 2 ** flips, FLIP_MS_MAX), question);
    await this.#inTurn(async () => {
      if (!question.aborted && this.#replica === undefined) this.#open(replica.token);
    });
  }

  #forget(token: string | undefined, identity: Identity | null = null): void {
    const whose = identity && JSON.stringify({ user_id: identity.userId, tenant_id: identity.tenantId });
    if (token !== undefined)
      this.#module?.forgetIdentity(this.#knownTokens, this.#module.tokenHash(token), whose ?? undefined);
  }

  /** Whether a token is known to be this identity's. */
  #isOf(token: string | undefined, identity: Identity | null): boolean {
    const known = token && this.#module?.recallIdentity(this.#knownTokens, this.#module.tokenHash(token));
    return (
      known !== undefined && known !== "" && sameIdentity(readIdentity(JSON.parse(known)) ?? null, identity)
    );
  }

  // Unsent writes of the session that was left.

  get #noteName(): string {
    return `syncline_${this.#settings.appName}_carry`;
  }

  /** Notes that what waits is to go to the session of this token, or that it is not. */
  async #note(carries: boolean, token: string | undefined): Promise<void> {
    const { identity: from } = this.#news.status;
    if (!carries && !hasNote(this.#noteName)) return;
    const { noteCarry } = await loadLeft();
    const hash = token && this.#module?.tokenHash(token);
    noteCarry(this.#noteName, carries && hash && from ? { from, token: hash } : undefined);
  }

  async #carryOver(replica: Replica, identity: Identity, former: Replica | undefined): Promise<void> {
    try {
      const { takeOver } = await loadLeft();
      const { backend } = this.#settings;
      const hasCopy = backend === undefined && QueueCopy.isPossible;
      await takeOver(this.#noteName, {
        identity,
        token: this.#hashOf(replica),
        // Memory is no place for what is safe on a disk.
        isOnDisk: () => this.#replica === replica && this.#news.status.storage.kind !== "memory",
        databaseOf: (left) => this.#databaseOf(left),
        queued: () => replica.queue().map(({ op_id }) => op_id),
        adopt: (lines, isOtherLog) => this.command((raw) => raw.adopt(lines, isOtherLog)),
        stored: (opId) => replica.writes.carry(opId, former?.writes),
        openDatabase: backend && openerOf(backend),
        renewCopy: hasCopy
          ? async (name, readQueue) => (await import("./copy_line.ts")).renewCopy(name, readQueue)
          : undefined,
      });
    } catch (thrown) {
      // The note stays: the next start goes on with it.
      this.#news.tellError(fromThrown(thrown));
      this.#news.deliver();
    } finally {
      if (former !== undefined) replica.succeed(former);
    }
  }

  // Other tabs.

  #tellLeft(token: string | undefined, next: string | undefined): void {
    const hash = (one: string | undefined): string | undefined => one && this.#module?.tokenHash(one);
    const { identity } = this.#news.status;
    this.#tabs.tell({ type: "left", identity, token: hash(token), next: hash(next) });
  }

  #tellRenewed({ identity, token }: Replica): void {
    if (identity !== null && token !== undefined) this.#tabs.tell({ type: "renewed", identity, token });
  }

  #heard(news: TabNews): void {
    const replica = this.#replica;
    const { identity } = this.#news.status;
    const isOurs = identity !== null && sameIdentity(identity, news.identity);
    if (news.type === "left") {
      this.#tokens.follow(news.token, news.next);
      // Whose an unknown token is nobody can tell yet, but that it was left.
      const isItsToken =
        identity === null && news.token !== undefined && this.#hashOf(replica) === news.token;
      if (replica !== undefined && (isOurs || isItsToken)) this.#follow(news.next);
    } else if (news.type === "renewed") {
      if (replica !== undefined && isOurs) this.#renewed(replica, news.token);
      else if (this.#leftBehind !== null && sameIdentity(this.#leftBehind, news.identity)) {
        // Its session was not left: it got another token.
        this.#tokens.give(news.token);
        this.#follow();
      }
    }
  }

  #hashOf(replica: Replica | undefined): string | undefined {
    return replica?.token && this.#module?.tokenHash(replica.token);
  }

  /** A page in the browser's cache hears nothing. What it shows is looked at before anything else happens. */
  #cached(isBack: boolean): void {
    const { identity } = this.#news.status;
    const replica = this.#replica;
    if (replica === undefined) return;
    const isKnown = this.#isOf(replica.token, identity);
    if (!isBack) {
      this.#wasKnown = isKnown;
      return;
    }
    const token = this.#tokens.known();
    const isOther = token !== replica.token && (token !== undefined || !this.#tokens.canAsk);
    if (isOther || (this.#wasKnown && !isKnown)) this.#follow();
  }

  /** The token that the others went on with can be in this tab's storage later than their word is here. */
  #stored(): void {
    const isNobody = this.#replica?.token === undefined;
    if (this.#awaitsToken && isNobody && this.#tokens.known() !== undefined) this.#follow();
  }

  /** Drops the rows at once, then opens what the storage and the application say now. */
  #follow(next?: string): void {
    const { signal } = this.#lifetime;
    const question = this.#askAnew();
    this.#leftBehind = this.#news.status.identity ?? this.#leftBehind;
    this.#awaitsToken = next !== undefined;
    const left = quiet(this.#leave());
    this.#inBackground(
      this.#inTurn(async () => {
        await left;
        if (this.#awaitsToken && this.#tokens.known() === undefined && !this.#tokens.canAsk)
          await delay(STORED_MS_MAX, question);
        if (signal.aborted || question.aborted || this.#replica !== undefined) return;
        const token = this.#tokens.known();
        if (token !== undefined || !this.#tokens.canAsk) return this.#open(token);
        const answer = await unlessAborted(this.#tokens.ask(null, question), question);
        if (answer !== undefined && !signal.aborted) this.#openAnswered(answer);
      }),
    );
  }

  // Tokens.

  /** The server does not accept the token: another one may be in the storage, or the application has one. */
  renewToken(replica: Replica, code: ErrorCode): void {
    this.#inBackground(this.#renewToken(replica, code));
  }

  async #renewToken(replica: Replica, code: ErrorCode): Promise<void> {
    if (replica.isRenewing) return;
    replica.isRenewing = true;
    replica.renewals += 1;
    const turn = replica.renewals;
    const { token: refused, question } = replica;
    const { canAsk } = this.#tokens;
    try {
      const pauseMs = canAsk ? replica.pauseBeforeAsking(this.#settings.reconnectMs) : 0;
      if (pauseMs > 0) await delay(pauseMs, question);
      const find = async (): Promise<void> => {
        // Another tab may have asked, and told.
        if (this.#replica !== replica || replica.token !== refused) return;
        const token = await this.#tokens.findOther(replica, code);
        if (this.#replica !== replica) return;
        this.#renewed(replica, token);
        if (token !== undefined) this.#tellRenewed(replica);
      };
      await (canAsk ? oneTabAtATime(`${this.#knownTokens}_token`, find) : find());
    } finally {
      replica.isRenewing = false;
    }
    if (canAsk) this.#askLater(replica, code, turn);
  }

  /** The core tells of the first refusal alone. An application without a better token now may have one later. */
  #askLater(replica: Replica, code: ErrorCode, turn: number): void {
    const isOver = (): boolean => this.#replica !== replica || replica.renewals !== turn;
    const state = (): string => this.#news.status.connection.state;
    this.#news
      .until(() => isOver() || state() === "live" || state() === "unauthorized")
      .then(
        () => !isOver() && state() === "unauthorized" && this.renewToken(replica, code),
        () => {
          // The engine was stopped.
        },
      );
  }

  #renewed(replica: Replica, token: string | undefined): void {
    if (token !== undefined) {
      replica.token = token;
      this.#tokens.renewed(token);
    }
    this.command((raw) => raw.setToken(token));
  }
}

/** How long a tab waits to see in its storage what another one wrote there, in milliseconds. */
const STORED_MS_MAX = 1_000;

/** Longest pause between two openings because of a server that contradicts itself, in milliseconds. */
const FLIP_MS_MAX = 30_000;

function hasNote(name: string): boolean {
  try {
    return localStorage.getItem(name) !== null;
  } catch {
    return false;
  }
}

/** Few sessions leave anything to another one. */
function loadLeft(): Promise<typeof LeftDatabaseModule> {
  return import("./left_database.ts").catch((cause: unknown) => {
    throw new SynclineError("NETWORK_UNAVAILABLE", "a part of the package could not be loaded", { cause });
  });
}

/** Opens databases of the application's own; few have any, so that code comes when it is first needed. */
function openerOf(backend: PersistenceBackend): OpenDatabase {
  return async (...how) => {
    const { openDatabase } = await import("./record_database.ts");
    return openDatabase(backend, ...how);
  };
}

function checkRunning(signal: AbortSignal): void {
  if (signal.aborted) throw new SynclineError("NOT_STARTED", "the engine was stopped while it started");
}

function notStarted(): SynclineError {
  return new SynclineError("NOT_STARTED", "the engine is not running", { hint: "Call start() first." });
}
