// Whose token it is, and where the token comes from.

import type { Settings } from "./config.ts";
import { type ErrorCode, SynclineError } from "./errors.ts";
import type { Replica } from "./replica.ts";
import { readIdentity } from "./status.ts";
import type { Identity, Token } from "./types.ts";

/** What `getToken` gave. */
export type Answer =
  | { readonly failed: false; readonly token: string | undefined }
  | { readonly failed: true; readonly error: SynclineError };

/** Finds the token: what the application said last, else its storage, else its function. */
export class TokenSource {
  readonly #settings: Settings;
  readonly #onError: (error: SynclineError) => void;
  readonly #hash: (token: string) => string | undefined;
  #given: Token;
  /** Hashes of the tokens whose sessions another tab left: they are as good as none until they are given again. */
  readonly #left: Set<string> = new Set();
  readonly #asking: WeakMap<AbortSignal, Promise<Answer>> = new WeakMap();

  /** `onError` is told when the application's function fails. */
  constructor(
    settings: Settings,
    hash: (token: string) => string | undefined,
    onError: (error: SynclineError) => void,
  ) {
    this.#settings = settings;
    this.#hash = hash;
    this.#onError = onError;
    this.#given = settings.token;
  }

  /** Whether the application can be asked for a token. */
  get canAsk(): boolean {
    return this.#settings.getToken !== undefined;
  }

  /** Takes a token that stands above the storage from now on; `null` for none. */
  give(token: Token): void {
    this.#given = token;
    this.#left.delete(this.#hash(token || "") ?? "");
  }

  /** Another tab left the session of one token and goes on with that of another. */
  follow(left: string | undefined, next: string | undefined): void {
    if (left !== undefined) this.#left.add(left);
    if (next !== undefined) this.#left.delete(next);
  }

  #usable(token: Token): string | undefined {
    const isLeft = this.#left.size > 0 && this.#left.has(this.#hash(token || "") ?? "");
    return isLeft ? undefined : token || undefined;
  }

  /** The application gave another token in place of a refused one that it had given before. */
  renewed(token: Token): void {
    if (this.#given) this.#given = token;
  }

  /** There is no session any more, and the storage shall know of none either. */
  forget(): void {
    this.#given = null;
    for (const key of TOKEN_KEYS) this.#settings.storage?.remove(key);
  }

  /** The token that is there without asking. An empty one counts as none. */
  known(): string | undefined {
    const given = this.#usable(this.#given);
    // Whoever says that there is none is believed; one that was left says nothing.
    if (given !== undefined || (this.#given !== undefined && !this.#given)) return given;
    const { storage } = this.#settings;
    for (const key of TOKEN_KEYS) {
      const stored = this.#usable(storage?.get(key));
      if (stored !== undefined) return stored;
    }
    return undefined;
  }

  /**
   * Asks the application. Calls while an answer is awaited wait for the same one, but only those of the same question: what
   * was asked for one session must not answer another.
   */
  ask(code: ErrorCode | null, question: AbortSignal): Promise<Answer> {
    let answer = this.#asking.get(question);
    if (answer === undefined) {
      answer = this.#answer(code).finally(() => this.#asking.delete(question));
      this.#asking.set(question, answer);
    }
    return answer;
  }

  /** Looks for another token in place of a refused one. */
  async findOther({ token: refused, question }: Replica, code: ErrorCode): Promise<string | undefined> {
    let token = this.known();
    if (this.canAsk && (token === undefined || token === refused)) {
      const answer = await this.ask(code, question);
      token = answer.failed ? undefined : answer.token;
    }
    return token === refused ? undefined : token;
  }

  async #answer(code: ErrorCode | null): Promise<Answer> {
    try {
      return { failed: false, token: this.#usable(await this.#settings.getToken?.({ code })) };
    } catch (cause) {
      const error = new SynclineError("UNAUTHENTICATED", "getToken() failed, so there is no token", {
        cause,
      });
      this.#onError(error);
      return { failed: true, error };
    }
  }
}

/** Asks the server whose token it is; `undefined` when it does not say. */
export async function fetchIdentity(
  baseUrl: string,
  token: string | undefined,
  signal: AbortSignal,
): Promise<Identity | undefined> {
  try {
    const headers: HeadersInit = token === undefined ? {} : { Authorization: `Bearer ${token}` };
    const options: RequestInit = { headers, signal, cache: "no-store", credentials: "omit" };
    const response = await fetch(`${baseUrl}/api/auth/me`, options);
    const body: unknown = response.ok ? await response.json() : undefined;
    return readIdentity(body);
  } catch {
    // No network, or no Syncline server: what is known stays valid until the server contradicts it.
    return undefined;
  }
}

/** The second is where Pylon's clients keep it. */
const TOKEN_KEYS = ["syncline_token", "pylon_token"] as const;
