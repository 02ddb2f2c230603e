// The entry point of the package.

import { checkConfig } from "./config.ts";
import { Engine } from "./engine.ts";
import { loadModule } from "./module.ts";
import type { AnySchema, SyncEngine, SyncEngineConfig, SyncEngineOptions } from "./types.ts";

/**
 * Makes an engine for the server at `baseUrl`. Nothing is loaded or opened before `start()`.
 *
 * `createSyncEngine<Schema>(…)` takes an interface of entities and their fields; names and types are checked then.
 * @throws SynclineError INVALID_CONFIG when an option is unknown or not of its type.
 */
export function createSyncEngine<S extends object = AnySchema>(
  baseUrl: string,
  config?: SyncEngineConfig,
): SyncEngine<S>;
export function createSyncEngine<S extends object = AnySchema>(options: SyncEngineOptions): SyncEngine<S>;
export function createSyncEngine<S extends object = AnySchema>(
  first: string | SyncEngineOptions,
  config: SyncEngineConfig = {},
): SyncEngine<S> {
  const settings = checkConfig(typeof first === "string" ? { ...config, baseUrl: first } : first);
  return new Engine<S>(settings, () => loadModule(settings.wasm));
}
