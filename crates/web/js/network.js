// The network of one engine: one WebSocket, and GET requests with the bearer token.

/** @typedef {import("./page.js").OnEvent} OnEvent */

// What it tells WebAssembly. `event.rs` reads these numbers.
const SOCKET_OPENED = 20;
const SOCKET_CLOSED = 21;
const RECEIVED = 22;

/** The code of a connection that broke without one (RFC 6455 §7.1.5). */
const ABNORMAL = 1006;
/** The status of a server that does not accept a token. */
const UNAUTHENTICATED = 401;

export class Network {
  /** @type {OnEvent} */
  #onEvent;
  /** @type {WebSocket | undefined} */
  #socket;
  /** @type {Map<number, AbortController>} The GET requests under way: one of each kind. */
  #gets = new Map();
  /** What becomes of binary frames: the wire has none, so they are the application's. */
  onBinary = (/** @type {Uint8Array} */ _frame) => {};

  /** @param {OnEvent} onEvent */
  constructor(onEvent) {
    this.#onEvent = onEvent;
  }

  /**
   * Begins to connect, in place of a socket that may still exist.
   * @param {string} url
   * @param {string} protocol
   * @param {string | undefined} bearer The token as a subprotocol.
   * @returns {string | undefined} Why there is no socket: no such interface, a malformed address, a policy of the page.
   */
  openSocket(url, protocol, bearer) {
    this.closeSocket();
    try {
      const socket = new WebSocket(url, bearer === undefined ? [protocol] : [protocol, bearer]);
      this.#socket = socket;
      socket.onopen = () => this.#onEvent(SOCKET_OPENED, "");
      socket.binaryType = "arraybuffer";
      socket.onmessage = ({ data }) =>
        typeof data === "string" ? this.#onEvent(RECEIVED, data) : this.onBinary(new Uint8Array(data));
      // Browsers say `close` after every `error`; Node 20 says nothing more when the server refuses the socket.
      socket.onerror = () => this.#onEvent(SOCKET_CLOSED, "", undefined, ABNORMAL);
      socket.onclose = ({ code, reason }) => this.#onEvent(SOCKET_CLOSED, reason, undefined, code);
    } catch (thrown) {
      return String(thrown);
    }
    return undefined;
  }

  /**
   * Sends a message. A socket that is closing would drop it, with a line in the console, and says `close` later.
   * @param {string} message
   */
  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(message);
  }

  /**
   * Closes and forgets the socket: what it still says is lost, which is what the core expects.
   * @param {number} [code] 1000, or 3000 to 4999.
   */
  closeSocket(code) {
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket === undefined) return;
    socket.onopen = socket.onmessage = socket.onerror = socket.onclose = null;
    socket.close(code);
  }

  /**
   * GETs an address; the answer comes as the event `kind`, with status 0 if there was none. Redirects are followed, and
   * the page of HTML they may lead to is an answer like any other: the core judges status and body.
   *
   * A request of the same kind that is still under way was given up by the core: it is aborted, and nothing is said.
   * @param {number} kind
   * @param {number} id
   * @param {string} url
   * @param {string | undefined} token
   */
  async get(kind, id, url, token) {
    this.abort(kind);
    const controller = new AbortController();
    const { signal } = controller;
    this.#gets.set(kind, controller);
    const headers = authorized(token);
    let status = headers === undefined ? UNAUTHENTICATED : 0;
    let retryAfterMs = 0;
    /** @type {Uint8Array | undefined} */
    let body;
    try {
      // No cookies: a session is its token, and nothing else.
      const answer = await (headers &&
        fetch(url, { headers, signal, credentials: "omit", cache: "no-store" }));
      if (answer !== undefined) {
        // Bytes are copied once; a text would be decoded to UTF-16 first and encoded again, for pages of up to 4 MiB.
        body = new Uint8Array(await answer.arrayBuffer());
        retryAfterMs = toWaitMs(answer.headers.get("retry-after") ?? "");
        status = answer.status;
      }
    } catch {
      // There was no answer.
    }
    if (!signal.aborted) this.#onEvent(kind, "", body, id, status, retryAfterMs);
  }

  /**
   * Ends the GET request of this kind.
   * @param {number} kind
   */
  abort(kind) {
    this.#gets.get(kind)?.abort();
  }

  /** Lets go of everything. */
  close() {
    for (const get of this.#gets.values()) get.abort();
    this.closeSocket();
  }
}

/**
 * Hands the bytes of an answer to WebAssembly.
 * @param {Uint8Array | undefined} body
 */
export function bodyBytes(body) {
  return body ?? new Uint8Array();
}

/**
 * Gives no headers for a token that none can carry, such as one with a line break: it is as good as one that is refused.
 * @param {string | undefined} token
 */
function authorized(token) {
  try {
    return new Headers(token === undefined ? {} : { authorization: `Bearer ${token}` });
  } catch {
    return undefined;
  }
}

/**
 * The header holds seconds, or a date (RFC 9110 §10.2.3).
 * @param {string} header
 */
function toWaitMs(header) {
  return /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
}
