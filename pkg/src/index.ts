// The public surface of the package. Importing it does nothing: no module is loaded, no global is touched.

export { ERROR_CODES, type ErrorCode, SynclineError } from "./errors.ts";
export type * from "./types.ts";
