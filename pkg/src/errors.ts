// The stable codes of everything that can go wrong, and the one error class that carries them.

/** Says which error it is; the text beside it may change, this never does. Explained in `docs/errors.md`. */
export type ErrorCode =
  | "INVALID_JSON"
  | "INVALID_VALUE"
  | "RESERVED_KEY"
  | "VALUE_OUT_OF_RANGE"
  | "VALUE_TOO_DEEP"
  | "INVALID_TEXT"
  | "ROW_TOO_LARGE"
  | "INVALID_ROW_ID"
  | "INVALID_NAME"
  | "INVALID_OP_ID"
  | "TRANSACTION_TOO_LARGE"
  | "ENTITY_NOT_FOUND"
  | "UNKNOWN_FIELD"
  | "TYPE_MISMATCH"
  | "MISSING_FIELD"
  | "UNIQUE_VIOLATION"
  | "POLICY_DENIED"
  | "ROW_EXISTS"
  | "ROW_NOT_FOUND"
  | "UNKNOWN_KIND"
  | "OP_ID_REUSED"
  | "OUTCOME_UNKNOWN"
  | "DEPENDENCY_FAILED"
  | "BUSY"
  | "IDENTITY_CHANGED"
  | "IDENTITY_REQUIRED"
  | "RESYNC_REQUIRED"
  | "PROTOCOL_MISMATCH"
  | "INVALID_FRAME"
  | "CHECKSUM_MISMATCH"
  | "UNAUTHENTICATED"
  | "TOKEN_EXPIRED"
  | "TOKEN_TOO_LONG"
  | "FORBIDDEN"
  | "ORIGIN_REFUSED"
  | "HOST_REFUSED"
  | "NOT_A_MEMBER"
  | "MISSING_USER_ID"
  | "MISSING_ORG_ID"
  | "PAYLOAD_TOO_LARGE"
  | "RATE_LIMITED"
  | "TOO_MANY_CONNECTIONS"
  | "SLOW_CONSUMER"
  | "BACKEND_REFUSED"
  | "BACKEND_FAILED"
  | "INVALID_QUERY"
  | "NOT_FOUND"
  | "METHOD_NOT_ALLOWED"
  | "INTERNAL"
  | "NOT_STARTED"
  | "INVALID_CONFIG"
  | "NOT_SUPPORTED"
  | "QUEUE_FULL"
  | "DISCARDED"
  | "STORAGE_UNAVAILABLE"
  | "STORAGE_FULL"
  | "STORAGE_CORRUPT"
  | "STORAGE_TOO_NEW"
  | "RELOAD_REQUIRED"
  | "NETWORK_UNAVAILABLE"
  | "UNEXPECTED_RESPONSE"
  | "WASM_LOAD_FAILED";

/** Whether the same call may succeed later. Equal to `docs/errors.md` and to the Rust enum, which a test checks. */
const RETRYABLE: Readonly<Record<ErrorCode, boolean>> = {
  INVALID_JSON: false,
  INVALID_VALUE: false,
  RESERVED_KEY: false,
  VALUE_OUT_OF_RANGE: false,
  VALUE_TOO_DEEP: false,
  INVALID_TEXT: false,
  ROW_TOO_LARGE: false,
  INVALID_ROW_ID: false,
  INVALID_NAME: false,
  INVALID_OP_ID: false,
  TRANSACTION_TOO_LARGE: false,
  ENTITY_NOT_FOUND: false,
  UNKNOWN_FIELD: false,
  TYPE_MISMATCH: false,
  MISSING_FIELD: false,
  UNIQUE_VIOLATION: false,
  POLICY_DENIED: false,
  ROW_EXISTS: false,
  ROW_NOT_FOUND: false,
  UNKNOWN_KIND: false,
  OP_ID_REUSED: false,
  OUTCOME_UNKNOWN: false,
  DEPENDENCY_FAILED: false,
  BUSY: true,
  IDENTITY_CHANGED: false,
  IDENTITY_REQUIRED: false,
  RESYNC_REQUIRED: true,
  PROTOCOL_MISMATCH: false,
  INVALID_FRAME: true,
  CHECKSUM_MISMATCH: true,
  UNAUTHENTICATED: false,
  TOKEN_EXPIRED: false,
  TOKEN_TOO_LONG: false,
  FORBIDDEN: false,
  ORIGIN_REFUSED: false,
  HOST_REFUSED: false,
  NOT_A_MEMBER: false,
  MISSING_USER_ID: false,
  MISSING_ORG_ID: false,
  PAYLOAD_TOO_LARGE: false,
  RATE_LIMITED: true,
  TOO_MANY_CONNECTIONS: true,
  SLOW_CONSUMER: true,
  BACKEND_REFUSED: false,
  BACKEND_FAILED: true,
  INVALID_QUERY: false,
  NOT_FOUND: false,
  METHOD_NOT_ALLOWED: false,
  INTERNAL: true,
  NOT_STARTED: false,
  INVALID_CONFIG: false,
  NOT_SUPPORTED: false,
  QUEUE_FULL: true,
  DISCARDED: false,
  STORAGE_UNAVAILABLE: true,
  STORAGE_FULL: true,
  STORAGE_CORRUPT: true,
  STORAGE_TOO_NEW: false,
  RELOAD_REQUIRED: false,
  NETWORK_UNAVAILABLE: true,
  UNEXPECTED_RESPONSE: true,
  WASM_LOAD_FAILED: true,
};

/** What else is known about an error. */
export interface ErrorDetails {
  /** What to do about it. */
  readonly hint?: string | undefined;
  /** What it came from. */
  readonly cause?: unknown;
}

/** The only error that this package throws or rejects with. */
export class SynclineError extends Error {
  override readonly name = "SynclineError";
  /** Which error it is. */
  readonly code: ErrorCode;
  /** Whether the same call may succeed later without being changed. */
  readonly retryable: boolean;
  /** What to do about it. */
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, "cause" in details ? { cause: details.cause } : undefined);
    this.code = code;
    this.retryable = RETRYABLE[code];
    this.hint = details.hint;
  }
}

/** Every code. */
export const ERROR_CODES: readonly ErrorCode[] = Object.keys(RETRYABLE) as ErrorCode[];

/** The known code of a text; `INTERNAL` for one that a newer peer sent. */
export function errorCode(text: unknown): ErrorCode {
  return typeof text === "string" && Object.hasOwn(RETRYABLE, text) ? (text as ErrorCode) : "INTERNAL";
}
