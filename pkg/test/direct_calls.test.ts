import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import { callFn, fetchById, fetchList, insert, remove, update } from "../src/direct_calls.ts";
import { getServerData } from "../src/get_server_data.ts";
import { code } from "./engine_harness.ts";
import { NEEDS_SERVER, ownEntity, serverUrl, signIn } from "./server.ts";

interface Answer {
  readonly status?: number;
  readonly body: string;
}
/** What the next calls are answered with, and what was asked. */
const answers: Answer[] = [];
const asked: { method: string; url: string; headers: Record<string, unknown>; body: string }[] = [];
const server = createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += String(chunk);
  const { method = "", url = "", headers } = request;
  asked.push({ method, url, headers, body });
  const answer = answers.shift() ?? { body: "null" };
  response.writeHead(answer.status ?? 200).end(answer.body);
});
await new Promise<void>((resolve) => {
  server.listen(0, "127.0.0.1", resolve);
});
after(() => server.close());
const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/app`;

test("a function is called by name with token, key and arguments", async () => {
  answers.push({ body: '{"sum":3}' });
  const options = { token: "t", idempotencyKey: "k" };
  assert.deepEqual(await callFn(`${address}/`, "add/up", { a: 1, b: 2 }, options), { sum: 3 });
  const [call] = asked.splice(0);
  assert.deepEqual(
    [call?.method, call?.url, call?.headers.authorization, call?.headers["idempotency-key"], call?.body],
    ["POST", "/app/api/fn/add%2Fup", "Bearer t", "k", '{"a":1,"b":2}'],
  );
});

test("what goes wrong has a code", async () => {
  for (const [answer, wanted] of [
    [{ status: 403, body: '{"error":{"code":"POLICY_DENIED","message":"no"}}' }, "POLICY_DENIED"],
    [{ status: 418, body: '{"error":{"code":"OF_A_NEWER_VERSION","message":"no"}}' }, "INTERNAL"],
    [{ status: 502, body: "<html>" }, "UNEXPECTED_RESPONSE"],
    [{ status: 200, body: "<!doctype html>" }, "UNEXPECTED_RESPONSE"],
    [{ status: 200, body: '{"portal":true}' }, "UNEXPECTED_RESPONSE"],
    [{ status: 401, body: '{"error":"text"}' }, "UNEXPECTED_RESPONSE"],
  ] as const) {
    answers.push(answer);
    await assert.rejects(fetchList(address, "todo"), code(wanted));
  }
  await assert.rejects(fetchList("http://127.0.0.1:9", "todo"), code("NETWORK_UNAVAILABLE"));
  await assert.rejects(fetchList(address, "todo", { token: "a\nb" }), code("UNAUTHENTICATED"));
  await assert.rejects(insert(address, "todo", { n: Number.NaN }), code("INVALID_VALUE"));
  const abort = AbortSignal.abort(new RangeError("enough"));
  await assert.rejects(fetchById(address, "todo", "1", { signal: abort }), RangeError);
});

test("rows of a session that changes while they are read are given to nobody", async () => {
  for (const user of ["a", "b"]) {
    answers.push({ body: `{"user_id":"${user}","tenant_id":null}` });
    if (user === "a") answers.push({ body: "[]" });
  }
  await assert.rejects(getServerData(address, ["todo"]), code("IDENTITY_CHANGED"));
  answers.push({ body: "{}" });
  await assert.rejects(getServerData(address, ["todo"]), code("UNEXPECTED_RESPONSE"));
});

test("a row is added, read, changed and removed without an engine", NEEDS_SERVER, async () => {
  const url = serverUrl();
  const [entity, { token }] = [ownEntity(), await signIn()];
  const when = new Date(Date.UTC(2026, 0, 1));
  const id = await insert(url, entity, { title: "ü 😀", when, n: 1 }, { token });
  const wanted = { id, title: "ü 😀", when: "2026-01-01T00:00:00.000Z", n: 1 };
  assert.deepEqual(await fetchById(url, entity, id, { token }), wanted);
  await update(url, entity, id, { n: 2 }, { token });
  assert.deepEqual(await fetchList(url, entity, { token }), [{ ...wanted, n: 2 }]);
  assert.equal(await insert(url, entity, { id: "mine", n: 3 }, { token, idempotencyKey: "once" }), "mine");
  assert.equal(await insert(url, entity, { id: "mine", n: 3 }, { token, idempotencyKey: "once" }), "mine");
  await assert.rejects(insert(url, entity, { id: "mine", n: 3 }, { token }), code("ROW_EXISTS"));
  await remove(url, entity, id, { token });
  assert.equal(await fetchById(url, entity, id, { token }), undefined);
  await assert.rejects(remove(url, entity, id, { token }), code("ROW_NOT_FOUND"));
  await assert.rejects(fetchList(url, entity, { token: "unknown" }), code("UNAUTHENTICATED"));
});

test("a list is filtered, ordered and cut by the server", NEEDS_SERVER, async () => {
  const url = serverUrl();
  const [entity, { token }] = [ownEntity(), await signIn()];
  for (let n = 0; n < 6; n += 1) await insert(url, entity, { id: `r${n}`, n, even: n % 2 === 0 }, { token });
  const ids = async (options: object): Promise<string[]> =>
    (await fetchList(url, entity, { token, ...options })).map((row) => row.id);
  assert.deepEqual(await ids({ filter: { even: true } }), ["r0", "r2", "r4"]);
  assert.deepEqual(await ids({ order: { n: "desc" }, limit: 2, offset: 1 }), ["r4", "r3"]);
  assert.deepEqual(await ids({ filter: { n: { $gte: 4 } } }), ["r4", "r5"]);
  await assert.rejects(fetchList(url, entity, { token, filter: { $odd: 1 } }), code("INVALID_QUERY"));
});

test("the data of a server-rendered page says whose it is", NEEDS_SERVER, async () => {
  const url = serverUrl();
  const [entity, { user, token }] = [ownEntity(), await signIn()];
  await insert(url, entity, { id: "r1", title: "one" }, { token });
  const data = await getServerData(url, [entity, "nothing"], { token });
  assert.deepEqual(JSON.parse(JSON.stringify(data)), {
    identity: { userId: user, tenantId: null },
    rows: { [entity]: [{ id: "r1", title: "one" }], nothing: [] },
  });
});
