// Takes every figure once the server runs; says what it does, because it takes a minute or two.

import { join } from "node:path";
import { downloadSizes, machine } from "./machine.mjs";
import { ENTITY, writeRows } from "./rows.mjs";
import { call, openPage, startChromium } from "./stage/chromium.mjs";
import { importRows, serverProgram, signIn, startServer } from "./stage/server.mjs";
import { makeSite } from "./stage/site.mjs";
import { median, percentile, spread } from "./statistics.mjs";

const ROWS = 100_000;
const RUNS = 3;
const COLD_STARTS = 5;
const BATCHES = 100;
const BATCH_SIZE = 100;
const SINGLES = 300;
const OFFLINE = 400;
/** Below this, one call is too short for the clock and the mean of a batch counts. */
const CLOCK_MS = 0.1;

/** Measures everything; `folder` is empty and removed by the caller. */
export async function measure({ program, statics, port, folder, say }) {
  const server_program = serverProgram(program);
  await makeSite(statics);
  const rows_file = join(statics, "rows.ndjson");
  const row_bytes = await writeRows(rows_file, ROWS);
  const before = machine();
  const imports = await importRuns(server_program, rows_file, folder, say);
  const server = await startServer(server_program, { db: imports.db, statics, port, isolated: true });
  try {
    const context = await startChromium(join(folder, "profile"));
    try {
      const stage = { context, url: server.url, token: await signIn(server.url, "figures"), say };
      const parts = { imports, ...(await browserRuns(stage)) };
      const browser =
        context.browser()?.version() ?? (await pageOf(stage, (page) => call(page, "about"))).agent;
      return await result(parts, { before, browser, row_bytes });
    } finally {
      await context.close();
    }
  } catch (error) {
    say(`The server said:\n${server.log()}`);
    throw error;
  } finally {
    await server.stop();
  }
}

async function importRuns(program, file, folder, say) {
  const seconds = [];
  let db;
  for (let run = 0; run < RUNS; run += 1) {
    say(`import ${run + 1} of ${RUNS}: ${ROWS} rows into an empty database`);
    db = join(folder, `figures-${run}.db`);
    const { seconds: took } = await importRows(program, { file, entity: ENTITY, db });
    seconds.push(took);
  }
  return { seconds, db };
}

async function browserRuns(stage) {
  const target = { token: stage.token, entity: ENTITY, rows: ROWS };
  const about = await pageOf(stage, (page) => call(page, "about"));
  if (!about.isolated)
    throw new Error("The page is not cross-origin isolated: the clock would be too coarse.");
  const pulls = await pullRuns(stage, target);
  const app = `figures-${RUNS - 1}`;
  const colds = await coldRuns(stage, { ...target, app });
  const inits = [];
  for (let run = 0; run < RUNS; run += 1) inits.push(await pageOf(stage, (page) => call(page, "moduleInit")));
  const writes = await pageOf(stage, (page) => writeRuns(page, { ...target, app }, stage.say));
  stage.say("the floor: a Map, and IndexedDB written by hand");
  const floor = await pageOf(stage, floorRuns);
  return { about, pulls, colds, inits, writes, floor };
}

async function pullRuns(stage, target) {
  const pulls = [];
  for (let run = 0; run < RUNS; run += 1) {
    stage.say(`pull ${run + 1} of ${RUNS}: ${ROWS} rows into an empty replica`);
    pulls.push(await pageOf(stage, (page) => call(page, "pull", { ...target, app: `figures-${run}` })));
  }
  return pulls;
}

async function coldRuns(stage, target) {
  const colds = [];
  for (let run = 0; run < COLD_STARTS; run += 1) {
    stage.say(`cold start ${run + 1} of ${COLD_STARTS}`);
    colds.push(await pageOf(stage, (page) => call(page, "coldStart", target)));
  }
  return colds;
}

async function writeRuns(page, target, say) {
  await call(page, "open", target);
  say(`${SINGLES} single inserts over ${ROWS} rows`);
  const singles = await call(page, "insertSingles", { entity: ENTITY, count: SINGLES });
  say(`${BATCHES} batches of ${BATCH_SIZE} inserts`);
  const batch = { entity: ENTITY, batches: BATCHES, size: BATCH_SIZE };
  const batches = await call(page, "insertBatches", { ...batch, read: false });
  const reading = await call(page, "insertBatches", { ...batch, batches: 10, read: true });
  say(`${OFFLINE} inserts while paused`);
  const offline = [];
  const one_by_one = [];
  for (let run = 0; run < RUNS; run += 1) {
    const burst = { app: target.app, entity: ENTITY, count: OFFLINE };
    offline.push(await call(page, "offline", { ...burst, oneByOne: false }));
    one_by_one.push(await call(page, "offline", { ...burst, oneByOne: true }));
  }
  await call(page, "close");
  return { singles, batches, reading, offline, one_by_one };
}

