// A server by hand: gives the answers it is told to give, whatever they are, and notes what it was asked.

import { createHash } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";

/** What a call by HTTP is answered. */
export interface HttpAnswer {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

/** One client's socket. */
export interface WireSocket {
  send(message: object | string | Uint8Array): void;
  close(code: number, reason?: string): void;
}

/** A message of a client. */
export type Message = { readonly type: string } & Record<string, unknown>;

export interface WireServer {
  readonly url: string;
  /** Everything that was asked, in order: `GET /path`, `WS /path`. */
  readonly asked: string[];
  /** The `Authorization` of each call by HTTP. */
  readonly tokens: (string | undefined)[];
  close(): void;
}

/** What it does. Without `hear` every socket is refused with the answer that HTTP gets. */
export interface Behaviour {
  answer(path: string): HttpAnswer;
  hear?(message: Message, socket: WireSocket): void;
}

export async function wireServer(behaviour: Behaviour): Promise<WireServer> {
  const asked: string[] = [];
  const tokens: (string | undefined)[] = [];
  const open = new Set<Duplex>();
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url?.split("?")[0]}`);
    tokens.push(request.headers.authorization);
    const { status = 200, headers = {}, body = "" } = behaviour.answer(request.url ?? "");
    response.writeHead(status, { connection: "close", ...headers }).end(body);
  });
  server.on("upgrade", (request, stream) => {
    asked.push(`WS ${request.url}`);
    open.add(stream);
    stream.on("error", () => {});
    stream.on("close", () => open.delete(stream));
    const { hear } = behaviour;
    if (hear === undefined) refuse(stream, behaviour.answer(request.url ?? ""));
    else accept(request, stream, hear);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const close = (): void => {
    for (const stream of open) stream.destroy();
    server.close();
  };
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked, tokens, close };
}

function refuse(stream: Duplex, { status = 200, headers = {}, body = "" }: HttpAnswer): void {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  stream.end(`HTTP/1.1 ${status} As told\r\n${lines.join("")}connection: close\r\n\r\n${body}`);
}

/** RFC 6455, as far as short messages of a well-behaved client need it. */
function accept(request: IncomingMessage, stream: Duplex, hear: NonNullable<Behaviour["hear"]>): void {
  const key = `${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  const answer = createHash("sha1").update(key).digest("base64");
  stream.write(
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n" +
      `sec-websocket-protocol: syncline.1\r\nsec-websocket-accept: ${answer}\r\n\r\n`,
  );
  const write = (opcode: number, payload: Uint8Array): void => {
    const length = payload.length < 126 ? [payload.length] : [126, payload.length >> 8, payload.length & 255];
    stream.write(Buffer.concat([Buffer.from([0x80 | opcode, ...length]), payload]));
  };
  const socket: WireSocket = {
    send: (message) =>
      message instanceof Uint8Array
        ? write(2, message)
        : write(1, Buffer.from(typeof message === "string" ? message : JSON.stringify(message))),
    close: (code, reason = "") => {
      write(8, Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]));
      stream.end();
    },
  };
  let buffered: Buffer = Buffer.alloc(0);
  stream.on("data", (chunk: Buffer) => {
    buffered = Buffer.concat([buffered, chunk]);
    for (let frame = takeFrame(buffered); frame !== undefined; frame = takeFrame(buffered)) {
      buffered = frame.rest;
      if (frame.opcode === 1) hear(JSON.parse(frame.text) as Message, socket);
      else stream.end();
    }
  });
}

function takeFrame(bytes: Buffer): { opcode: number; text: string; rest: Buffer } | undefined {
  if (bytes.length < 8) return undefined;
  const short = bytes.readUInt8(1) & 127;
  const head = short < 126 ? 2 : short === 126 ? 4 : 10;
  const length =
    short < 126 ? short : short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  const end = head + 4 + length;
  if (bytes.length < end) return undefined;
  const mask = bytes.subarray(head, head + 4);
  const payload = bytes.subarray(head + 4, end).map((byte, index) => byte ^ (mask[index % 4] ?? 0));
  return {
    opcode: bytes.readUInt8(0) & 15,
    text: Buffer.from(payload).toString(),
    rest: bytes.subarray(end),
  };
}

/** An address at which nothing listens. */
export const NOWHERE = "http://127.0.0.1:9";

/** A server's greeting to whoever said `hello`. */
export function welcome(hello: Message, more: object = {}): object {
  return {
    type: "welcome",
    protocol: 1,
    identity: hello.identity,
    epoch: "e",
    head: 0,
    resume: "pull",
    outcome_floor: 0,
    server_time: Date.now(),
    heartbeat_ms: 20_000,
    ...more,
  };
}

/** The answer to a first pull: there is nothing yet. */
export const NOTHING: HttpAnswer = {
  headers: { "content-type": "application/json" },
  body: JSON.stringify({
    scope: "all",
    from: 0,
    to: 0,
    cursor: { last_seq: 0, token: "t0" },
    has_more: false,
    snapshot: { start: true, end: true },
    changes: [],
    transactions: [],
    checksum: "0000000000000000",
  }),
};
