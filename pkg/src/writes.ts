// The promises of writes that are not settled yet.

import { type Deferred, defer, quiet } from "./deferred.ts";
import { SynclineError } from "./errors.ts";
import type { Confirmation, Write } from "./types.ts";

interface OpenWrite {
  isDurable: boolean;
  readonly durable: Deferred<void>;
  readonly confirmed: Deferred<Confirmation>;
}

/** Why nobody waits for the answer any more. */
type AbandonCode = "NOT_STARTED" | "IDENTITY_CHANGED";

/** Writes by op_id, from the call until the server's answer. */
export class Writes {
  readonly #open: Map<string, OpenWrite> = new Map();

  /** Makes the write that the application gets; awaiting it gives `value`. */
  open<T>(opId: string, id: string, value: T): Write<T> {
    const durable = defer<void>();
    const confirmed = defer<Confirmation>();
    this.#open.set(opId, { isDurable: false, durable, confirmed });
    return asWrite(
      durable.promise.then(() => value),
      id,
      opId,
      quiet(confirmed.promise),
    );
  }

  durable(opId: string): void {
    const write = this.#open.get(opId);
    if (write === undefined) return;
    write.isDurable = true;
    write.durable.resolve();
  }

  /** The server applied it; it is on its disk, so nothing is left to wait for. */
  confirmed(opId: string, seq: number): void {
    const write = this.#close(opId);
    write?.durable.resolve();
    write?.confirmed.resolve({ opId, seq });
  }

  /** The server refused it, or the application discarded it. It may well be on disk. */
  failed(opId: string, error: SynclineError): void {
    const write = this.#close(opId);
    write?.durable.resolve();
    write?.confirmed.reject(error);
  }

  /** It was rolled back and will never be sent. */
  lost(opId: string, error: SynclineError): void {
    const write = this.#close(opId);
    write?.durable.reject(error);
    write?.confirmed.reject(error);
  }

  /** Takes over the writes of another replica of the same database. */
  adopt(other: Writes): void {
    for (const [opId, write] of other.#open) this.#open.set(opId, write);
    other.#open.clear();
  }

  /** Nobody will tell any more what becomes of these writes: the replica they belong to was closed. */
  abandon(code: AbandonCode, why: string): void {
    for (const opId of [...this.#open.keys()]) this.#abandonOne(opId, code, why);
  }

  /** The same for those alone that never reached the disk. */
  abandonUnstored(code: AbandonCode, why: string): void {
    for (const [opId, { isDurable }] of [...this.#open]) {
      if (!isDurable) this.#abandonOne(opId, code, why);
    }
  }

  #abandonOne(opId: string, code: AbandonCode, why: string): void {
    const write = this.#close(opId);
    // Without effect on those that are on disk, which is nearly all.
    write?.durable.reject(new SynclineError(code, `${why} before the write was known to be on disk`));
    write?.confirmed.reject(
      new SynclineError(code, `${why} before the server answered; the write stays in its user's queue`),
    );
  }

  #close(opId: string): OpenWrite | undefined {
    const write = this.#open.get(opId);
    this.#open.delete(opId);
    return write;
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
