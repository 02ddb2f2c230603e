// The configuration, checked by name and type before anything starts.

import { SynclineError } from "./errors.ts";
import type { SyncEngineConfig, SyncEngineOptions } from "./types.ts";

/** A checked configuration with its defaults filled in. */
export interface Settings {
  readonly baseUrl: string;
  readonly wsUrl: string | undefined;
  readonly appName: string;
  readonly persist: boolean;
  readonly schema: number;
  readonly reconnectMs: number;
  readonly token: SyncEngineConfig["token"];
  readonly getToken: SyncEngineConfig["getToken"];
  readonly storage: SyncEngineConfig["storage"];
  readonly wasm: SyncEngineConfig["wasm"];
}

type Check = (value: unknown) => string | undefined;

/** What each key must be; `undefined` is always the same as leaving the key out. */
const CHECKS: { readonly [K in keyof SyncEngineConfig]-?: Check } = {
  transport: (value) =>
    ["websocket", "sse", "poll"].includes(value as string)
      ? undefined
      : 'must be "websocket", "sse" or "poll"',
  wsUrl: (value) => checkUrl(value, ["ws:", "wss:"]),
  pollInterval: checkDelay,
  reconnectDelay: checkDelay,
  token: (value) => (value === null || typeof value === "string" ? undefined : "must be a text"),
  getToken: (value) => (typeof value === "function" ? undefined : "must be a function"),
  persist: (value) => (typeof value === "boolean" ? undefined : "must be true or false"),
  appName: (value) =>
    typeof value === "string" && /^[\w.-]{1,64}$/.test(value)
      ? undefined
      : "must be 1 to 64 of the characters A-Z a-z 0-9 _ . -",
  storage: checkStorage,
  schema: (value) =>
    Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0xffff_ffff
      ? undefined
      : "must be an integer from 0 to 2^32 - 1",
  wasm: (value) =>
    typeof value === "string" || (typeof value === "object" && value !== null)
      ? undefined
      : "must be an address, bytes or a module",
};

/**
 * Checks a configuration.
 * @throws SynclineError INVALID_CONFIG naming the key, or NOT_SUPPORTED for what comes later.
 */
export function checkConfig(options: SyncEngineOptions): Settings {
  for (const [key, value] of Object.entries(options)) {
    if (key === "baseUrl") continue;
    if (!Object.hasOwn(CHECKS, key)) throw unknownKey(key);
    const problem = value === undefined ? undefined : CHECKS[key as keyof SyncEngineConfig](value);
    if (problem !== undefined) throw invalid(key, problem);
  }
  const { transport = "websocket" } = options;
  if (transport !== "websocket") {
    throw new SynclineError(
      "NOT_SUPPORTED",
      `transport "${transport}" is not in version 0.1; it comes with 0.2`,
      {
        hint: 'Leave `transport` out, or say "websocket".',
      },
    );
  }
  return {
    baseUrl: checkBaseUrl(options.baseUrl),
    wsUrl: options.wsUrl,
    appName: options.appName ?? "default",
    persist: options.persist ?? "indexedDB" in globalThis,
    schema: options.schema ?? 1,
    reconnectMs: options.reconnectDelay ?? 1000,
    token: options.token,
    getToken: options.getToken,
    storage: options.storage,
    wasm: options.wasm,
  };
}

/** Makes the address absolute, without a slash at its end. A page may name its own server by a path. */
function checkBaseUrl(value: unknown): string {
  const page = typeof location === "undefined" ? undefined : location.href;
  const url = typeof value === "string" ? parseUrl(value, page) : undefined;
  if (url === undefined || !["http:", "https:"].includes(url.protocol)) {
    throw invalid("baseUrl", "must be the server's address, such as https://app.example");
  }
  if (url.search !== "" || url.hash !== "") throw invalid("baseUrl", "must not have a query or fragment");
  return url.href.replace(/\/+$/, "");
}

function checkUrl(value: unknown, protocols: readonly string[]): string | undefined {
  const url = typeof value === "string" ? parseUrl(value, undefined) : undefined;
  return url !== undefined && protocols.includes(url.protocol)
    ? undefined
    : `must be an address that starts with ${protocols.map((protocol) => `${protocol}//`).join(" or ")}`;
}

function checkDelay(value: unknown): string | undefined {
  return typeof value === "number" && Number.isFinite(value) && value > 0
    ? undefined
    : "must be a positive number of milliseconds";
}

function checkStorage(value: unknown): string | undefined {
  const methods = ["get", "set", "remove"] as const;
  const adapter = value as { readonly [method: string]: unknown } | null;
  return typeof adapter === "object" &&
    adapter !== null &&
    methods.every((name) => typeof adapter[name] === "function")
    ? undefined
    : "must be an object with the functions get(key), set(key, value) and remove(key)";
}

function parseUrl(text: string, base: string | undefined): URL | undefined {
  try {
    return new URL(text, base);
  } catch {
    return undefined;
  }
}

function unknownKey(key: string): SynclineError {
  return invalid(key, `is no option; the options are baseUrl, ${Object.keys(CHECKS).join(", ")}`);
}

function invalid(key: string, problem: string): SynclineError {
  return new SynclineError("INVALID_CONFIG", `the option \`${key}\` ${problem}`);
}
