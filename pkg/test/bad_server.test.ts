// The built package in Node against what should be a server and is none, or another one than it should be.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { Status, SyncEngine } from "../src/types.ts";
import {
  type Behaviour,
  type HttpAnswer,
  type Message,
  NOTHING,
  NOWHERE,
  type WireServer,
  type WireSocket,
  welcome,
  wireServer,
} from "./wire_server.ts";

const name: string = "syncline";
const { createSyncEngine, SynclineError } = (await import(name)) as typeof import("../src/index.ts");

interface Todos {
  todo: { title: string; n?: number };
}

const HTML: HttpAnswer = {
  headers: { "content-type": "text/html" },
  body: "<!doctype html><title>Welcome to our Wi-Fi</title>",
};

const servers: WireServer[] = [];
const engines: SyncEngine<Todos>[] = [];
after(async () => {
  await Promise.all(engines.map((engine) => engine.stop()));
  for (const server of servers) server.close();
});

async function serve(behaviour: Behaviour): Promise<WireServer> {
  const server = await wireServer(behaviour);
  servers.push(server);
  return server;
}

/** An engine with one write that waits, and that tries again only after ten minutes. */
async function startAt(url: string, token?: string, getToken?: () => string): Promise<SyncEngine<Todos>> {
  const engine = createSyncEngine<Todos>(url, { token, getToken, reconnectDelay: 600_000 });
  engines.push(engine);
  await engine.start();
  const write = engine.insert("todo", { id: "mine", title: "must not be lost" });
  if (engine.status.identity !== null) await write;
  else write.catch(() => {});
  return engine;
}

function reached(engine: SyncEngine<Todos>, isMet: (status: Status) => boolean): Promise<Status> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (!isMet(engine.status)) return;
      unsubscribe();
      resolve(engine.status);
    };
    const unsubscribe = engine.onStatus(look);
    queueMicrotask(look);
  });
}

/** Waits until it has given up for now; then nothing may be lost, and nobody was asked more often than needed. */
async function givesUp(
  engine: SyncEngine<Todos>,
  server: WireServer,
  code: string,
  asked: string[],
): Promise<void> {
  const status = await reached(engine, ({ connection }) => connection.state === "waiting");
  assert.equal(status.lastError?.code, code, status.lastError?.message);
  assert.deepEqual(server.asked, asked);
  keeps(engine);
}

function keeps(engine: SyncEngine<Todos>): void {
  assert.equal(engine.store.get("todo", "mine")?.title, "must not be lost");
  assert.deepEqual(
    engine.mutations.list().map(({ changes }) => changes[0]?.rowId),
    ["mine"],
  );
}

function greet(message: Message, socket: WireSocket): void {
  if (message.type === "hello") socket.send(welcome(message));
}

function coded(wanted: string): (error: unknown) => boolean {
  return (error) => error instanceof SynclineError && error.code === wanted;
}

