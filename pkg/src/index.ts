// The public surface of the package. Importing it does nothing: no module is loaded, no global is touched.

export { createSyncEngine } from "./create.ts";
export {
  type CallOptions,
  callFn,
  type FetchedRow,
  fetchById,
  fetchList,
  insert,
  type ListOptions,
  remove,
  update,
  type WriteOptions,
} from "./direct_calls.ts";
export { ERROR_CODES, type ErrorCode, type ErrorDetails, SynclineError } from "./errors.ts";
export { getServerData } from "./get_server_data.ts";
export { createWriteThroughStorage, defaultStorage } from "./key_value_storage.ts";
export { init } from "./module.ts";
export { mutationQueueListener } from "./mutation_queue.ts";
export type * from "./types.ts";
