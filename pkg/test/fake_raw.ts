// A raw engine in memory, with the same interface and events as the one in WebAssembly, whose server is the test.

import type {
  Command,
  RawAccepted,
  RawChange,
  RawEngine,
  RawError,
  RawEvent,
  RawIdentity,
  RawModule,
  RawMutation,
  RawOptions,
  RawRow,
  RawStatus,
} from "../src/raw.ts";

type Fields = { readonly [field: string]: RawRow[string] };
interface Queued {
  readonly opId: string;
  status: RawMutation["status"];
  changes: readonly RawChange[];
  error: RawError | null;
  waitingOn: readonly string[];
}
interface Logged {
  readonly entity: string;
  readonly id: string;
  readonly version: number;
}

/** What all replicas of one test share: the server's rows, the sessions, and the engines made so far. */
export class FakeWorld {
  readonly engines: FakeRaw[] = [];
  /** Identities by token that this device knows. */
  readonly known: Map<string, RawIdentity> = new Map();
  /** Tokens whose identity was to be forgotten; the engines of this world go on knowing it. */
  readonly forgotten: Set<string> = new Set();
  /** Rows on disk by user. */
  readonly disks: Map<string, Map<string, RawRow>> = new Map();
  /** Queues on disk by user. */
  readonly queues: Map<string, Queued[]> = new Map();
  /** Whether a replica opens by itself or waits for `open()`. */
  opensAtOnce = true;
  /** Whether every call is refused, as after a panic. */
  isBroken = false;
  /** Transactions made so far, by all engines: their ids are unique. */
  ops = 0;
  /** Engines that were told to have broken down, in place of which the module was instantiated anew. */
  readonly renewed: RawEngine[] = [];
  readonly module: RawModule;

  constructor() {
    const world = this;
    this.module = {
      RawEngine: class extends FakeRaw {
        constructor(options: RawOptions, onEvents: (json: string) => void) {
          super(world, options, onEvents);
          world.engines.push(this);
        }
      },
      tokenHash: (token) => `hash of ${token}`,
      recallIdentity: (_map, hash) => {
        const token = hash.replace("hash of ", "");
        const identity = this.forgotten.has(token) ? undefined : this.known.get(token);
        return identity && JSON.stringify(identity);
      },
      forgetIdentity: (_map, hash, identity) => {
        for (const [token, whose] of this.known) {
          if (`hash of ${token}` === hash || JSON.stringify(whose) === identity) this.forgotten.add(token);
        }
      },
      renew: (broken) => {
        this.renewed.push(broken);
      },
    };
  }

  /** The engine that was made last. */
  get engine(): FakeRaw {
    const engine = this.engines.at(-1);
    if (engine === undefined) throw new Error("no engine was made");
    return engine;
  }
}

export class FakeRaw implements RawEngine {
  readonly options: RawOptions;
  readonly calls: string[] = [];
  token: string | undefined;
  isFreed = false;
  /** How often rows were handed over as a whole or in part. */
  deltas = 0;
  readonly #world: FakeWorld;
  readonly #onEvents: (json: string) => void;
  #identity: RawIdentity | null = null;
  #connection: RawStatus["connection"] = { state: "connecting" };
  #synced = false;
  #base: Map<string, RawRow> = new Map();
  #queue: Queued[] = [];
  #log: Logged[] = [];
  #view: Map<string, RawRow> = new Map();
  #version = 0;
  #isOpen = false;
  /** Writes that the test has not put on disk. */
  readonly #unstored: Set<string> = new Set();
  #onStored: (() => void) | undefined;

  constructor(world: FakeWorld, options: RawOptions, onEvents: (json: string) => void) {
    this.#world = world;
    this.options = options;
    this.#onEvents = onEvents;
  }

