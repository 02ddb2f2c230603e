// What WebAssembly throws, as the one error class of this package.

import { errorCode, SynclineError } from "./errors.ts";

/** Translates what a raw call threw. A trap has no code: that is `INTERNAL`. */
export function fromThrown(thrown: unknown): SynclineError {
  if (thrown instanceof SynclineError) return thrown;
  const { code, message } = (thrown ?? {}) as { readonly code?: unknown; readonly message?: unknown };
  const text = typeof message === "string" ? message : String(thrown);
  return new SynclineError(errorCode(code), text, { cause: thrown });
}

/** Calls into WebAssembly; what it throws becomes a `SynclineError`. */
export function guard<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw fromThrown(thrown);
  }
}
