// A transaction while the application composes it: checked changes, and the rows as they will be.

import { SynclineError } from "./errors.ts";
import type { RawRow } from "./raw.ts";
import { mintRowId } from "./row_id.ts";
import { byId } from "./row_value.ts";
import type { Change, ChangeKind } from "./types.ts";
import { encodeFields } from "./values.ts";

/** Reads what is there before the transaction. */
export interface CommittedRows {
  get(entity: string, id: string): RawRow | undefined;
  list(entity: string): readonly RawRow[];
}

/** The changes of one transaction in order. Nothing is visible outside before they are handed over. */
export class Draft {
  readonly changes: Change[] = [];
  readonly #json: string[] = [];
  readonly #rows: CommittedRows;
  /** What this transaction did to rows; `undefined` for one it deleted. */
  readonly #staged: Map<string, Map<string, RawRow | undefined>> = new Map();
  #closed = false;

  constructor(rows: CommittedRows) {
    this.#rows = rows;
  }

  /** Refuses everything from now on: the transaction was handed over or given up. */
  close(): void {
    this.#closed = true;
  }

  /** The changes as the raw engine takes them. */
  toJson(): string {
    return `[${this.#json.join(",")}]`;
  }

  get(entity: string, id: string): RawRow | undefined {
    this.#checkOpen();
    const staged = this.#staged.get(entity);
    return staged?.has(id) ? staged.get(id) : this.#rows.get(entity, id);
  }

  list(entity: string): readonly RawRow[] {
    this.#checkOpen();
    const staged = this.#staged.get(entity);
    const before = this.#rows.list(entity);
    if (staged === undefined) return before;
    const rows = before.filter((row) => !staged.has(row.id));
    for (const row of staged.values()) if (row !== undefined) rows.push(row);
    return Object.freeze(rows.sort(byId));
  }

  insert(entity: string, row: object): string {
    this.#checkOpen();
    const given = (row as { readonly id?: unknown } | null)?.id;
    if (given !== undefined && typeof given !== "string") {
      throw new SynclineError("INVALID_ROW_ID", `the id of a new row of ${entity} must be a text`);
    }
    const id = given ?? mintRowId();
    const data = this.#push("insert", entity, id, row);
    this.#stage(entity, id, { ...data, id });
    return id;
  }

  update(entity: string, id: string, source: object): void {
    // Read before it is staged; whether the row exists is decided when the transaction is handed over.
    const before = this.get(entity, id);
    const patch =
      typeof source === "function" ? patchOf(source as PatchFunction, before, entity, id) : source;
    const given = (patch as { readonly id?: unknown } | null)?.id;
    if (given !== undefined && given !== id) {
      throw new SynclineError("INVALID_VALUE", `${entity}/${id}: the id of a row cannot change`);
    }
    const data = this.#push("update", entity, id, patch);
    if (before !== undefined) this.#stage(entity, id, { ...before, ...data, id });
  }

  delete(entity: string, id: string): void {
    this.#checkOpen();
    this.#push("delete", entity, id, undefined);
    this.#stage(entity, id, undefined);
  }

  /** Adds a change as the queue shows it. Whether it fits is decided when the transaction is handed over. */
  add({ kind, entity, rowId, data }: Change): void {
    this.#push(kind, entity, rowId, data);
  }

  #push(kind: ChangeKind, entity: string, rowId: string, fields: object | undefined): Change["data"] {
    const encoded = kind === "delete" ? undefined : encodeFields(fields, entity);
    this.changes.push(
      Object.freeze({ entity, rowId, kind, ...(encoded === undefined ? {} : { data: encoded.data }) }),
    );
    const head = `{"entity":${JSON.stringify(entity)},"row_id":${JSON.stringify(rowId)},"kind":"${kind}"`;
    this.#json.push(encoded === undefined ? `${head}}` : `${head},"data":${encoded.json}}`);
    return encoded?.data;
  }

  #stage(entity: string, id: string, row: RawRow | undefined): void {
    let rows = this.#staged.get(entity);
    if (rows === undefined) {
      rows = new Map();
      this.#staged.set(entity, rows);
    }
    rows.set(id, row === undefined ? undefined : Object.freeze(row));
  }

  #checkOpen(): void {
    if (!this.#closed) return;
    throw new SynclineError("NOT_SUPPORTED", "the transaction is over", {
      hint: "Use `tx` only inside the function given to transaction(), and before it returns.",
    });
  }
}

type PatchFunction = (row: RawRow) => object;

function patchOf(make: PatchFunction, row: RawRow | undefined, entity: string, id: string): object {
  if (row === undefined) throw new SynclineError("ROW_NOT_FOUND", `${entity}/${id} does not exist here`);
  return make(row);
}

/**
 * Lets the application compose a transaction; gives what `body` returned.
 * @throws What `body` throws, or SynclineError when it is async. Nothing was written then.
 */
export function compose<T>(draft: Draft, body: (tx: Draft) => T): T {
  let value: T;
  try {
    value = body(draft);
  } finally {
    draft.close();
  }
  if (!isThenable(value)) return value;
  // What the function still does has nowhere to go, and nobody else sees it fail.
  Promise.resolve(value).catch(() => {});
  throw new SynclineError(
    "NOT_SUPPORTED",
    "the function given to transaction() returned a promise; nothing was written",
    { hint: "Fetch what you need before, then write in a function that is not async." },
  );
}

function isThenable(value: unknown): boolean {
  return typeof (value as { readonly then?: unknown } | null | undefined)?.then === "function";
}
