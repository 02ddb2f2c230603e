// Real input: 200,000 flights without ids go through `syncline import`, the server's log, a pull and IndexedDB; what the
// browser, the server's queries and the file say about them must be the same.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { digest } from "../figures/page/digest.js";
import { call, openPage, startChromium } from "../figures/stage/chromium.mjs";
import { importRows, serverProgram, signIn, startServer } from "../figures/stage/server.mjs";
import { makeSite } from "../figures/stage/site.mjs";

const ROWS = 200_000;
const FILE = join(
  dirname(fileURLToPath(import.meta.url)),
  "../../node_modules/vega-datasets/data/flights-200k.json",
);
const ENTITY = "Flight";
const program = serverProgram();
let folder;
let db;
let flights;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "syncline-import-"));
  db = join(folder, "flights.db");
  flights = JSON.parse(await readFile(FILE, "utf8"));
});

after(() => rm(folder, { recursive: true, force: true }));

test("an import takes every row, and a second one changes nothing", async () => {
  assert.equal(flights.length, ROWS);
  const first = await importRows(program, { file: FILE, entity: ENTITY, db });
  assert.match(first.output, /200,?000/, first.output);
  const again = await importRows(program, { file: FILE, entity: ENTITY, db });
  assert.match(again.output, /unchanged|nothing/i, again.output);
  console.log(`${first.output}\n${again.output}`);
});

test("file, server and browser agree about every row", async () => {
  const statics = join(folder, "site");
  await makeSite(statics);
  const server = await startServer(program, { db, statics });
  try {
    const token = await signIn(server.url, "import");
    const expected = await digest(flights);
    await compareServer(server.url, token, expected);
    await compareBrowser(server.url, token, expected);
  } catch (error) {
    console.error(server.log());
    throw error;
  } finally {
    await server.stop();
  }
});

async function compareServer(url, token, expected) {
  const query = async (filter) => {
    const answer = await fetch(`${url}/api/query/${ENTITY}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
      body: JSON.stringify(filter),
    });
    assert.equal(answer.status, 200, `${JSON.stringify(filter)}: ${answer.status}`);
    return answer.json();
  };
  assert.deepEqual(await digest(await query({})), expected);
  const filters = [
    [{ distance: { $gt: 2000 } }, (flight) => flight.distance > 2000],
    [{ delay: 0 }, (flight) => flight.delay === 0],
    [{ delay: { $lt: 0 }, distance: { $gte: 500, $lte: 700 } }, inMiddle],
    [{ delay: { $in: [-5, 7, 100] } }, (flight) => [-5, 7, 100].includes(flight.delay)],
  ];
  for (const [filter, keep] of filters) {
    const wanted = flights.filter(keep);
    assert.ok(wanted.length > 0);
    assert.deepEqual(await digest(await query(filter)), await digest(wanted), JSON.stringify(filter));
  }
  const longest = await query({ $order: { distance: "desc" }, $limit: 10 });
  const sorted = flights.map((flight) => flight.distance).sort((left, right) => right - left);
  assert.deepEqual(
    longest.map((flight) => flight.distance),
    sorted.slice(0, 10),
  );
}

function inMiddle({ delay, distance }) {
  return delay < 0 && distance >= 500 && distance <= 700;
}

async function compareBrowser(url, token, expected) {
  const context = await startChromium(join(folder, "profile"));
  try {
    const target = { app: "flights", entity: ENTITY, token, rows: ROWS };
    const problems = [];
    const synced = await openPage(context, `${url}/index.html`, problems);
    await call(synced, "open", target);
    assert.deepEqual(await call(synced, "summary", target), expected, "as pulled");
    assert.equal(await call(synced, "rowsOnDisk", target), ROWS);
    await call(synced, "close");
    await synced.close();

    const reopened = await openPage(context, `${url}/index.html`, problems);
    await call(reopened, "open", target);
    assert.deepEqual(await call(reopened, "summary", target), expected, "as read from disk by another page");
    await call(reopened, "close");
    assert.deepEqual(problems, []);
  } finally {
    await context.close();
  }
}
