// The life of each message written here: when it was in the page, on disk, sent, confirmed, and on another device. It is
// noted from what the engine says (the promises of a write and the queue's listener) and kept apart from the replica, so
// that it can bear witness about it: what stands here and nowhere else has been lost.

import { type MutationQueue, mutationQueueListener, type Unsubscribe, type Write } from "syncline";
import { oncePerTurn } from "./once_per_turn.ts";

/** Times are in milliseconds since 1970, with fractions; `null` where it has not come to that yet. */
export interface Life {
  readonly id: string;
  readonly opId: string;
  readonly author: string;
  /** What makes two rows the same message, whatever their ids. */
  readonly print: string;
  readonly writtenAt: number;
  readonly diskAt: number | null;
  readonly sentAt: number | null;
  /** How often it was sent: more than once when an answer was lost. */
  readonly sends: number;
  readonly confirmedAt: number | null;
  /** Its place in the server's log; `null` also where the answer came after a reload. */
  readonly seq: number | null;
  /** When another device of this page showed it. */
  readonly arrivedAt: number | null;
  readonly end: "refused" | "discarded" | null;
}

/** The lives of the messages that one page wrote, over reloads. */
export class Lives {
  readonly #storageKey: string;
  readonly #byId = new Map<string, Life>();
  readonly #idByOp = new Map<string, string>();
  readonly #listeners = new Set<() => void>();
  /** Once for all that changed together. */
  readonly #tell = oncePerTurn(() => {
    writeLives(this.#storageKey, this.all().slice(-LIVES_MAX));
    for (const listener of this.#listeners) listener();
  });

  constructor(storageKey: string) {
    this.#storageKey = storageKey;
    for (const life of readLives(storageKey)) this.#keep(life);
  }

  get(id: string): Life | undefined {
    return this.#byId.get(id);
  }

  all(): readonly Life[] {
    return [...this.#byId.values()];
  }

  subscribe(listener: () => void): Unsubscribe {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Follows a write from now on. A retry is a new life of the same row. */
  follow(author: string, print: string, write: Write<unknown>): void {
    const { id, opId } = write;
    const unset = {
      diskAt: null,
      sentAt: null,
      sends: 0,
      confirmedAt: null,
      seq: null,
      arrivedAt: null,
      end: null,
    };
    this.#keep({ id, opId, author, print, writtenAt: now(), ...unset });
    this.#tell();
    write.then(
      () => this.#change(opId, (life) => ({ diskAt: life.diskAt ?? now() })),
      // Rolled back and never sent: the life ends here, and the page says so where it was written.
      () => undefined,
    );
    write.confirmed.then(
      // The transaction that holds it in the end may be another one than at first.
      (by) => this.#change(by.opId, (life) => ({ seq: by.seq, confirmedAt: life.confirmedAt ?? now() })),
      // The queue's listener tells why.
      () => undefined,
    );
  }

  /** Hears what happens to the writes of one queue, those of before a reload included. */
  attend(queue: MutationQueue): Unsubscribe {
    return mutationQueueListener(queue, (transition) => {
      const { status, mutation } = transition;
      const { opId } = mutation;
      if (status === "sent")
        this.#change(opId, ({ sends, sentAt }) => ({ sends: sends + 1, sentAt: sentAt ?? now() }));
      if (status === "applied") this.#change(opId, (life) => ({ confirmedAt: life.confirmedAt ?? now() }));
      if (status === "failed") this.#change(opId, () => ({ end: "refused" }));
      if (transition.status !== "removed") return;
      if (transition.replacedBy === null) this.#change(opId, () => ({ end: "discarded" }));
      else this.#goOn(opId, transition.replacedBy);
    });
  }

  /** Another device shows the row. */
  arrived(id: string): void {
    const life = this.#byId.get(id);
    if (life !== undefined) this.#change(life.opId, ({ arrivedAt }) => ({ arrivedAt: arrivedAt ?? now() }));
  }

  /** Forgets those that have come to an end, to count anew. */
  forget(ids: Iterable<string>): void {
    for (const id of ids) {
      const life = this.#byId.get(id);
      if (life === undefined) continue;
      this.#byId.delete(id);
      this.#idByOp.delete(life.opId);
    }
    this.#tell();
  }

  /** What waited for a refused write goes on as another transaction; its life is the same. */
  #goOn(opId: string, by: string): void {
    const life = this.#byId.get(this.#idByOp.get(opId) ?? "");
    if (life !== undefined) this.#keep({ ...life, opId: by });
    this.#tell();
  }

  #keep(life: Life): void {
    const before = this.#byId.get(life.id);
    if (before !== undefined) this.#idByOp.delete(before.opId);
    this.#byId.set(life.id, life);
    this.#idByOp.set(life.opId, life.id);
  }

  #change(opId: string, patch: (life: Life) => Partial<Life>): void {
    const life = this.#byId.get(this.#idByOp.get(opId) ?? "");
    if (life === undefined) return;
    this.#byId.set(life.id, { ...life, ...patch(life) });
    this.#tell();
  }
}

/** What makes two rows the same message: no author writes the same text twice in one millisecond. */
export function printOf(author: string, sentAt: string, body: string): string {
  return `${sentAt} ${author} ${body.length > PRINT_CHARS_MAX ? `${body.length}:${body.slice(0, PRINT_CHARS_MAX)}` : body}`;
}

/** The clock of all times that the ledger compares. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}

function readLives(key: string): readonly Life[] {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(key) ?? "[]");
    return Array.isArray(stored) ? stored : [];
  } catch {
    return [];
  }
}

function writeLives(key: string, lives: readonly Life[]): void {
  try {
    localStorage.setItem(key, JSON.stringify(lives));
  } catch {
    // Without storage lives are known as long as the window is open.
  }
}

/** More would make each change slow: they are stored together. */
const LIVES_MAX = 2_000;
const PRINT_CHARS_MAX = 80;
