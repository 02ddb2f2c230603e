// The queue as the application sees it: what waits, what failed, and each step of each transaction.

import { errorCode, SynclineError } from "./errors.ts";
import { Listeners } from "./listeners.ts";
import type { RawEngine, RawError, RawEvent, RawMutation } from "./raw.ts";
import type {
  Change,
  Mutation,
  MutationQueue,
  MutationStatus,
  MutationTransition,
  Unsubscribe,
  Write,
} from "./types.ts";

type RawStep = Extract<RawEvent, { readonly op_id: string }>;

/** What the queue asks the engine to do. */
export interface QueueCommands {
  retry(opId: string): Write;
  remove(opId: string): void;
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
  readonly #listeners: Listeners<MutationTransition>;
  readonly #commands: QueueCommands;

  constructor(commands: QueueCommands, onThrow: (thrown: unknown) => void) {
    this.#commands = commands;
    this.#listeners = new Listeners(onThrow);
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

  retry(opId: string): Write {
    return this.#commands.retry(opId);
  }

  remove(opId: string): void {
    this.#commands.remove(opId);
  }

  subscribe(listener: (transition: MutationTransition) => void): Unsubscribe {
    return this.#listeners.add(listener);
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

  /** A transaction was queued. */
  added(opId: string, changes: readonly Change[]): MutationTransition | undefined {
    const issuedAt = Date.now();
    this.#seen.set(
      opId,
      Object.freeze({ opId, status: "pending", changes, error: null, waitingOn: [], issuedAt }),
    );
    return this.moved(opId, "pending", null);
  }

  /** A transaction took a step; gives what the listeners will hear. */
  moved(
    opId: string,
    status: MutationTransition["status"],
    error: SynclineError | null,
  ): MutationTransition | undefined {
    this.invalidate();
    const before = this.#seen.get(opId);
    const change = before?.changes[0];
    if (before === undefined || change === undefined) return undefined;
    const mutation = Object.freeze({
      ...before,
      status: status === "removed" ? before.status : status,
      error,
    });
    if (status === "applied" || status === "removed") this.#seen.delete(opId);
    else this.#seen.set(opId, mutation);
    if (this.#listeners.isEmpty) return undefined;
    return Object.freeze({ status, change, error, mutation } as MutationTransition);
  }

  /** A transaction took the step that an event tells of; gives what the listeners will hear. */
  took(event: RawStep): MutationTransition | undefined {
    const status = STEPS[event.type];
    return status && this.moved(event.op_id, status, "error" in event ? fromRawError(event.error) : null);
  }

  /** The changes of a transaction in the queue. */
  changes(opId: string): readonly Change[] {
    return this.#seen.get(opId)?.changes ?? [];
  }

  notify(transition: MutationTransition): void {
    this.#listeners.emit(transition);
  }
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
const STEPS: Readonly<Record<RawStep["type"], MutationTransition["status"] | undefined>> = {
  mutation_durable: undefined,
  mutation_sent: "sent",
  mutation_confirmed: "applied",
  mutation_failed: "failed",
  mutation_lost: "failed",
  mutation_removed: "removed",
};

const NO_MUTATIONS: readonly Mutation[] = Object.freeze([]);
const NO_MUTATIONS_JSON = "[]";