/** Lets everything that is ready to run do so. */
function settled(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

const ME = "GET /api/auth/me";
const SOCKET = "WS /api/sync/ws";
const PULL = "GET /api/sync/pull";

const answered = (body: string, status = 200): HttpAnswer => ({ status, body });

test("HTML or malformed JSON instead of who the session is", async () => {
  for (const answer of [HTML, answered("{"), answered('{"user_id":1}'), answered("<html>", 502)]) {
    const server = await serve({ answer: () => answer });
    await givesUp(await startAt(server.url, "t"), server, "UNEXPECTED_RESPONSE", [ME]);
  }
});

test("HTML instead of a socket, and on it", async () => {
  const refusing = await serve({ answer: () => HTML });
  await givesUp(await startAt(refusing.url), refusing, "NETWORK_UNAVAILABLE", [SOCKET]);
  const talking = await serve({ answer: () => HTML, hear: (_, socket) => socket.send("<html>") });
  await givesUp(await startAt(talking.url), talking, "INVALID_FRAME", [SOCKET]);
});

test("HTML or malformed JSON instead of a page", async () => {
  for (const answer of [HTML, answered("{"), answered('{"changes":[]}')]) {
    const server = await serve({ answer: () => answer, hear: greet });
    await givesUp(await startAt(server.url), server, "UNEXPECTED_RESPONSE", [SOCKET, PULL]);
  }
});

test("a captive portal: nothing is taken from it, and it never sees the token", async () => {
  const portal = await serve({ answer: () => HTML });
  const redirect: HttpAnswer = { status: 302, headers: { location: `${portal.url}/login` } };
  const server = await serve({ answer: () => redirect });
  await givesUp(await startAt(server.url, "secret"), server, "UNEXPECTED_RESPONSE", [ME]);
  assert.deepEqual([portal.asked, portal.tokens], [["GET /login"], [undefined]]);
  assert.deepEqual(server.tokens, ["Bearer secret"]);
  await givesUp(await startAt(server.url), server, "NETWORK_UNAVAILABLE", [ME, SOCKET]);
  // It comes while a snapshot is fetched.
  const late = await serve({ answer: () => redirect, hear: greet });
  await givesUp(await startAt(late.url), late, "UNEXPECTED_RESPONSE", [SOCKET, PULL]);
});

test("a token with odd characters is used as it is, or refused with a code and nobody asked", async () => {
  const refusal = answered('{"error":{"code":"UNAUTHENTICATED","message":"unknown"}}', 401);
  const server = await serve({ answer: () => refusal });
  for (const [token, asked] of [
    ['a b(c)"=,;', [ME]],
    ["\u00e9", [ME]],
    ["\u65e5\u672c", []],
    ["line\nbreak", []],
    ["nul\0", []],
  ] as const) {
    let needs = 0;
    const engine = await startAt(server.url, token, () => {
      needs += 1;
      return token;
    });
    const status = await reached(engine, ({ connection }) => connection.state === "unauthorized");
    await settled();
    assert.deepEqual([status.lastError?.code, server.asked.splice(0), needs], ["UNAUTHENTICATED", asked, 1]);
    keeps(engine);
  }
});

test("a gateway that answers 401 with a page has the application asked for a token, once", async () => {
  const server = await serve({ answer: () => ({ ...HTML, status: 401 }) });
  let needs = 0;
  const engine = await startAt(server.url, "stale", () => {
    needs += 1;
    return "also stale";
  });
  const isOver = ({ connection }: Status): boolean => connection.state === "unauthorized" && needs > 0;
  assert.equal((await reached(engine, isOver)).lastError?.code, "UNAUTHENTICATED");
  // The token that it gave is tried, and nothing after it.
  await reached(engine, ({ connection }) => connection.state === "connecting");
  await reached(engine, isOver);
  await settled();
  assert.deepEqual(
    [server.asked, server.tokens, needs],
    [[ME, ME], ["Bearer stale", "Bearer also stale"], 1],
  );
  keeps(engine);
});

test("an empty token is none, and one that is too long is refused before it is sent", async () => {
  const known = answered('{"user_id":"ada","tenant_id":null}');
  const server = await serve({ answer: () => known, hear: (hello, socket) => socket.send(welcome(hello)) });
  const anonymous = await startAt(server.url, "");
  assert.deepEqual(anonymous.resolvedSession(), { userId: null, tenantId: null });
  await anonymous.stop();
  server.asked.splice(0);
  const engine = await startAt(server.url, "x".repeat(5000));
  const status = await reached(engine, ({ connection }) => connection.state === "unauthorized");
  assert.deepEqual([status.lastError?.code, server.asked], ["TOKEN_TOO_LONG", [ME]]);
  keeps(engine);
});

test("a row of more than 1 MiB is refused before it is queued", async () => {
  const engine = createSyncEngine<Todos>(NOWHERE, { persist: false });
  engines.push(engine);
  engine.pause();
  await engine.start();
  const title = "x".repeat(1024 * 1024);
  assert.throws(() => engine.insert("todo", { title }), coded("ROW_TOO_LARGE"));
  const id = await engine.insert("todo", { title: "small" });
  assert.throws(() => engine.update("todo", id, { title }), coded("ROW_TOO_LARGE"));
  assert.deepEqual([engine.store.get("todo", id)?.title, engine.mutations.list().length], ["small", 1]);
});

test("a write that the server's schema refuses fails with its code, is kept, and can be discarded", async () => {
  for (const code of ["ENTITY_NOT_FOUND", "UNKNOWN_FIELD", "TYPE_MISMATCH", "MISSING_FIELD"]) {
    let pushes = 0;
    const server = await serve({
      answer: () => NOTHING,
      hear: (message, socket) => {
        greet(message, socket);
        if (message.type !== "push") return;
        pushes += 1;
        const results = (message.transactions as { op_id: string }[]).map(({ op_id }) => ({
          op_id,
          status: "rejected",
          replayed: false,
          error: { code, message: "todo has no such thing" },
        }));
        socket.send({ type: "outcomes", id: message.id, results });
      },
    });
    const engine = await startAt(server.url);
    await reached(engine, ({ failed }) => failed === 1);
    const [failed] = engine.mutations.list();
    assert.deepEqual([failed?.status, failed?.error?.code, pushes], ["failed", code, 1]);
    assert.deepEqual(failed?.changes[0]?.data, { title: "must not be lost" });
    assert.equal(engine.store.get("todo", "mine"), undefined);
    engine.mutations.remove(failed?.opId ?? "");
    assert.deepEqual([engine.mutations.list().length, engine.status.failed], [0, 0]);
  }
});

test("a server of another protocol version is left alone until the application says otherwise", async () => {
  for (const hear of [
    (hello: Message, socket: WireSocket) => socket.send(welcome(hello, { protocol: 2 })),
    (_: Message, socket: WireSocket) => socket.close(4426, "PROTOCOL_MISMATCH"),
  ]) {
    const server = await serve({ answer: () => HTML, hear });
    const engine = await startAt(server.url);
    const isOver = ({ connection }: Status): boolean => connection.state === "incompatible";
    assert.equal((await reached(engine, isOver)).lastError?.code, "PROTOCOL_MISMATCH");
    assert.deepEqual(server.asked, [SOCKET]);
    keeps(engine);
    await assert.rejects(engine.push(), coded("PROTOCOL_MISMATCH"));
    engine.resume();
    await reached(engine, ({ connection }) => connection.state === "connecting");
    await reached(engine, isOver);
    assert.deepEqual(server.asked, [SOCKET, SOCKET]);
  }
});

test("a binary frame is the application's, and the connection goes on", async () => {
  const frame = new Uint8Array([1, 2, 255]);
  const server = await serve({
    answer: () => NOTHING,
    hear: (message, socket) => {
      greet(message, socket);
      if (message.type === "resume") socket.send(frame);
    },
  });
  const engine = await startAt(server.url);
  const heard = await new Promise<Uint8Array>((resolve) => {
    engine.onBinaryFrame(resolve);
  });
  assert.deepEqual([heard, engine.status.connection.state], [frame, "live"]);
});
