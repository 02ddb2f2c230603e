// The server's half of hydration: reads rows for one request of a page.

import { type CallOptions, call, fetchList, unexpected } from "./direct_calls.ts";
import { SynclineError } from "./errors.ts";
import { readIdentity, sameIdentity } from "./status.ts";
import type { AnySchema, EntityOf, Identity, ServerData } from "./types.ts";

/**
 * Reads the rows of some entities for one session, to be put into a page and given to `engine.hydrate()` there.
 *
 * The result is plain data. It holds what that session may see: put it into no page that others get, and write `<` as
 * `\u003c` where it stands inside a `<script>`.
 * @throws SynclineError IDENTITY_CHANGED when the session became another one meanwhile, and as every direct call.
 */
export async function getServerData<S extends object = AnySchema>(
  baseUrl: string,
  entities: readonly EntityOf<S>[],
  options: CallOptions = {},
): Promise<ServerData<S>> {
  const identity = await whoAmI(baseUrl, options);
  const rows = await Promise.all(
    entities.map(async (entity) => [entity, await fetchList(baseUrl, entity, options)] as const),
  );
  const now = await whoAmI(baseUrl, options);
  // The lists do not say whose they are, so a session that changed between the calls may have filled some of them.
  if (!sameIdentity(now, identity))
    throw new SynclineError("IDENTITY_CHANGED", "the session became another one while its rows were read");
  return { identity, rows: Object.fromEntries(rows) as unknown as ServerData<S>["rows"] };
}

async function whoAmI(baseUrl: string, options: CallOptions): Promise<Identity> {
  const identity = readIdentity(await call(baseUrl, "GET", "/api/auth/me", undefined, options));
  if (identity === undefined) throw unexpected(`${baseUrl} did not say whose session it is`);
  return identity;
}
