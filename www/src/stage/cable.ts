// The network cable of one device. There are two devices in this page and one network in this browser, so each device's
// sockets and calls pass through a cable that can be cut: what is in flight is gone, and nobody tells the engine.

/** Between one device's engine and the server. */
export class Cable {
  readonly #tokens = new Set<string>();
  readonly #sockets = new Set<CuttableSocket>();
  #cut = false;

  constructor() {
    cables.add(this);
    plugIn();
  }

  get isCut(): boolean {
    return this.#cut;
  }

  /** Calls and sockets that name this token are the device's. */
  carry(token: string): void {
    this.#tokens.add(token);
  }

  /** Whatever was sent may or may not have arrived; whatever was to be received will not. */
  cut(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.sever();
    this.#sockets.clear();
  }

  /** The network is back, which browsers tell a page in the same words. */
  mend(): void {
    this.#cut = false;
    dispatchEvent(new Event("online"));
  }

  carries(credentials: string): boolean {
    for (const token of this.#tokens) if (credentials.includes(token)) return true;
    return false;
  }

  hold(socket: CuttableSocket): void {
    this.#sockets.add(socket);
    socket.addEventListener("close", () => this.#sockets.delete(socket));
  }
}

/** Calls the server past all cables: the page itself is no device. */
export const uncutFetch: typeof fetch = globalThis.fetch.bind(globalThis);

const cables = new Set<Cable>();
const NativeSocket = globalThis.WebSocket;

/** A socket that can lose its network: it says `close` as one that nobody answers any more, and nothing after that. */
class CuttableSocket extends NativeSocket {
  #severed = false;

  constructor(url: string | URL, protocols: string | string[] = []) {
    super(url, protocols);
    // The first listeners there are, so that they can keep everything from those that follow.
    for (const type of ["open", "message", "error", "close"]) {
      this.addEventListener(type, (event) => {
        if (this.#severed && event.isTrusted) event.stopImmediatePropagation();
      });
    }
  }

  override send(data: Parameters<WebSocket["send"]>[0]): void {
    if (!this.#severed) super.send(data);
  }

  sever(): void {
    this.#severed = true;
    this.close();
    this.dispatchEvent(lostConnection());
  }
}

/** What a browser gives when there is no network: a socket that fails as soon as somebody listens. */
class DeadSocket extends EventTarget {
  readonly readyState = NativeSocket.CLOSED;
  readonly bufferedAmount = 0;
  onopen: ((event: Event) => void) | null = null;
  onmessage: ((event: Event) => void) | null = null;
  onerror: ((event: Event) => void) | null = null;
  onclose: ((event: Event) => void) | null = null;

  constructor() {
    super();
    queueMicrotask(() => {
      this.onerror?.(new Event("error"));
      const closed = lostConnection();
      this.onclose?.(closed);
      this.dispatchEvent(closed);
    });
  }

  send(): void {
    // Nothing leaves a device without a network.
  }

  close(): void {
    // It is closed.
  }
}

/** Puts the cables in place of the browser's own network, once. */
function plugIn(): void {
  if (globalThis.WebSocket !== NativeSocket) return;
  globalThis.fetch = async (input, init) => {
    const given = init?.headers ?? (input instanceof Request ? input.headers : undefined);
    const credentials = new Headers(given).get("authorization") ?? "";
    if (cableOf(credentials)?.isCut === true) throw new TypeError("the network of this device is cut");
    return uncutFetch(input, init);
  };
  globalThis.WebSocket = new Proxy(NativeSocket, {
    construct(_, [url, protocols]: [string | URL, string | string[] | undefined]) {
      const cable = cableOf(String(protocols ?? ""));
      if (cable === undefined) return new NativeSocket(url, protocols);
      if (cable.isCut) return new DeadSocket();
      const socket = new CuttableSocket(url, protocols);
      cable.hold(socket);
      return socket;
    },
  });
}

function cableOf(credentials: string): Cable | undefined {
  for (const cable of cables) if (cable.carries(credentials)) return cable;
  return undefined;
}

function lostConnection(): CloseEvent {
  return new CloseEvent("close", { code: 1006, wasClean: false });
}
