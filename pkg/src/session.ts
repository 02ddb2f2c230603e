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
  #given: Token;
  readonly #asking: WeakMap<AbortSignal, Promise<Answer>> = new WeakMap();

  /** `onError` is told when the application's function fails. */
  constructor(settings: Settings, onError: (error: SynclineError) => void) {
    this.#settings = settings;
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
    if (this.#given !== undefined) return this.#given || undefined;
    const { storage } = this.#settings;
    for (const key of TOKEN_KEYS) {
      const stored = storage?.get(key);
      if (stored) return stored;
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
      return { failed: false, token: (await this.#settings.getToken?.({ code })) || undefined };
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
