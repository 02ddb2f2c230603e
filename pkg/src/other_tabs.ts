// What the tabs of one application tell each other about their sessions, and what the browser tells a tab of the others.
//
// Tokens are named by their hashes, but for the one that takes the place of another; none is stored.

import type { Identity } from "./types.ts";

export type TabNews =
  /** A tab left its session: whose it was, by which token, and by which one it goes on. */
  | {
      readonly type: "left";
      readonly identity: Identity | null;
      readonly token: string | undefined;
      readonly next: string | undefined;
    }
  /** There is another token for a session that goes on. */
  | { readonly type: "renewed"; readonly identity: Identity; readonly token: string };

/** The other tabs. Where pages cannot talk to each other nobody is told, and nothing is heard. */
export class OtherTabs {
  readonly #name: string;
  readonly #onNews: (news: TabNews) => void;
  readonly #onCached: (isBack: boolean) => void;
  readonly #onStored: () => void;
  #channel: BroadcastChannel | undefined;

  /**
   * `onCached` hears that this page goes into the cache of the browser, and that it is shown again; `onStored`, that another
   * tab changed what is in `localStorage`.
   */
  constructor(
    appName: string,
    onNews: (news: TabNews) => void,
    onCached: (isBack: boolean) => void,
    onStored: () => void,
  ) {
    this.#name = `syncline_${appName}`;
    this.#onNews = onNews;
    this.#onCached = onCached;
    this.#onStored = onStored;
  }

  listen(): void {
    // Node has channels, too, but its sessions are nobody else's.
    if (globalThis.location === undefined || this.#channel !== undefined) return;
    try {
      const channel = new BroadcastChannel(this.#name);
      channel.onmessage = ({ data }) => this.#onNews(Object(data) as TabNews);
      this.#channel = channel;
    } catch {
      // Opaque origins have none.
    }
    for (const type of PAGE_EVENTS) globalThis.addEventListener?.(type, this.#onPage, true);
  }

  tell(news: TabNews): void {
    this.#channel?.postMessage(news);
  }

  close(): void {
    for (const type of PAGE_EVENTS) globalThis.removeEventListener?.(type, this.#onPage, true);
    this.#channel?.close();
    this.#channel = undefined;
  }

  readonly #onPage = (event: Event): void => {
    if (event.type === "storage") this.#onStored();
    else if ((event as PageTransitionEvent).persisted) this.#onCached(event.type === "pageshow");
  };
}

const PAGE_EVENTS = ["pagehide", "pageshow", "storage"] as const;

/** Has one tab at a time do something; where there are no locks, or they do not come, each does it by itself. */
export async function oneTabAtATime<T>(name: string, work: () => Promise<T>): Promise<T> {
  let working: Promise<T> | undefined;
  const begin = (): Promise<T> => {
    working ??= work();
    return working;
  };
  try {
    return await navigator.locks.request(name, { signal: AbortSignal.timeout(LOCK_MS_MAX) }, begin);
  } catch {
    return begin();
  }
}

/** A frozen tab keeps what it holds. */
const LOCK_MS_MAX = 5_000;
