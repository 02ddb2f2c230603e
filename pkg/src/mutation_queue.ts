// The queue as the application sees it: what waits, what failed, and each step of each transaction.

import { errorCode, SynclineError } from "./errors.ts";
import { Listeners } from "./listeners.ts";
import type { RawEngine, RawError, RawEvent, RawMutation, RawRow } from "./raw.ts";
import type {
  Change,
  Mutation,
  MutationQueue,
  MutationStatus,
  MutationTransition,
  Rollback,
  Unsubscribe,
  Write,
} from "./types.ts";

type RawStep = Extract<RawEvent, { readonly op_id: string }>;

/** What the queue asks the engine to do. */
export interface QueueCommands {
  retry(opId: string): Write;
  edit(opId: string, changes: readonly Change[]): Write;
  remove(opId: string): void;
  settled(): Promise<void>;
  /** What is shown of a row now. */
  row(entity: string, id: string): RawRow | undefined;
}

/** The queue of one replica. Its truth is in WebAssembly; this holds objects made from it. */
export class Queue implements MutationQueue {
  #raw: RawEngine | undefined;
  #list: readonly Mutation[] = NO_MUTATIONS;
  /** What the list was made from. */
  #json = NO_MUTATIONS_JSON;
  /** Whether something may have changed since. */
  #isStale = false;
  /** Each transaction as last seen, because a confirmed one leaves the list before its listeners run. */
  readonly #seen: Map<string, Mutation> = new Map();
  /** The transaction that a call added last. */
  #added = "";
  readonly #listeners: Listeners<MutationTransition>;
  readonly #rollbackListeners: Listeners<Rollback>;
  readonly #commands: QueueCommands;

  constructor(commands: QueueCommands, onThrow: (thrown: unknown) => void) {
    this.#commands = commands;
    this.#listeners = new Listeners(onThrow);
    this.#rollbackListeners = new Listeners(onThrow);
  }

