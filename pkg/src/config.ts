// The configuration, checked by name and type before anything starts.

import { SynclineError } from "./errors.ts";
import type { PersistenceBackend, SyncEngineConfig, SyncEngineOptions } from "./types.ts";

/** A checked configuration with its defaults filled in. */
export interface Settings extends SyncEngineOptions {
  readonly appName: string;
  readonly persist: boolean;
  readonly schema: number;
  readonly reconnectMs: number;
  /** Where rows and queue are kept instead of IndexedDB. */
  readonly backend: PersistenceBackend | undefined;
}

/** Whether a value will do, and what to say when it will not. */
type Check = readonly [isValid: (value: unknown) => boolean, problem: string];

const DELAY: Check = [
  (value) => typeof value === "number" && Number.isFinite(value) && value > 0,
  "must be a positive number of milliseconds",
];

/** What each key must be; `undefined` is always the same as leaving the key out. */
const CHECKS: { readonly [K in keyof SyncEngineConfig]-?: Check } = {
  transport: oneOf("websocket", "sse", "poll"),
  wsUrl: [
    (value) => /^wss?:$/.test(parseUrl(value)?.protocol ?? ""),
    "must be an address that starts with ws:// or wss://",
  ],
  pollInterval: DELAY,
  reconnectDelay: DELAY,
  token: [(value) => value === null || typeof value === "string", "must be a text"],
  getToken: [(value) => typeof value === "function", "must be a function"],
  persist: [(value) => typeof value === "boolean", "must be true or false"],
  persistence: [
    (value) => value === "indexeddb" || value === "memory" || typeof Object(value).open === "function",
    'must be "indexeddb", "memory" or an object with the function open(name)',
  ],
  appName: [
    (value) => typeof value === "string" && /^[\w.-]{1,64}$/.test(value),
    "must be 1 to 64 of the characters A-Z a-z 0-9 _ . -",
  ],
  storage: [
    (value) => ["get", "set", "remove"].every((name) => typeof Object(value)[name] === "function"),
    "must be an object with the functions get(key), set(key, value) and remove(key)",
  ],
  schema: [
    (value) => Number.isInteger(value) && (value as number) >>> 0 === value,
    "must be an integer from 0 to 2^32 - 1",
  ],
  wasm: [
    (value) => typeof value === "string" || Object(value) === value,
    "must be an address, bytes or a module",
  ],
};

/**
 * Checks a configuration.
 * @throws SynclineError INVALID_CONFIG naming the key, or NOT_SUPPORTED for what comes later.
 */
export function checkConfig(options: SyncEngineOptions): Settings {
  for (const [key, value] of Object.entries(options)) {
    if (key === "baseUrl") continue;
    if (!Object.hasOwn(CHECKS, key)) throw unknownKey(key);
    const [isValid, problem] = CHECKS[key as keyof SyncEngineConfig];
    if (value !== undefined && !isValid(value)) throw invalid(key, problem);
  }
  const { transport = "websocket", persistence, persist } = options;
  if (transport !== "websocket") {
    throw new SynclineError(
      "NOT_SUPPORTED",
      `transport "${transport}" is not in version 0.1; it comes with 0.2`,
      { hint: 'Leave `transport` out, or say "websocket".' },
    );
  }
  const isKept = persistence === undefined ? undefined : persistence !== "memory";
  if (isKept !== undefined && (persist ?? isKept) !== isKept)
    throw invalid("persistence", "says something else than `persist`");
  return {
    ...options,
    baseUrl: checkBaseUrl(options.baseUrl),
    appName: options.appName ?? "default",
    persist: persist ?? isKept ?? "indexedDB" in globalThis,
    backend: typeof persistence === "object" ? persistence : undefined,
    schema: options.schema ?? 1,
    reconnectMs: options.reconnectDelay ?? 1000,
  };
}

function oneOf(...names: readonly string[]): Check {
  return [
    (value) => names.includes(value as string),
    `must be ${names.map((name) => `"${name}"`).join(" or ")}`,
  ];
}

/** Makes the address absolute, without a slash at its end. A page may name its own server by a path. */
function checkBaseUrl(value: unknown): string {
  const page = typeof location === "undefined" ? undefined : location.href;
  const url = parseUrl(value, page);
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw invalid("baseUrl", "must be the server's address, such as https://app.example");
  }
  if (url.search !== "" || url.hash !== "") throw invalid("baseUrl", "must not have a query or fragment");
  return url.href.replace(/\/+$/, "");
}

function parseUrl(value: unknown, base?: string): URL | undefined {
  try {
    return typeof value === "string" ? new URL(value, base) : undefined;
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
