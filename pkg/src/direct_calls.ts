// Calls to the server without an engine, for scripts, server-side code and what a user's replica need not hold.

import { errorCode, SynclineError } from "./errors.ts";
import type { Value } from "./types.ts";
import { encodeFields } from "./values.ts";

/** What every direct call takes. */
export interface CallOptions {
  /** The bearer token; without one the call is anonymous. */
  readonly token?: string | null | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Which rows `fetchList` gives. */
export interface ListOptions extends CallOptions {
  /** The wire's filter: `{ done: false, likes: { $gte: 3 } }`. docs/protocol.md has its operators. */
  readonly filter?: { readonly [field: string]: unknown } | undefined;
  /** Fields in order of their weight. Rows that are equal in all of them come by id. */
  readonly order?: { readonly [field: string]: "asc" | "desc" } | undefined;
  readonly limit?: number | undefined;
  readonly offset?: number | undefined;
}

/** For writes. */
export interface WriteOptions extends CallOptions {
  /** Makes the call repeatable: the server does the same key's write once, and answers it every time. */
  readonly idempotencyKey?: string | undefined;
}

/** A row's fields with its id. */
export type FetchedRow<T extends object> = Readonly<T> & { readonly id: string };
type AnyRow = { readonly [field: string]: Value };

/** The rows of an entity that this session may see. */
export async function fetchList<T extends object = AnyRow>(
  baseUrl: string,
  entity: string,
  options: ListOptions = {},
): Promise<FetchedRow<T>[]> {
  const { filter, order, limit, offset } = options;
  const query = { ...filter, $order: order, $limit: limit, $offset: offset };
  const rows = await call(baseUrl, "POST", path("query", entity), query, options);
  if (!Array.isArray(rows)) throw unexpected(`${baseUrl} did not answer with rows`);
  return rows as FetchedRow<T>[];
}

/** One row, or `undefined` when there is none that this session may see. */
export async function fetchById<T extends object = AnyRow>(
  baseUrl: string,
  entity: string,
  id: string,
  options: CallOptions = {},
): Promise<FetchedRow<T> | undefined> {
  try {
    return (await call(baseUrl, "GET", path("entities", entity, id), undefined, options)) as FetchedRow<T>;
  } catch (error) {
    if (error instanceof SynclineError && error.code === "ROW_NOT_FOUND") return undefined;
    throw error;
  }
}

/** Adds a row; gives its id. */
export async function insert<T extends object = AnyRow>(
  baseUrl: string,
  entity: string,
  row: T & { readonly id?: string | undefined },
  options: WriteOptions = {},
): Promise<string> {
  const body = { ...encodeFields(row, entity).data, id: row.id };
  const { id } = Object(await call(baseUrl, "POST", path("entities", entity), body, options));
  if (typeof id !== "string") throw unexpected(`${baseUrl} did not answer with an id`);
  return id;
}

/** Changes the given fields of a row. */
export async function update<T extends object = AnyRow>(
  baseUrl: string,
  entity: string,
  id: string,
  patch: Partial<T>,
  options: WriteOptions = {},
): Promise<void> {
  await call(baseUrl, "PATCH", path("entities", entity, id), encodeFields(patch, entity).data, options);
}

/** Removes a row. */
export async function remove(
  baseUrl: string,
  entity: string,
  id: string,
  options: WriteOptions = {},
): Promise<void> {
  await call(baseUrl, "DELETE", path("entities", entity, id), undefined, options);
}

/** Calls a function of the application's backend through the server; gives what it answered. */
export async function callFn<T = unknown>(
  baseUrl: string,
  name: string,
  args: unknown = {},
  options: WriteOptions = {},
): Promise<T> {
  return (await call(baseUrl, "POST", path("fn", name), args, options)) as T;
}

function path(...parts: readonly string[]): string {
  return `/api/${parts.map(encodeURIComponent).join("/")}`;
}

/**
 * One call. Everything but a well-formed answer of a Syncline server is an error with a code.
 * @throws SynclineError with the server's code, NETWORK_UNAVAILABLE or UNEXPECTED_RESPONSE.
 */
export async function call(
  baseUrl: string,
  method: string,
  address: string,
  body: unknown,
  { token, signal, idempotencyKey }: WriteOptions,
): Promise<unknown> {
  const headers = authorized(token);
  if (idempotencyKey !== undefined) headers.set("Idempotency-Key", idempotencyKey);
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const request: RequestInit = { method, headers, cache: "no-store", credentials: "omit" };
  if (signal !== undefined) request.signal = signal;
  if (body !== undefined) request.body = JSON.stringify(body);
  const url = baseUrl.replace(/\/+$/, "") + address;
  let status: number;
  let text: string;
  try {
    const response = await fetch(url, request);
    status = response.status;
    text = await response.text();
  } catch (cause) {
    // Who aborted it knows what it means.
    signal?.throwIfAborted();
    throw new SynclineError("NETWORK_UNAVAILABLE", `${url} could not be reached`, { cause });
  }
  const answer = parse(text);
  if (status >= 200 && status < 300 && (answer !== undefined || text === "")) return answer;
  throw refusal(url, status, answer);
}

function authorized(token: string | null | undefined): Headers {
  const headers = new Headers();
  try {
    if (token) headers.set("Authorization", `Bearer ${token}`);
  } catch (cause) {
    throw new SynclineError("UNAUTHENTICATED", "the token holds characters that a header cannot carry", {
      cause,
    });
  }
  return headers;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function refusal(url: string, status: number, answer: unknown): SynclineError {
  const { error } = Object(answer) as { readonly error?: unknown };
  const { code, message, hint } = Object(error) as { readonly [member: string]: unknown };
  if (typeof code !== "string" || typeof message !== "string")
    return unexpected(`${url} answered ${status} with something that no Syncline server says`);
  return new SynclineError(errorCode(code), message, typeof hint === "string" ? { hint } : {});
}

/** Not private: what else reads answers says the same. */
export function unexpected(message: string): SynclineError {
  return new SynclineError("UNEXPECTED_RESPONSE", message, {
    hint: "Check the address. A proxy or a network's sign-in page may have answered in the server's place.",
  });
}