  list(): readonly Mutation[] {
    if (!this.#isStale) return this.#list;
    this.#isStale = false;
    const json = this.#raw?.mutationsJson() ?? NO_MUTATIONS_JSON;
    // Most news is about other things: who holds the list keeps it.
    if (json !== this.#json) this.#list = readList(json);
    this.#json = json;
    return this.#list;
  }

  get hasPending(): boolean {
    return this.list().some(({ status }) => status === "pending" || status === "sent");
  }

  settled(): Promise<void> {
    return this.#commands.settled();
  }

  retry(opId: string): Write {
    return this.#commands.retry(opId);
  }

  edit(
    opId: string,
    changes: readonly Change[] | ((changes: readonly Change[]) => readonly Change[]),
  ): Write {
    return this.#commands.edit(opId, typeof changes === "function" ? changes(this.changes(opId)) : changes);
  }

  remove(opId: string): void {
    this.#commands.remove(opId);
  }

  subscribe(listener: (transition: MutationTransition) => void): Unsubscribe {
    return this.#listeners.add(listener);
  }

  onRollback(listener: (rollback: Rollback) => void): Unsubscribe {
    return this.#rollbackListeners.add(listener);
  }

  /** Shows the queue of another replica, or of none. */
  attach(raw: RawEngine | undefined): void {
    this.#raw = raw;
    this.#seen.clear();
    this.invalidate();
  }

  /** The replica was read from disk: its queue is known from here on. */
  opened(): void {
    this.invalidate();
    for (const mutation of this.list()) this.#seen.set(mutation.opId, mutation);
  }

  /** Takes note that the queue may have changed: an applied transaction leaves it without an event of its own. */
  invalidate(): void {
    this.#isStale = true;
  }

  /** A transaction was queued by a call; gives what the listeners will hear. */
  added(opId: string, changes: readonly Change[]): readonly MutationTransition[] {
    this.#added = opId;
    return this.#add(opId, changes);
  }

  /** A transaction took the step that an event tells of; gives what the listeners will hear. */
  took(event: RawStep): readonly MutationTransition[] {
    switch (event.type) {
      case "mutation_queued":
        // One that replaced another was told of with that.
        return this.#seen.has(event.op_id) ? [] : this.#moved(event.op_id, "pending", null);
      case "mutation_replaced":
        return this.#replaced(event.op_id, event.by);
      case "mutation_held":
        return this.#moved(event.op_id, "pending", null, [event.on]);
      default: {
        const status = STEPS[event.type];
        if (status === undefined) return [];
        return this.#moved(event.op_id, status, "error" in event ? fromRawError(event.error) : null);
      }
    }
  }

  /** The changes of a transaction in the queue. */
  changes(opId: string): readonly Change[] {
    return (this.#seen.get(opId) ?? this.#find(opId))?.changes ?? [];
  }

  /** One that another tab wrote; the list is made anew only if it does not hold it yet. */
  #find(opId: string): Mutation | undefined {
    const isIt = (other: Mutation) => other.opId === opId;
    const known = this.#list.find(isIt);
    if (known !== undefined) return known;
    this.invalidate();
    return this.list().find(isIt);
  }

  /** Tells the listeners, once the rows are what they are after the step. */
  notify(transition: MutationTransition): void {
    this.#listeners.emit(transition);
    const { status, error, mutation } = transition;
    if (status !== "failed" || this.#rollbackListeners.isEmpty) return;
    const rows = mutation.changes.map(({ entity, rowId: id }) =>
      Object.freeze({ entity, id, row: this.#commands.row(entity, id) }),
    );
    this.#rollbackListeners.emit(Object.freeze({ mutation, error, rows: Object.freeze(rows) }));
  }

  #add(opId: string, changes: readonly Change[]): readonly MutationTransition[] {
    const issuedAt = Date.now();
    this.#seen.set(
      opId,
      Object.freeze({ opId, status: "pending", changes, error: null, waitingOn: [], issuedAt }),
    );
    return this.#moved(opId, "pending", null);
  }

  #moved(
    opId: string,
    status: MutationTransition["status"],
    error: SynclineError | null,
    waitingOn: readonly string[] = [],
    replacedBy: string | null = null,
  ): readonly MutationTransition[] {
    this.invalidate();
    const isHeard = !this.#listeners.isEmpty || !this.#rollbackListeners.isEmpty;
    const before = this.#seen.get(opId) ?? (isHeard ? this.#find(opId) : undefined);
    const change = before?.changes[0];
    if (before === undefined || change === undefined) return [];
    const mutation = Object.freeze({
      ...before,
      status: status === "removed" ? before.status : status,
      error,
      waitingOn: Object.freeze(waitingOn),
    });
    if (status === "applied" || status === "removed") this.#seen.delete(opId);
    else this.#seen.set(opId, mutation);
    if (!isHeard) return [];
    const more = status === "removed" ? { replacedBy } : {};
    return [Object.freeze({ status, change, error, mutation, ...more } as MutationTransition)];
  }

  /** Another transaction stands for this one: one that was made of it, or an earlier one that took its change in. */
  #replaced(opId: string, by: string): readonly MutationTransition[] {
    const changes = this.changes(opId);
    const survivor = this.#seen.get(by);
    const [first, last] = [survivor?.changes[0], changes[0]];
    if (survivor === undefined) {
      const steps = this.#add(by, changes);
      return [...steps, ...this.#moved(opId, "removed", null, [], by)];
    }
    if (by !== this.#added && first !== undefined && last !== undefined) {
      this.#seen.set(by, Object.freeze({ ...survivor, changes: Object.freeze([folded(first, last)]) }));
    }
    return this.#moved(opId, "removed", null, [], by);
  }
}

/** What two changes of one row do together. */
function folded(first: Change, last: Change): Change {
  const { entity, rowId } = first;
  if (last.kind === "delete") return Object.freeze({ entity, rowId, kind: last.kind });
  return Object.freeze({ ...first, data: Object.freeze({ ...first.data, ...last.data }) });
}

/** Calls `listener` once for each step of each transaction of the queue. */
export function mutationQueueListener(
  queue: MutationQueue,
  listener: (transition: MutationTransition) => void,
): Unsubscribe {
  return queue.subscribe(listener);
}

/** The error class for an error that crossed as JSON. */
export function fromRawError(error: RawError): SynclineError {
  return new SynclineError(errorCode(error.code), error.message, { hint: error.hint });
}

function readList(json: string): readonly Mutation[] {
  return Object.freeze((JSON.parse(json) as RawMutation[]).map(toMutation));
}

function toMutation(raw: RawMutation): Mutation {
  const status: MutationStatus = raw.status;
  return Object.freeze({
    opId: raw.op_id,
    status,
    changes: Object.freeze(raw.changes.map(toChange)),
    error: raw.error === null ? null : fromRawError(raw.error),
    waitingOn: Object.freeze([...raw.waiting_on]),
    issuedAt: raw.issued_at,
  });
}

function toChange(raw: RawMutation["changes"][number]): Change {
  const { entity, row_id: rowId, kind, data } = raw;
  return Object.freeze({ entity, rowId, kind, ...(data === undefined ? {} : { data: Object.freeze(data) }) });
}

/** That it is on disk is no step: `status` tells what the server knows. */
const STEPS: Readonly<{ [type in RawStep["type"]]?: MutationTransition["status"] }> = {
  mutation_sent: "sent",
  mutation_confirmed: "applied",
  mutation_failed: "failed",
  mutation_lost: "failed",
  mutation_removed: "removed",
};

const NO_MUTATIONS: readonly Mutation[] = Object.freeze([]);
const NO_MUTATIONS_JSON = "[]";
