// The buttons that kill and restart the server. `cargo xtask demo` keeps an endpoint for them and prints an address that
// ends with where it is and with this run's token; under any other server there are no such buttons.

import { uncutFetch } from "./cable.ts";

/** The server process as its supervisor sees it. */
export class Control {
  readonly #origin: string;
  readonly #token: string;

  private constructor(origin: string, token: string) {
    this.#origin = origin;
    this.#token = token;
  }

  /** What the address names, now or before this tab was reloaded. The token does not stay in the address. */
  static fromAddress(): Control | null {
    const named = ADDRESS.exec(location.hash);
    if (named !== null) {
      sessionStorage.setItem(STORAGE_KEY, location.hash);
      history.replaceState(null, "", location.pathname + location.search);
    }
    const [, port, token] = named ?? ADDRESS.exec(sessionStorage.getItem(STORAGE_KEY) ?? "") ?? [];
    if (port === undefined || token === undefined) return null;
    return new Control(`http://127.0.0.1:${port}`, token);
  }

  /** Whether the server runs, or `null` when nobody supervises it any more. */
  async running(): Promise<boolean | null> {
    return this.#call("GET", "state");
  }

  /** Ends the server with SIGKILL: no signal that it could handle, no time to write anything. */
  async kill(): Promise<boolean | null> {
    return this.#call("POST", "kill");
  }

  /** Starts it again on the same database; settles when it answers. */
  async start(): Promise<boolean | null> {
    return this.#call("POST", "start");
  }

  async #call(method: string, what: string): Promise<boolean | null> {
    const headers = { Authorization: `Bearer ${this.#token}` };
    try {
      const response = await uncutFetch(`${this.#origin}/${what}`, { method, headers });
      if (!response.ok) return null;
      const answer: { readonly running?: unknown } = await response.json();
      return answer.running === true;
    } catch {
      return null;
    }
  }
}

const ADDRESS = /^#control=(\d{1,5})\.([0-9a-f]{32})$/;
const STORAGE_KEY = "syncline_chat_control";
