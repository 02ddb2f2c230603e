// What a network, a device and a server can do to a page that nobody wished for. Each time: a coded error that the page can
// show, nothing lost, nothing doubled, and no endless loop.

import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { startChromium } from "../figures/stage/chromium.mjs";
import { serverProgram, startServer } from "../figures/stage/server.mjs";
import { makeSite } from "../figures/stage/site.mjs";
import { Doorway } from "./doorway.mjs";

const program = serverProgram();
/** First step of the engine's reconnect delay, so that a test sees many attempts. */
const RECONNECT_MS = 20;
const ATTEMPTS = 5;
/** What one attempt may ask at most: who am I, socket, two pulls, push. */
const REQUESTS_PER_ATTEMPT = 5;
const SOCKET = "GET /api/sync/ws";
/** A page that does not know its user asks for that first. */
const FIRST_OF_AN_ATTEMPT = [SOCKET, "GET /api/auth/me"];
const QUOTA_BYTES = 2_000_000;
const WAIT_MS_MAX = 60_000;

const SECRET = "thirty-two bytes are the least it takes";
const MANIFEST = `
[auth]
secret_env = "SYNCLINE_HOSTILE_SECRET"
[entities.todo]
fields = { title = "string" }
policies = { read = "signed-in", insert = "signed-in" }
`;

let folder;
let servers;
let doorway;
let contexts;
let tests = 0;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "syncline-hostile-"));
  await makeSite(join(folder, "site"));
  process.env.SYNCLINE_HOSTILE_SECRET = SECRET;
  await writeFile(join(folder, "syncline.toml"), MANIFEST);
});

after(() => rm(folder, { recursive: true, force: true }));

beforeEach(async () => {
  tests += 1;
  contexts = [];
  servers = [await serve("a"), await serve("b")];
  doorway = await Doorway.open(servers);
});

afterEach(async () => {
  for (const context of contexts) await context.close();
  await doorway.close();
  for (const server of servers) await server.stop();
});

// A socket that does not open says no more than that, whatever answered in its place.
test("a page of HTML in the place of every answer", () => interrupted("html", "NETWORK_UNAVAILABLE"));

test("a captive portal that redirects to a page of its own", () =>
  interrupted("redirect", "NETWORK_UNAVAILABLE"));

test("HTML before the server ever said who the user is", async () => {
  const token = jwt("ann");
  const page = await visit();
  doorway.become("html");
  await start(page, { token });
  await attempts();
  const { identity, lastError } = await page.evaluate(() => window.engine.status);
  assert.deepEqual([identity, lastError.code], [null, "UNEXPECTED_RESPONSE"]);
  await page.evaluate(() => window.insert("early"));
  doorway.become("pass");
  await confirmed(page);
  assert.deepEqual(await titles(servers[0], token), ["early"]);
});

test("a server that speaks another version of the protocol", async () => {
  const token = jwt("ann");
  const page = await visit();
  await start(page, { token });
  await until(page, () => window.engine.status.connection.state === "live");
  doorway.become("next-version");
  await until(page, () => window.engine.status.connection.state === "incompatible");
  assert.equal(await page.evaluate(() => window.engine.status.lastError.code), "PROTOCOL_MISMATCH");
  await page.evaluate(() => window.insert("kept"));
  await until(page, () => window.engine.status.pending === 1);
  assert.ok(doorway.requests.length <= REQUESTS_PER_ATTEMPT, String(doorway.requests));
  doorway.become("pass");
  await page.evaluate(() => window.engine.stop());
  await page.reload();
  await start(page, { token });
  await until(page, () => window.engine.status.synced && window.engine.status.pending === 0);
  assert.deepEqual(await titles(servers[0], token), ["kept"]);
});

test("two servers with other epochs behind one name, one after the other", async () => {
  const [first, second] = servers;
  const token = jwt("ann");
  await put(first, token, "of the first");
  await put(second, token, "of the second");
  const page = await visit();
  await start(page, { token });
  await shows(page, ["of the first"]);
  doorway.become("pass", () => second);
  await page.evaluate(() => window.insert("between"));
  await shows(page, ["between", "of the second"]);
  await confirmed(page);
  doorway.become("pass", () => first);
  await shows(page, ["of the first"]);
  assert.deepEqual(await titles(second, token), ["between", "of the second"]);
});

test("two servers with other epochs at once: one answers requests, the other sockets", async () => {
  const [first, second] = servers;
  const token = jwt("ann");
  await put(first, token, "of the first");
  const page = await visit();
  doorway.become("pass", (request) => (request === SOCKET ? second : first));
  await start(page, { token });
  await page.evaluate(() => window.insert("somewhere"));
  const pulls = (requests) => requests.filter((request) => request === "GET /api/sync/pull").length;
  await doorway.until((requests) => pulls(requests) >= ATTEMPTS, WAIT_MS_MAX);
  // It waits longer from one to the next, and says why.
  await until(page, () => window.engine.status.connection.state === "waiting");
  assert.equal(await page.evaluate(() => window.engine.status.lastError?.code), "RESYNC_REQUIRED");
  doorway.become("pass", () => first);
  await confirmed(page);
  const found = [await titles(first, token), await titles(second, token)];
  assert.deepEqual(found.flat().sort(), ["of the first", "somewhere"]);
});

