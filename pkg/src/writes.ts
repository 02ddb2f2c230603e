// The promises of writes that are not settled yet.

import { type Deferred, defer, quiet } from "./deferred.ts";
import { SynclineError } from "./errors.ts";
import { fromRawError } from "./mutation_queue.ts";
import type { RawEvent, RawMutation } from "./raw.ts";
import type { Confirmation, Write } from "./types.ts";

interface OpenWrite {
  isDurable: boolean;
  readonly durable: Deferred<void>;
  readonly confirmed: Deferred<Confirmation>;
}

/** Why nobody waits for the answer any more. */
type AbandonCode = "NOT_STARTED" | "IDENTITY_CHANGED" | "INTERNAL";

/** Writes by op_id, from the call until the server's answer. Several may stand and fall with one transaction. */
export class Writes {
  readonly #open: Map<string, OpenWrite[]> = new Map();

  /** Makes the write that the application gets; awaiting it gives `value`. */
  open<T>(opId: string, id: string, value: T): Write<T> {
    const durable = defer<void>();
    const confirmed = defer<Confirmation>();
    this.#open.set(opId, [{ isDurable: false, durable, confirmed }]);
    return asWrite(
      durable.promise.then(() => value),
      id,
      opId,
      quiet(confirmed.promise),
    );
  }

  /** An event told what became of a write. */
  settle(event: RawEvent): void {
    switch (event.type) {
      case "mutation_durable": {
        for (const write of this.#open.get(event.op_id) ?? []) {
          write.isDurable = true;
          write.durable.resolve();
        }
        break;
      }
      // What becomes of the other one becomes of this one.
      case "mutation_replaced": {
        const writes = this.#open.get(event.op_id) ?? [];
        this.#open.delete(event.op_id);
        this.#open.set(event.by, [...(this.#open.get(event.by) ?? []), ...writes]);
        break;
      }
      // The server applied it; it is on its disk, so nothing is left to wait for.
      case "mutation_confirmed":
        this.#close(event.op_id, undefined, { opId: event.op_id, seq: event.seq });
        break;
      // The server refused it. It may well be on disk.
      case "mutation_failed":
        this.#close(event.op_id, undefined, fromRawError(event.error));
        break;
      case "mutation_removed":
        this.#close(
          event.op_id,
          undefined,
          new SynclineError("DISCARDED", "the application discarded the write"),
        );
        break;
      // It was rolled back and will never be sent.
      case "mutation_lost": {
        const error = fromRawError(event.error);
        this.#close(event.op_id, error, error);
        break;
      }
      default:
        break;
    }
  }

  /** Takes over the writes of another replica of the same database, whose queue was read again since. */
  adopt(other: Writes, queue: readonly RawMutation[]): void {
    const stored = new Map(queue.map((mutation) => [mutation.op_id, mutation]));
    for (const [opId, writes] of other.#open) {
      this.#open.set(opId, writes);
      const mutation = stored.get(opId);
      if (mutation === undefined) {
        this.#close(
          opId,
          new SynclineError("INTERNAL", "the engine broke down before the write was on disk"),
          new SynclineError("OUTCOME_UNKNOWN", "the write left the queue while the engine was opened again"),
        );
      } else {
        this.settle({ type: "mutation_durable", op_id: opId });
        const { error } = mutation;
        if (error !== null) this.settle({ type: "mutation_failed", op_id: opId, error });
      }
    }
    other.#open.clear();
  }

  /** Goes on with a write that another identity's replica was to send; resolves when it is on disk here. */
  carry(opId: string, other: Writes | undefined): Promise<void> {
    const [durable, confirmed] = [defer<void>(), defer<Confirmation>()];
    void quiet(confirmed.promise);
    const writes = [...(this.#open.get(opId) ?? []), { isDurable: false, durable, confirmed }];
    if (other !== undefined) {
      writes.push(...(other.#open.get(opId) ?? []));
      other.#open.delete(opId);
    }
    this.#open.set(opId, writes);
    return durable.promise;
  }

  /** Nobody will tell any more what becomes of these writes: the replica they belong to was closed. */
  abandon(code: AbandonCode, why: string): void {
    for (const opId of [...this.#open.keys()]) this.#abandonOne(opId, code, why);
  }

  /** The same for those alone that never reached the disk. */
  abandonUnstored(code: AbandonCode, why: string): void {
    for (const [opId, writes] of [...this.#open]) {
      if (writes.some(({ isDurable }) => !isDurable)) this.#abandonOne(opId, code, why);
    }
  }

  #abandonOne(opId: string, code: AbandonCode, why: string): void {
    this.#close(
      opId,
      // Without effect on those that are on disk, which is nearly all.
      new SynclineError(code, `${why} before the write was known to be on disk`),
      new SynclineError(code, `${why} before the server answered; the write stays in its user's queue`),
    );
  }

  /** Nothing more is heard of a write: it was lost or not, and this is the server's answer or why there is none. */
  #close(opId: string, lost: SynclineError | undefined, outcome: Confirmation | SynclineError): void {
    const writes = this.#open.get(opId) ?? [];
    this.#open.delete(opId);
    for (const { durable, confirmed } of writes) {
      if (lost === undefined) durable.resolve();
      else durable.reject(lost);
      if (outcome instanceof SynclineError) confirmed.reject(outcome);
      else confirmed.resolve(outcome);
    }
  }
}

/** A transaction that wrote nothing: there is nothing to store or send. */
export function emptyWrite<T>(value: T): Write<T> {
  return asWrite(Promise.resolve(value), "", "", Promise.resolve({ opId: "", seq: 0 }));
}

function asWrite<T>(
  promise: Promise<T>,
  id: string,
  opId: string,
  confirmed: Promise<Confirmation>,
): Write<T> {
  return Object.assign(promise, { id, opId, confirmed });
}
