// The package as bundlers load it in development, by the condition `development` of package.json: the same, and each
// problem is a line in the console. The production build has none of this.

import { createSyncEngine as create } from "./create.ts";
import type { ErrorCode, SynclineError } from "./errors.ts";
import { REMEDIES } from "./remedies.ts";
import type { AnySchema, SyncEngine, SyncEngineConfig, SyncEngineOptions, Unsubscribe } from "./types.ts";

export * from "./index.ts";

/** As the production build's, and tells the console of problems. */
export function createSyncEngine<S extends object = AnySchema>(
  baseUrl: string,
  config?: SyncEngineConfig,
): SyncEngine<S>;
export function createSyncEngine<S extends object = AnySchema>(options: SyncEngineOptions): SyncEngine<S>;
export function createSyncEngine<S extends object = AnySchema>(
  first: string | SyncEngineOptions,
  config?: SyncEngineConfig,
): SyncEngine<S> {
  const engine = typeof first === "string" ? create<S>(first, config) : create<S>(first);
  logProblems(engine);
  return engine;
}

/** What problems need of a console. */
export type ProblemConsole = Pick<Console, "warn">;

/**
 * Writes one line for each problem of an engine: its code, what happened, what to do. For pages without a bundler, which
 * get the production build: `import { logProblems } from "syncline/development"`.
 */
export function logProblems<S extends object>(
  engine: SyncEngine<S>,
  log: ProblemConsole = console,
): Unsubscribe {
  let last = "";
  const say = (code: ErrorCode, message: string, cause: unknown, remedy: string = REMEDIES[code]): void => {
    // The same problem comes as an error and in the status, and may go on for long.
    if (last === code + message) return;
    last = code + message;
    const from = cause === undefined ? "" : ` (${cause instanceof Error ? cause.message : String(cause)})`;
    log.warn(`syncline: ${code}: ${message}${from}. What to do: ${remedy}`.replace("..", "."));
  };
  const sayError = ({ code, message, cause, hint }: SynclineError): void => say(code, message, cause, hint);
  const start = engine.start;
  engine.start = () => {
    const starting = start.call(engine);
    starting.catch(sayError);
    return starting;
  };
  const ends = [
    () => {
      engine.start = start;
    },
    engine.onError(sayError),
    engine.mutations.subscribe(({ status, error, change }) => {
      if (status !== "failed") return;
      const what = `the ${change.kind} of ${change.entity}/${change.rowId} failed`;
      say(error.code, `${what}: ${error.message}`, error.cause, error.hint);
    }),
    engine.onStatus(({ lastError }) => {
      if (lastError === null) last = "";
      else say(lastError.code, lastError.message, undefined);
    }),
  ];
  return () => {
    for (const end of ends) end();
  };
}
