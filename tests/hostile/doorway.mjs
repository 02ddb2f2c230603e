// What stands between a page and its servers, and misbehaves when told: a proxy over loopback that speaks HTTP and WebSocket.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, request } from "node:http";
import { connect } from "node:net";

const HTML = "<!doctype html><title>Welcome</title><h1>Accept our terms to use this network</h1>";
/** RFC 6455, section 1.3. */
const HANDSHAKE_KEY = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const CLOSE_PROTOCOL_VERSION = 4426;

/**
 * How a doorway answers what is meant for the API; files always come from the first server.
 * - `pass`: as the server that `choose(request)` gives does; `request` is method and path
 * - `html`: with a page, whatever was asked
 * - `redirect`: with a redirection to a page of another origin
 * - `next-version`: as a server would that speaks another version of the protocol
 * - `html-module`: as `pass`, but the WebAssembly module is a page
 */
export class Doorway {
  #first;
  #http;
  #portal;
  #sockets = new Set();
  #waiting = [];
  /** Requests and sockets for the API since the mode was set. */
  requests = [];
  mode = "pass";
  choose;

  static async open(servers) {
    const doorway = new Doorway();
    doorway.#first = servers[0];
    doorway.choose = () => servers[0];
    doorway.#http = createServer((incoming, answer) => doorway.#answer(incoming, answer));
    doorway.#http.on("upgrade", (incoming, socket, head) => doorway.#upgrade(incoming, socket, head));
    doorway.#portal = createServer((_, answer) => page(answer));
    for (const server of [doorway.#http, doorway.#portal]) {
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
    }
    return doorway;
  }

  get url() {
    return `http://127.0.0.1:${this.#http.address().port}`;
  }

  /** Misbehaves in this way from now on; open connections are cut. */
  become(mode, choose = () => this.#first) {
    this.mode = mode;
    this.choose = choose;
    this.requests = [];
    for (const socket of this.#sockets) socket.destroy();
  }

  async close() {
    this.become("html");
    for (const server of [this.#http, this.#portal]) {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    }
  }

  #answer(incoming, answer) {
    const isApi = incoming.url.startsWith("/api/");
    if (this.mode === "html-module" && incoming.url.endsWith(".wasm")) return page(answer);
    if (!isApi) return forward(this.#first, incoming, answer);
    this.#note(incoming);
    switch (this.mode) {
      case "html":
        return page(answer);
      case "redirect":
        answer.writeHead(302, { Location: `http://127.0.0.1:${this.#portal.address().port}/login` });
        return answer.end();
      case "next-version":
        answer.writeHead(400, { "Content-Type": "application/json" });
        return answer.end('{"error":{"code":"PROTOCOL_MISMATCH","message":"this server speaks version 2"}}');
      default:
        return forward(this.#chosen(), incoming, answer);
    }
  }

  #upgrade(incoming, socket, head) {
    this.#note(incoming);
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    if (this.mode === "html" || this.mode === "redirect") {
      return socket.end(`HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n${HTML}`);
    }
    if (this.mode === "next-version") return refuseVersion(incoming, socket);
    const { hostname, port } = new URL(this.#chosen().url);
    const upstream = connect(Number(port), hostname, () => {
      upstream.write(`GET ${incoming.url} HTTP/1.1\r\n${headerLines(incoming.rawHeaders)}\r\n`);
      upstream.write(head);
      socket.pipe(upstream).pipe(socket);
    });
    upstream.on("error", () => socket.destroy());
    upstream.on("close", () => socket.destroy());
    socket.on("close", () => upstream.destroy());
  }

  /** Resolves when the requests are as wanted. */
  async until(isWanted, msMax) {
    const late = AbortSignal.timeout(msMax);
    while (!isWanted(this.requests)) {
      await new Promise((resolve, reject) => {
        this.#waiting.push(resolve);
        late.addEventListener("abort", () => reject(new Error(`no more requests after ${this.requests}`)));
      });
    }
  }

  #note({ method, url }) {
    this.requests.push(`${method} ${url.split("?")[0]}`);
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #chosen() {
    return this.choose(this.requests.at(-1));
  }
}

function page(answer) {
  answer.writeHead(200, { "Content-Type": "text/html" });
  answer.end(HTML);
}

function forward(server, incoming, answer) {
  const { method, url, headers } = incoming;
  const outgoing = request(new URL(url, server.url), { method, headers });
  outgoing.on("response", (response) => {
    answer.writeHead(response.statusCode, response.headers);
    response.pipe(answer);
  });
  outgoing.on("error", () => answer.destroy());
  answer.on("close", () => outgoing.destroy());
  incoming.pipe(outgoing);
}

/** Opens the socket as asked and closes it with the code for another version. */
function refuseVersion(incoming, socket) {
  const accept = createHash("sha1")
    .update(incoming.headers["sec-websocket-key"] + HANDSHAKE_KEY)
    .digest("base64");
  socket.write(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
      `Sec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: syncline.1\r\n\r\n`,
  );
  const close = Buffer.from([0x88, 2, 0, 0]);
  close.writeUInt16BE(CLOSE_PROTOCOL_VERSION, 2);
  socket.write(close);
  socket.resume();
}

function headerLines(raw) {
  let lines = "";
  for (let at = 0; at < raw.length; at += 2) lines += `${raw[at]}: ${raw[at + 1]}\r\n`;
  return lines;
}