test("a module that is a page of HTML", async () => {
  const token = jwt("ann");
  const page = await visit();
  doorway.become("html-module");
  const code = await startError(page, { token });
  assert.equal(code, "WASM_LOAD_FAILED");
  doorway.become("pass");
  await start(page, { token });
  await until(page, () => window.engine.status.connection.state === "live");
});

test("a token of odd characters is refused with a code and asked for once", async () => {
  for (const [token, code] of [
    ["ü ñ 漢 “quoted”; , = % \u00e9", "UNAUTHENTICATED"],
    ["line\nbreak", "UNAUTHENTICATED"],
    [" ", "UNAUTHENTICATED"],
    ["x".repeat(5000), "TOKEN_TOO_LONG"],
  ]) {
    const page = await visit();
    doorway.become("pass");
    const thrown = await startError(page, { token });
    if (thrown === null) await until(page, () => window.engine.status.connection.state === "unauthorized");
    const found = thrown ?? (await page.evaluate(() => window.engine.status.lastError.code));
    assert.equal(found, code, JSON.stringify(token));
    assert.ok(doorway.requests.length <= REQUESTS_PER_ATTEMPT, String(doorway.requests));
    await page.close();
  }
});

for (const [what, years] of [
  ["ten years fast", 10],
  ["forty years slow", -40],
]) {
  test(`a clock that is ${what}, then right`, async () => {
    const token = jwt("ann");
    const page = await visit(
      (offset) => {
        const now = Date.now;
        window.offset = offset;
        Date.now = () => now() + window.offset;
      },
      years * 365 * 24 * 3600 * 1000,
    );
    await start(page, { token });
    await page.evaluate(() => window.insert("wrong"));
    await confirmed(page);
    await page.evaluate(() => {
      window.offset = 0;
    });
    doorway.become("pass");
    await page.evaluate(() => window.insert("right"));
    await confirmed(page);
    assert.deepEqual(await titles(servers[0], token), ["right", "wrong"]);
    assert.equal(await page.evaluate(() => window.engine.status.failed), 0);
  });
}

for (const [what, breakIt] of [
  ["is missing", () => Object.defineProperty(window, "indexedDB", { value: undefined })],
  [
    "refuses to open",
    () => {
      IDBFactory.prototype.open = () => {
        throw new DOMException("not in a private window", "SecurityError");
      };
    },
  ],
  [
    "fails to open",
    () => {
      IDBFactory.prototype.open = () => {
        const request = new EventTarget();
        request.error = new DOMException("disk", "UnknownError");
        setTimeout(() => request.onerror?.({ preventDefault() {} }));
        request.addEventListener = (type, listener) =>
          type === "error" && setTimeout(() => listener(new Event("error")));
        return request;
      };
    },
  ],
]) {
  test(`an IndexedDB that ${what}: memory, and the page is told`, async () => {
    const token = jwt("ann");
    await put(servers[0], token, "there before");
    const page = await visit(breakIt);
    await start(page, { token });
    await until(page, () => window.engine.status.storage.kind === "memory");
    const storage = await page.evaluate(() => window.engine.status.storage);
    assert.ok(storage.reason.length > 5, storage.reason);
    assert.deepEqual(await page.evaluate(() => window.errors), ["STORAGE_UNAVAILABLE"]);
    await page.evaluate(() => window.insert("in memory"));
    await confirmed(page);
    await shows(page, ["in memory", "there before"]);
    assert.deepEqual(await titles(servers[0], token), ["in memory", "there before"]);
  });
}

test("a quota that is used up keeps every write, on this page and then on the server", async () => {
  const token = jwt("ann");
  const page = await visit();
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Storage.overrideQuotaForOrigin", { origin: doorway.url, quotaSize: QUOTA_BYTES });
  await start(page, { token });
  await until(page, () => window.engine.status.connection.state === "live");
  await page.evaluate(() => window.engine.pause());
  // Each is a fifth of it, also after compression.
  const wanted = Array.from({ length: 20 }, () =>
    randomBytes((QUOTA_BYTES / 5 / 4) * 3).toString("base64"),
  ).sort();
  await page.evaluate((texts) => window.insert(...texts), wanted);
  await until(page, () => window.engine.status.storage.kind === "memory");
  assert.match(await page.evaluate(() => window.engine.status.storage.reason), /quota|full|space/i);
  assert.ok((await page.evaluate(() => window.errors)).includes("STORAGE_FULL"));
  await shows(page, wanted);
  await devtools.send("Storage.overrideQuotaForOrigin", { origin: doorway.url });
  await page.evaluate(() => window.engine.resume());
  await until(page, () => window.engine.status.pending === 0);
  assert.deepEqual(await titles(servers[0], token), wanted);
});

