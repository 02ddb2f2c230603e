// The real server that `cargo xtask test pkg` starts for these tests: without a manifest, as in development.

import { randomUUID } from "node:crypto";

/** Its address; without one, as with a plain `npm test`, the tests that need it are skipped. */
export const SERVER: string | undefined = process.env.SYNCLINE_TEST_SERVER;

/** For `test(name, options, …)`. */
export const NEEDS_SERVER: { readonly skip: string | false } = {
  skip: SERVER === undefined ? "needs a server: run `cargo xtask test pkg`" : false,
};

/** The server's address, where a test has asked for it by `NEEDS_SERVER`. */
export function serverUrl(): string {
  if (SERVER === undefined) throw new Error("SYNCLINE_TEST_SERVER is not set");
  return SERVER;
}

/** A session of a user nobody else has. */
export async function signIn(user: string = randomUUID()): Promise<{ user: string; token: string }> {
  const response = await fetch(`${serverUrl()}/api/auth/session`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user_id: user }),
  });
  const { token } = (await response.json()) as { token: string };
  return { user, token };
}

/** An entity that no other test writes to. */
export function ownEntity(): string {
  return `e${randomUUID().replaceAll("-", "")}`;
}
