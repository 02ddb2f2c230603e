// Who uses this device, and which of them this window belongs to.
//
// The address says it: `?user=alice`. So two windows of one browser can be two users, a reload stays the same user, and
// an address that is opened again without a network finds the token that was stored when the user signed in.

/** A user with the token that proves it to the server. */
export interface Account {
  readonly user: string;
  readonly token: string;
}

/** Signing in did not work; the message can be shown. */
export class SignInError extends Error {}

/** The user this window belongs to, signed in or not; `null` when the address names none. */
export function userOfWindow(): string | null {
  const user = new URLSearchParams(location.search).get("user");
  return user === null ? null : parseUser(user);
}

/** Makes this window the user's, now and after a reload, on the channel that is open. */
export function claimWindow(user: string): void {
  history.replaceState(null, "", addressOf(user) + location.hash);
}

/** The address of a window that belongs to `user`. */
export function addressOf(user: string): string {
  return `./?user=${encodeURIComponent(user)}`;
}

/** Everyone who signed in on this device, in alphabetical order. */
export function knownUsers(): readonly string[] {
  return Object.keys(readTokens()).sort();
}

/** The account if `user` signed in on this device. */
export function knownAccount(user: string): Account | null {
  const token = readTokens()[user];
  return token === undefined ? null : { user, token };
}

/** Asks the server for a session and remembers it on this device. */
export async function signIn(user: string): Promise<Account> {
  const token = await requestToken(user);
  writeTokens({ ...readTokens(), [user]: token });
  return { user, token };
}

/** The spelling of a user's name that stands for the user, or `null` where it cannot be a name. */
export function parseUser(text: string): string | null {
  const user = text.trim().toLowerCase();
  return USER_PATTERN.test(user) ? user : null;
}

async function requestToken(user: string): Promise<string> {
  let response: Response;
  try {
    response = await fetch("/api/auth/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ user_id: user }),
    });
  } catch {
    throw new SignInError(
      "The server cannot be reached. Users who signed in on this device before can be opened without it.",
    );
  }
  const answer: unknown = await response.json().catch(() => null);
  if (response.ok && isRecord(answer) && typeof answer.token === "string") return answer.token;
  throw new SignInError(reasonIn(answer) ?? `The server answered ${response.status} and gave no reason.`);
}

function reasonIn(answer: unknown): string | null {
  const error = isRecord(answer) ? answer.error : null;
  return isRecord(error) && typeof error.message === "string" ? error.message : null;
}

function readTokens(): Readonly<Record<string, string>> {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(TOKENS_KEY) ?? "{}");
    if (!isRecord(stored)) return {};
    return Object.fromEntries(
      Object.entries(stored).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
    );
  } catch {
    // Storage that is forbidden or damaged: nobody is known here, signing in still works.
    return {};
  }
}

function writeTokens(tokens: Readonly<Record<string, string>>): void {
  try {
    localStorage.setItem(TOKENS_KEY, JSON.stringify(tokens));
  } catch {
    // The session lasts as long as the window.
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

/** Names that can be typed, said and put into an address. */
export const USER_HINT = "1 to 32 letters, digits, dots, dashes or underscores";
const USER_PATTERN = /^[a-z0-9][a-z0-9._-]{0,31}$/;
const TOKENS_KEY = "syncline_chat_tokens";
