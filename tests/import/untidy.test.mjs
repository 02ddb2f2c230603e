// Real input that is not tidy, there and back: a table of films whose columns have spaces in their names and whose titles are
// numbers at times, and postal codes that begin with 0. File, server, browser and both exports must say the same of every row.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { call, openPage, startChromium } from "../figures/stage/chromium.mjs";
import { serverProgram, signIn, startServer } from "../figures/stage/server.mjs";
import { makeSite } from "../figures/stage/site.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const DATA = join(HERE, "../../node_modules/vega-datasets/data");
const MOVIES = join(DATA, "movies.json");
const ZIP_CODES = join(DATA, "zipcodes.csv");
/** The same that the server's own test of the awkward rows declares. */
const MANIFEST = join(HERE, "../../crates/server/tests/store/fixtures/untidy.toml");
const OUTPUT_BYTES_MAX = 64 * 2 ** 20;

const program = serverProgram();
let folder;
let movies;
let zipCodes;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "syncline-untidy-"));
  await makeSite(join(folder, "site"));
  movies = JSON.parse(await readFile(MOVIES, "utf8"));
  zipCodes = cells(await readFile(ZIP_CODES, "utf8"));
});

after(() => rm(folder, { recursive: true, force: true }));

test("the files are as untidy as this test means them to be", () => {
  assert.ok(movies.some(({ Title }) => typeof Title === "number"));
  assert.ok(Object.keys(movies[0]).includes("Running Time min"));
  assert.ok(zipCodes.filter(({ zip_code }) => zip_code.startsWith("0")).length > 1000);
});

test("rows of an open schema come out of browser and server as they went in", async () => {
  await thereAndBack("open", [], { Movie: movies, ZipCode: zipCodes });
});

test("so do rows of a manifest, as the types it declares", async () => {
  const typed = zipCodes.map((row) => ({
    ...row,
    latitude: Number(row.latitude),
    longitude: Number(row.longitude),
  }));
  await thereAndBack("declared", ["--manifest", MANIFEST], { Movie: movies, ZipCode: typed });
});

async function thereAndBack(name, options, expected) {
  const db = join(folder, `${name}.db`);
  await syncline("import", MOVIES, "--entity", "Movie", "--db", db, ...options);
  await syncline("import", ZIP_CODES, "--entity", "ZipCode", "--db", db, ...options);
  const server = await startServer(program, { db, statics: join(folder, "site"), options });
  try {
    const { shown, exported } = await readInBrowser(name, server.url, Object.keys(expected));
    for (const [entity, rows] of Object.entries(expected)) {
      same(shown[entity], rows, `${entity} in the browser`);
      same(exported[entity], rows, `${entity} in the browser's export`);
      same(await exportedLines(db, entity), rows, `${entity} in the server's NDJSON`);
    }
    const csv = cells(await syncline("export", "--entity", "ZipCode", "--format", "csv", "--db", db));
    same(csv, zipCodes, "ZipCode in the server's CSV");
  } catch (error) {
    console.error(server.log());
    throw error;
  } finally {
    await server.stop();
  }
}

async function readInBrowser(name, url, entities) {
  const token = await signIn(url, "reader");
  const context = await startChromium(join(folder, `profile-${name}`));
  try {
    const problems = [];
    const first = await openPage(context, `${url}/index.html`, problems);
    await call(first, "open", { app: name, token });
    await call(first, "close");
    await first.close();
    // What the first page put on disk, read by another.
    const second = await openPage(context, `${url}/index.html`, problems);
    await call(second, "open", { app: name, token });
    const shown = await call(second, "lists", entities);
    const { rows } = JSON.parse(await call(second, "exported"));
    await call(second, "close");
    assert.deepEqual(problems, []);
    return { shown, exported: rows };
  } finally {
    await context.close();
  }
}

async function exportedLines(db, entity) {
  const text = await syncline("export", "--entity", entity, "--db", db);
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
}

async function syncline(...options) {
  const { stdout } = await promisify(execFile)(program, options, { maxBuffer: OUTPUT_BYTES_MAX });
  return stdout;
}

/** The rows of CSV that quotes nothing. */
function cells(text) {
  assert.ok(!text.includes('"'));
  const [head, ...lines] = text.trimEnd().split("\n");
  const names = head.split(",");
  return lines.map((line) => Object.fromEntries(line.split(",").map((cell, index) => [names[index], cell])));
}

/** The same rows whatever their order and ids: values, types and names of fields. */
function same(found, wanted, what) {
  assert.equal(found.length, wanted.length, what);
  const left = texts(found);
  const right = texts(wanted);
  const at = left.findIndex((text, index) => text !== right[index]);
  if (at >= 0) assert.fail(`${what}: ${left[at]}\ninstead of ${right[at]}`);
}

function texts(rows) {
  return rows
    .map(({ id: _, ...fields }) =>
      JSON.stringify(Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1))),
    )
    .sort();
}