/** A page that is live, then meets what `mode` says, writes, and is let through again. */
async function interrupted(mode, code) {
  const token = jwt("ann");
  const page = await visit();
  await start(page, { token });
  await until(page, () => window.engine.status.connection.state === "live");
  doorway.become(mode);
  await page.evaluate(() => window.insert("one", "two", "three"));
  const counted = await attempts();
  assert.ok(counted <= ATTEMPTS * REQUESTS_PER_ATTEMPT, `${counted} requests`);
  await until(page, () => window.engine.status.lastError !== null);
  assert.equal(await page.evaluate(() => window.engine.status.lastError.code), code);
  assert.equal(await page.evaluate(() => window.engine.status.pending), 3);
  doorway.become("pass");
  await confirmed(page);
  assert.deepEqual(await titles(servers[0], token), ["one", "three", "two"]);
}

/** A server with a database of its own; all take the tokens of one issuer. */
function serve(name) {
  const db = join(folder, `${tests}-${name}.db`);
  const options = ["--manifest", join(folder, "syncline.toml")];
  return startServer(program, { db, statics: join(folder, "site"), options });
}

/** A token that every server here takes. */
function jwt(user) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const head = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, exp: Math.floor(Date.now() / 1000) + 3600 })}`;
  return `${head}.${createHmac("sha256", SECRET).update(head).digest("base64url")}`;
}

/** A page of the doorway's origin in a browser of its own, with `make`, `insert` and `errors` for the calls of the tests. */
async function visit(prepare, argument) {
  const context = await startChromium(join(folder, `profile-${tests}-${contexts.length}`));
  contexts.push(context);
  if (prepare !== undefined) await context.addInitScript(prepare, argument);
  await context.addInitScript(preparePage, RECONNECT_MS);
  const page = await context.newPage();
  await page.goto(`${doorway.url}/index.html`);
  return page;
}

/** Runs in the page, before its scripts. */
function preparePage(reconnectDelay) {
  window.errors = [];
  window.writes = [];
  window.make = async ({ token }) => {
    const { createSyncEngine } = await import(new URL("/dist/index.js", location.origin).href);
    window.engine = createSyncEngine(location.origin, { token, reconnectDelay });
    window.engine.onError(({ code }) => window.errors.push(code));
    return window.engine;
  };
  window.shown = () =>
    window.engine.store
      .list("todo")
      .map(({ title }) => title)
      .sort();
  window.insert = (...titles) => {
    for (const title of titles) {
      const write = window.engine.insert("todo", { title });
      // What the disk refuses is what some of these tests are about.
      write.catch(({ code }) => window.errors.push(code));
      write.confirmed.catch(({ code }) => window.errors.push(code));
      window.writes.push(write.confirmed);
    }
  };
}

/** Starts an engine in the page; resolves when rows can be read. */
async function start(page, options) {
  await page.evaluate(async (options) => (await window.make(options)).start(), options);
}

/** The code that making or starting an engine fails with, or null. */
function startError(page, options) {
  return page.evaluate(async (options) => {
    try {
      await (await window.make(options)).start();
      return null;
    } catch ({ code, message }) {
      return code ?? message;
    }
  }, options);
}

/** Waits until the page says yes. */
async function until(page, isWanted) {
  try {
    await page.waitForFunction(isWanted, undefined, { timeout: WAIT_MS_MAX });
  } catch (cause) {
    const seen = await page.evaluate(() => ({ status: window.engine.status, errors: window.errors }));
    const requests = doorway.requests.slice(-20);
    throw new Error(`never ${isWanted}: ${JSON.stringify({ ...seen, requests })}`, { cause });
  }
}

/** Waits for the server's answer to every write of the page. */
async function confirmed(page) {
  await until(
    page,
    () => window.engine.status.pending === 0 && window.engine.status.connection.state === "live",
  );
  await page.evaluate(() => Promise.all(window.writes.splice(0)));
}

/** Waits until the page shows these titles and no others. */
async function shows(page, wanted) {
  const read = () => window.shown().join();
  try {
    await page.waitForFunction((text) => window.shown().join() === text, wanted.join(), {
      timeout: WAIT_MS_MAX,
    });
  } catch (cause) {
    const status = await page.evaluate(() => window.engine.status);
    throw new Error(`shows ${await page.evaluate(read)} with ${JSON.stringify(status)}`, { cause });
  }
}

/** Waits until the page tried so often to reach a server; returns how much it asked meanwhile. */
async function attempts() {
  const tried = () => doorway.requests.filter((request) => FIRST_OF_AN_ATTEMPT.includes(request)).length;
  await doorway.until(() => tried() >= ATTEMPTS, WAIT_MS_MAX);
  return doorway.requests.length;
}

async function put(server, token, title) {
  await rest(server, token, "POST", { title });
}

/** What the server has, asked directly. */
async function titles(server, token) {
  const { data } = await rest(server, token, "GET");
  return data.map(({ title }) => title).sort();
}

async function rest(server, token, method, body) {
  const answer = await fetch(`${server.url}/api/entities/todo`, {
    method,
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  assert.ok(answer.ok, `${method}: ${answer.status}`);
  return answer.json();
}