  start(token: string | undefined): string {
    this.token = token;
    this.#identity =
      token === undefined ? { user_id: null, tenant_id: null } : (this.#world.known.get(token) ?? null);
    if (this.#identity !== null && this.#world.opensAtOnce) queueMicrotask(() => this.open());
    return this.#json([this.#statusEvent()]);
  }

  setToken(token: string | undefined): string {
    this.calls.push(`setToken ${token}`);
    this.token = token ?? this.token;
    return "[]";
  }

  mutate(changesJson: string, insteadOf?: string): string {
    const changes = JSON.parse(changesJson) as RawChange[];
    if (insteadOf !== undefined) return this.#replace(insteadOf, changes);
    for (const { kind, entity, row_id } of changes) {
      if (kind !== "insert" && !this.#view.has(`${entity}/${row_id}`)) {
        throw Object.assign(new Error(`${entity}/${row_id} does not exist here`), { code: "ROW_NOT_FOUND" });
      }
    }
    return this.#enqueue(changes);
  }

  remove(opId: string): string {
    if (this.#take(opId) === undefined) throw Object.assign(new Error("unknown"), { code: "NOT_FOUND" });
    return this.#json([{ type: "mutation_removed", op_id: opId }, ...this.#changed()]);
  }

  adopt(): string {
    return "[]";
  }

  rowJson(entity: string, id: string): string | undefined {
    const row = this.#view.get(`${entity}/${id}`);
    return row === undefined ? undefined : JSON.stringify(row);
  }

  rowVersion(entity: string, id: string): number {
    if (!this.#view.has(`${entity}/${id}`)) return 0;
    return this.#log.filter((logged) => logged.entity === entity && logged.id === id).at(-1)?.version ?? 0;
  }

  deltaJson(entity: string, since: number): string {
    this.deltas += 1;
    const all = [...this.#view].filter(([key]) => key.startsWith(`${entity}/`)).map(([, row]) => row);
    const touched = new Set(
      this.#log.filter((logged) => logged.entity === entity && logged.version > since).map(({ id }) => id),
    );
    const rows = (since === 0 ? all : all.filter((row) => touched.has(row.id))).sort((a, b) =>
      a.id < b.id ? -1 : 1,
    );
    const removed = [...touched].filter((id) => since > 0 && !this.#view.has(`${entity}/${id}`));
    return JSON.stringify({ at: this.#version, full: since === 0, rows, removed });
  }

  mutationsJson(): string {
    const list: RawMutation[] = this.#queue.map(({ opId, status, changes, error, waitingOn }) => ({
      op_id: opId,
      status,
      changes,
      error,
      waiting_on: waitingOn,
      issued_at: 1,
    }));
    return JSON.stringify(list);
  }

  statusJson(): string {
    return JSON.stringify(this.#status());
  }

  command(name: Command): string {
    this.calls.push(name);
    switch (name) {
      case "pause":
        return this.#json([this.#connect("paused")]);
      case "resume":
        return this.#json([this.#connect("connecting")]);
      case "resync":
        this.#synced = false;
        return this.#json([this.#statusEvent()]);
      default:
        return "[]";
    }
  }

  stop(): Promise<void> {
    this.calls.push("stop");
    if (this.#world.isBroken) throw Object.assign(new Error("broke down"), { code: "INTERNAL" });
    this.#connection = { state: "stopped" };
    if (!this.#isOpen) {
      for (const opId of [...this.#unstored])
        this.lose(opId, { code: "NOT_STARTED", message: "the engine was stopped" });
    }
    if (this.#unstored.size > 0) {
      return new Promise((resolve) => {
        this.#onStored = () => {
          this.#keepQueue();
          resolve();
        };
      });
    }
    if (this.#isOpen) this.#keepQueue();
    return Promise.resolve();
  }

  free(): void {
    this.isFreed = true;
  }

  // What the test does from outside.

  open(): void {
    const identity = this.#identity;
    if (identity === null || this.#connection.state === "stopped") return;
    this.#isOpen = true;
    this.#base = new Map(this.#world.disks.get(identity.user_id ?? ""));
    this.#queue = [...(this.#world.queues.get(identity.user_id ?? "") ?? []), ...this.#queue];
    this.#send([...this.#changed(), { type: "opened", identity }, this.#statusEvent()]);
  }

  resolve(identity: RawIdentity): void {
    this.#identity = identity;
    this.open();
  }

  unavailable(): void {
    this.#send([this.#connect("waiting")]);
  }

  live(): void {
    this.#synced = true;
    this.#send([{ type: "synced", seq: 1 }, this.#connect("live")]);
  }

  durable(opId: string): void {
    this.#send([{ type: "mutation_durable", op_id: opId }]);
    this.#stored(opId);
  }

  sent(opId: string): void {
    this.#find(opId).status = "sent";
    this.#send([{ type: "mutation_sent", op_id: opId }]);
  }

  /** The server applied it; the stream brings the rows, with what the server added. */
  confirm(opId: string, added: Fields = {}): void {
    const { changes } = this.#find(opId);
    for (const change of changes) apply(this.#base, change, added);
    this.#take(opId);
    this.#send([{ type: "mutation_confirmed", op_id: opId, seq: 7 }, ...this.#changed()]);
    this.#stored(opId);
  }

  /** The server applied it; its rows are still on the way. */
  applied(opId: string): void {
    this.#find(opId).status = "applied";
    this.#send([{ type: "mutation_confirmed", op_id: opId, seq: 7 }]);
    this.#stored(opId);
  }

  /** The frame with the rows of an applied one: exactly what was guessed. */
  arrive(opId: string): void {
    for (const change of this.#find(opId).changes) apply(this.#base, change, {});
    this.#take(opId);
    this.#send([...this.#changed(), this.#statusEvent()]);
  }

  fail(opId: string, error: RawError): void {
    Object.assign(this.#find(opId), { status: "failed", error });
    this.#send([{ type: "mutation_failed", op_id: opId, error }, ...this.#changed()]);
  }

  /** The server did not look at it, because another one failed. */
  hold(opId: string, on: string): void {
    Object.assign(this.#find(opId), { status: "pending", waitingOn: [on] });
    this.#send([{ type: "mutation_held", op_id: opId, on }]);
  }

  /** The core makes it anew, because of a call about another one. */
  reissue(opId: string): string {
    const { op_id: by, events } = JSON.parse(this.#enqueue(this.#find(opId).changes, opId)) as RawAccepted;
    this.#take(opId);
    this.#send([...events, ...this.#changed()]);
    return by;
  }

  /** Another tab writes. */
  queueElsewhere(changes: readonly RawChange[]): string {
    const { op_id: opId } = JSON.parse(this.#enqueue(changes)) as RawAccepted;
    this.#send([{ type: "mutation_queued", op_id: opId }, ...this.#changed()]);
    return opId;
  }

  /** The core takes a write into the one before it. */
  fold(into: string, opId: string, changes: readonly RawChange[]): void {
    this.#take(opId);
    this.#find(into).changes = changes;
    this.#send([{ type: "mutation_replaced", op_id: opId, by: into }]);
    this.#stored(opId);
  }

  lose(opId: string, error: RawError): void {
    this.#take(opId);
    this.#send([{ type: "mutation_lost", op_id: opId, error }, ...this.#changed()]);
    this.#stored(opId);
  }

  /** Somebody else's rows arrive. */
  receive(entity: string, ...rows: RawRow[]): void {
    for (const row of rows) this.#base.set(`${entity}/${row.id}`, row);
    this.#send(this.#changed());
  }

  /** WebAssembly trapped: what is in the queue and not waiting for the disk is on it. */
  breakDown(): void {
    this.#keepQueue();
    this.#send([{ type: "broke_down", message: "unreachable" }]);
  }

  get lastOpId(): string | undefined {
    return this.#queue.at(-1)?.opId;
  }

  emit(...events: RawEvent[]): void {
    this.#send(events);
  }

  #enqueue(changes: readonly RawChange[], replaced?: string): string {
    this.#world.ops += 1;
    const opId = String(this.#world.ops).padStart(32, "0");
    this.#unstored.add(opId);
    this.#queue.push({ opId, status: "pending", changes, error: null, waitingOn: [] });
    if (replaced !== undefined) this.#unstored.delete(replaced);
    const before: RawEvent[] =
      replaced === undefined ? [] : [{ type: "mutation_replaced", op_id: replaced, by: opId }];
    const events = [...before, ...this.#changed()];
    return JSON.stringify({ op_id: opId, row_ids: changes.map(({ row_id }) => row_id), events });
  }

  #replace(opId: string, changes: readonly RawChange[]): string {
    const old = this.#take(opId);
    if (old === undefined) throw Object.assign(new Error("unknown"), { code: "NOT_FOUND" });
    if (changes.length > 0) return this.#enqueue(changes, opId);
    if (old.status !== "failed") throw Object.assign(new Error("not failed"), { code: "NOT_SUPPORTED" });
    return this.#enqueue(old.changes, opId);
  }

  #keepQueue(): void {
    const stored = this.#queue.filter(({ opId }) => !this.#unstored.has(opId));
    this.#world.queues.set(this.#identity?.user_id ?? "", stored);
  }

  #stored(opId: string): void {
    this.#unstored.delete(opId);
    if (this.#unstored.size === 0) this.#onStored?.();
  }

  /** Recomputes the view and gives the event that says what is another now. */
  #changed(): RawEvent[] {
    const view = new Map(this.#base);
    for (const queued of this.#queue) {
      if (queued.status !== "failed") for (const change of queued.changes) apply(view, change, {});
    }
    const entities = new Set<string>();
    this.#version += 1;
    for (const key of new Set([...this.#view.keys(), ...view.keys()])) {
      if (JSON.stringify(this.#view.get(key)) === JSON.stringify(view.get(key))) continue;
      const [entity = "", id = ""] = key.split("/");
      entities.add(entity);
      this.#log.push({ entity, id, version: this.#version });
    }
    this.#view = view;
    return entities.size === 0 ? [] : [{ type: "changed", entities: [...entities].sort() }];
  }

  #connect(state: string): RawEvent {
    this.#connection = state === "waiting" ? { state, retry_at: 5 } : { state };
    return this.#statusEvent();
  }

  #statusEvent(): RawEvent {
    return { type: "status_changed", status: this.#status() };
  }

  #status(): RawStatus {
    return {
      leads: true,
      connection: this.#connection,
      identity: this.#identity,
      synced: this.#synced,
      syncing: false,
      last_heard_at: null,
      pending: this.#queue.filter(({ status }) => status !== "failed").length,
      failed: this.#queue.filter(({ status }) => status === "failed").length,
      storage: { kind: "memory", reason: "a test" },
      seq: 0,
      server_head: null,
      last_error: null,
    };
  }

  #find(opId: string): Queued {
    const queued = this.#queue.find((entry) => entry.opId === opId);
    if (queued === undefined) throw new Error(`${opId} is not queued`);
    return queued;
  }

  #take(opId: string): Queued | undefined {
    const index = this.#queue.findIndex((entry) => entry.opId === opId);
    return index < 0 ? undefined : this.#queue.splice(index, 1)[0];
  }

  #send(events: readonly RawEvent[]): void {
    this.#onEvents(this.#json(events));
  }

  #json(events: readonly RawEvent[]): string {
    return JSON.stringify(events);
  }
}

function apply(rows: Map<string, RawRow>, change: RawChange, added: Fields): void {
  const key = `${change.entity}/${change.row_id}`;
  if (change.kind === "delete") rows.delete(key);
  else rows.set(key, { ...rows.get(key), ...change.data, ...added, id: change.row_id });
}
