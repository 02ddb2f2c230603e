// One raw engine and what belongs to it alone: its token, its identity and the writes made while it ran.

import type { RawEngine, RawMutation } from "./raw.ts";
import { sameIdentity } from "./status.ts";
import { guard } from "./thrown.ts";
import type { Identity } from "./types.ts";
import { Writes } from "./writes.ts";

/** A replica of one session. Writes are kept with it: another session's must neither settle nor reject them. */
export class Replica {
  readonly raw: RawEngine;
  readonly writes: Writes = new Writes();
  /** The question it answers: a token that is asked for now is this session's and no other's. */
  readonly question: AbortSignal;
  token: string | undefined;
  /** Whether somebody waits for its database to work again. */
  isHealing = false;
  /** Whether another token is being looked for, so that a need is answered once. */
  isRenewing = false;
  /** Counts the searches for another token; a later one takes the place of those that wait. */
  renewals = 0;
  #identity: Identity | null = null;
  #nextAskAt = 0;
  #pauseMs = 0;

  constructor(raw: RawEngine, token: string | undefined, question: AbortSignal) {
    this.raw = raw;
    this.question = question;
    this.token = token;
  }

  /** Whether its database was read. */
  get isOpen(): boolean {
    return this.#identity !== null;
  }

  /** Whose database was read. */
  get identity(): Identity | null {
    return this.#identity;
  }

  /** Its queue as it stands. */
  queue(): readonly RawMutation[] {
    return JSON.parse(this.raw.mutationsJson()) as RawMutation[];
  }

  /** Its database was read. */
  opened(identity: Identity): void {
    this.#identity = identity;
  }

  /** Another one ran before: its writes go on here when they are of the same identity. */
  succeed(former: Replica): void {
    if (sameIdentity(this.#identity, former.#identity)) this.writes.adopt(former.writes, this.queue());
    else former.writes.abandon("IDENTITY_CHANGED", "the session became another one");
  }

  /** How long to wait before the application is asked for another token: longer each time, unless it was let alone. */
  pauseBeforeAsking(stepMs: number): number {
    const now = performance.now();
    if (now > this.#nextAskAt + PAUSE_MS_MAX) this.#pauseMs = 0;
    const at = Math.max(now, this.#nextAskAt);
    this.#pauseMs = Math.min(Math.max(stepMs, this.#pauseMs * 2), PAUSE_MS_MAX);
    this.#nextAskAt = at + this.#pauseMs;
    return at - now;
  }

  /** Resolves when what was promised to the disk is there: the raw engine tells of it until then. */
  async close(): Promise<void> {
    await guard(() => this.raw.stop());
  }
}

const PAUSE_MS_MAX = 60_000;
