// An entity's rows, a page more at a time.
//
// The pages are the first rows of the replica's own view. Pages that a server cuts by offset show a row twice, or never,
// when rows come and go between two calls; here they are cut anew from what is shown now.

import { SynclineError } from "./errors.ts";
import { Listeners } from "./listeners.ts";
import { sameItems } from "./row_value.ts";
import type { InfiniteQuery, InfiniteQueryOptions, Unsubscribe } from "./types.ts";

/** What a query asks of its engine. */
export interface PageSource<R> {
  list(): readonly R[];
  subscribe(listener: () => void): Unsubscribe;
  /** Resolves when the condition holds, or when no further rows can be had now. */
  until(isMet: () => boolean): Promise<void>;
  onThrow(thrown: unknown): void;
}

/** Makes a query that shows no page yet. */
export function infiniteQuery<R>(
  source: PageSource<R>,
  { pageSize = 20, filter, order }: InfiniteQueryOptions<R>,
): InfiniteQuery<R> {
  if (!(Number.isInteger(pageSize) && pageSize > 0))
    throw new SynclineError("INVALID_QUERY", "`pageSize` must be a positive integer");
  const resized = new Listeners<void>(source.onThrow);
  let wanted = 0;
  /** What `matching` was made from. */
  let list: readonly R[] | undefined;
  let matching: readonly R[] = [];
  let data: readonly R[] = Object.freeze([]);

  const refreshed = (): readonly R[] => {
    const now = source.list();
    if (now !== list) {
      const kept = filter ? now.filter(filter) : now;
      // Sorting is stable and the list is in order of the ids.
      matching = order ? [...kept].sort(order) : kept;
      list = now;
    }
    return matching;
  };
  const resize = (rows: number): void => {
    wanted = rows;
    resized.emit();
  };

  return {
    get data() {
      const rows = refreshed().slice(0, wanted);
      if (!sameItems(rows, data)) data = Object.freeze(rows);
      return data;
    },
    get hasMore() {
      return refreshed().length > wanted;
    },
    async loadMore() {
      resize(wanted + pageSize);
      await source.until(() => refreshed().length >= wanted);
    },
    reset: () => resize(0),
    subscribe(listener) {
      let seen = this.data;
      const look = (): void => {
        const { data } = this;
        if (data === seen) return;
        seen = data;
        listener();
      };
      const ends = [source.subscribe(look), resized.add(look)];
      return () => {
        for (const end of ends) end();
      };
    },
  };
}
