// The public surface of the package. Importing it does nothing: no module is loaded, no global is touched.

export { createSyncEngine } from "./create.ts";
export { ERROR_CODES, type ErrorCode, type ErrorDetails, SynclineError } from "./errors.ts";
export { init } from "./module.ts";
export { mutationQueueListener } from "./mutation_queue.ts";
export type * from "./types.ts";