async function floorRuns(page) {
  const loads = [];
  const databases = [];
  for (let run = 0; run < RUNS; run += 1) {
    loads.push(await call(page, "mapLoad", { url: "rows.ndjson", rows: ROWS }));
    databases.push(await call(page, "databaseLoad"));
  }
  const inserts = await call(page, "mapInsert", { batches: BATCHES, size: BATCH_SIZE });
  const durable = await call(page, "databaseInsert", { count: SINGLES });
  return { loads, databases, inserts, durable };
}

/** Runs `body` on a page of its own; an error that the page reports fails it. */
async function pageOf(stage, body) {
  const problems = [];
  const page = await openPage(stage.context, `${stage.url}/index.html`, problems);
  try {
    const answer = await body(page);
    if (problems.length > 0) throw new Error(`The page reported:\n${problems.join("\n")}`);
    return answer;
  } catch (error) {
    if (problems.length > 0) stage.say(`The page reported:\n${problems.join("\n")}`);
    throw error;
  } finally {
    await page.close();
  }
}

async function result(
  { imports, about, pulls, colds, inits, writes, floor },
  { before, browser, row_bytes },
) {
  const { notify, durable } = writes.singles;
  const short = median(notify) < CLOCK_MS;
  const insert = short ? writes.batches : notify;
  const seconds = pulls.map(({ durable_ms }) => durable_ms / 1000);
  return {
    import_rows_per_s: Math.round(ROWS / median(imports.seconds)),
    pull_100k_durable_s: median(seconds),
    cold_start_100k_first_list_ms: median(colds.map(({ total_ms }) => total_ms)),
    insert_notify_ms_p50: median(insert),
    insert_notify_ms_p99: percentile(insert, 99),
    insert_durable_ms_p50: median(durable),
    offline_400_durable_s: median(writes.offline.map((run) => run.seconds)),
    ...(await downloadSizes()),
    details: {
      import_s: spread(imports.seconds),
      pull_s: spread(seconds),
      pull_start_ms: spread(pulls.map(({ start_ms }) => start_ms)),
      pull_synced_ms: spread(pulls.map(({ synced_ms }) => synced_ms)),
      stored: pulls[0].stored,
      cold_start_ms: spread(colds.map(({ total_ms }) => total_ms)),
      cold_start_opened_ms: spread(colds.map(({ start_ms }) => start_ms)),
      cold_start_first_list_only_ms: spread(colds.map(({ first_list_ms }) => first_list_ms)),
      cold_start_second_list_ms: spread(colds.map(({ second_list_ms }) => second_list_ms)),
      cold_start_every_field_ms: spread(colds.map(({ walk_ms }) => walk_ms)),
      module_init_ms: spread(inits),
      insert_notify_taken: short ? `means of ${BATCHES} batches of ${BATCH_SIZE}` : `${SINGLES} single calls`,
      insert_notify_single_ms: spread(notify),
      insert_notify_batch_mean_ms: spread(writes.batches),
      insert_notify_and_list_batch_mean_ms: spread(writes.reading),
      insert_durable_ms: spread(durable),
      offline_400_s: spread(writes.offline.map((run) => run.seconds)),
      offline_400_one_by_one_s: spread(writes.one_by_one.map((run) => run.seconds)),
      offline_400_confirmed_after_resume_s: spread(writes.offline.map((run) => run.confirmed_seconds)),
    },
    floor: {
      map_fetch_ms: spread(floor.loads.map(({ fetch_ms }) => fetch_ms)),
      map_parse_ms: spread(floor.loads.map(({ parse_ms }) => parse_ms)),
      map_list_ms: spread(floor.loads.map(({ list_ms }) => list_ms)),
      map_insert_notify_ms: spread(floor.inserts),
      indexeddb_write_ms: spread(floor.databases.map(({ write_ms }) => write_ms)),
      indexeddb_read_ms: spread(floor.databases.map(({ read_ms }) => read_ms)),
      indexeddb_strict_put_ms: spread(floor.durable),
    },
    rows: { count: ROWS, bytes_mean: Math.round(row_bytes), fields: 9 },
    machine: { ...before, load_average_after: machine().load_average, browser: browser || about.agent },
  };
}
