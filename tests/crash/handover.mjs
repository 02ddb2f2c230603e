// Takes the leading tab away, again and again, and measures how long the next one needs to take its place.
//
//   node tests/crash/handover.mjs --browser chromium|firefox [--times N] [--seed S] [--of crash,close,freeze,hang] [--json]
//
// `cargo xtask crash --handover N` builds everything first and calls this. Two tabs are open; the one behind leads, the one that is
// looked at writes, one write after the other. Measured from the moment when the leader's process is killed, its tab is closed, frozen,
// or kept busy for ever, to the moments when the other tab says that it leads, and when the server has answered a write of it.

import { cp, mkdir, mkdtemp, rm } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { serverProgram, signIn, startServer } from "../figures/stage/server.mjs";
import { makeSite } from "../figures/stage/site.mjs";
import { Browser } from "./browser.mjs";
import { Channel } from "./channel.mjs";
import { spread } from "./figures.mjs";
import { randomFrom } from "./page/random.js";

/** What the 99th percentile must not exceed, for each end of a leader, in milliseconds. */
const GATES = { crash: 1_000, close: 1_000, freeze: 10_000, hang: 10_000 };
/** In Firefox all tabs of a site may be in one process, and none is frozen on request. */
const ENDS = { chromium: ["crash", "close", "freeze", "hang"], firefox: ["close"] };
const HEARD_MS_MAX = 60_000;
/** How long the follower writes before the leader goes. */
const WRITING_MS = [100, 600];
/** A browser that has shown so many tabs is closed. */
const TIMES_OF_A_BROWSER = 25;

/** Two tabs of one browser, and one that follows them after each end. */
class Tabs {
  #channel;
  #server;
  #token;
  #browser;
  #name;
  #opened = 0;
  /** Names and processes. */
  #leader;
  #follower;
  /** Resolves the question of each tab for something to do. */
  #idle = new Map();

  constructor(channel, server, token) {
    this.#channel = channel;
    this.#server = server;
    this.#token = token;
    channel.answers({ idle: ({ tab }) => new Promise((resolve) => this.#idle.set(tab, resolve)) });
  }

  async open(name, profile) {
    await mkdir(profile);
    this.#name = name;
    const before = this.#next();
    this.#browser = new Browser(name, profile, before.url, name === "chromium");
    await this.#heard("ready", before);
    this.#leader = before;
    this.#follower = await this.#openAnother(before);
    // Which process was the first one's nobody knows.
    await this.end("close", 0);
  }

  /** Ends the leader in this way; gives the times of the other one. */
  async end(how, writingMs) {
    const [leader, follower] = [this.#leader, this.#follower];
    await this.#ask(follower, { task: "write" });
    await pause(writingMs);
    const leads = this.#heard("leads", follower);
    const answered = this.#heard("answered", follower);
    const start = performance.now();
    const took = () => performance.now() - start;
    await this.#take(leader, how);
    const [leadsMs, answeredMs] = await Promise.all([leads.then(took), answered.then(took)]);
    if (leader.process !== undefined) this.#browser.killProcess(leader.process);
    this.#leader = follower;
    this.#follower = await this.#openAnother(follower);
    return { leadsMs, answeredMs };
  }

  async close() {
    await this.#browser?.kill();
  }

  async #take(leader, how) {
    if (how !== "close" && leader.process === undefined)
      throw new Error(`tab ${leader.tab} has no process of its own`);
    if (how === "crash") this.#browser.killProcess(leader.process);
    else if (how === "freeze") await this.#browser.debugging.freeze(`"tab":"${leader.tab}"`);
    else await this.#ask(leader, { task: how });
  }

  async #openAnother(tab) {
    const next = this.#next();
    const before = this.#browser.tabs();
    await this.#ask(tab, { task: "open", url: next.url });
    return this.#ready(next, before);
  }

  /** Waits until a tab can write, and looks which process is its own. */
  async #ready({ tab }, before) {
    const { role } = await this.#heard("ready", { tab });
    if (role !== "follower") throw new Error(`tab ${tab} is the ${role}`);
    const [process, ...others] = this.#browser.tabs().filter((pid) => !before.includes(pid));
    // One that it shares, nobody kills.
    return { tab, process: others.length > 0 || this.#name === "firefox" ? undefined : process };
  }

  #next() {
    this.#opened += 1;
    const tab = `t${this.#opened}`;
    const wishes = { origin: this.#channel.origin, app: "handover", token: this.#token, tab };
    const query = encodeURIComponent(JSON.stringify(wishes));
    return { tab, url: `${this.#server.url}/handover.html?wishes=${query}` };
  }

  /** Gives a tab something to do, once it asks. */
  async #ask({ tab }, task) {
    while (!this.#idle.has(tab)) await pause(1);
    this.#idle.get(tab)(task);
    this.#idle.delete(tab);
  }

  #heard(wanted, { tab }) {
    const isWanted = (report) => report.what === wanted && report.tab === tab;
    return this.#channel.heard(isWanted, HEARD_MS_MAX, `report "${wanted}" of tab ${tab}`);
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const { values } = parseArgs({
  options: {
    browser: { type: "string", default: "chromium" },
    times: { type: "string", default: "20" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 32)) },
    of: { type: "string" },
    server: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const { browser } = values;
const ends = values.of?.split(",") ?? ENDS[browser];
const random = randomFrom(Number(values.seed));
const folder = await mkdtemp(join(tmpdir(), "syncline-handover-"));
const site = join(folder, "site");
const channel = await Channel.open();
let browsers = 0;
const load = [loadavg()[0]];
const times = Object.fromEntries(ends.map((how) => [how, { leads_ms: [], answered_ms: [] }]));
process.stderr.write(`${values.times} times each ${ends.join(", ")} in ${browser}, seed ${values.seed}\n`);
await makeSite(site);
await cp(join(dirname(fileURLToPath(import.meta.url)), "page"), site, { recursive: true });
const server = await startServer(serverProgram(values.server), {
  db: join(folder, "handover.db"),
  statics: site,
  options: ["--allow-connect", channel.origin],
});
try {
  for (const how of ends)
    for (let done = 0; done < Number(values.times); done += TIMES_OF_A_BROWSER)
      await measure(how, Math.min(TIMES_OF_A_BROWSER, Number(values.times) - done));
} finally {
  await server.stop();
  await channel.close();
  await rm(folder, { recursive: true, force: true });
}
load.push(loadavg()[0]);
report();

async function measure(how, count) {
  browsers += 1;
  const tabs = new Tabs(channel, server, await signIn(server.url, `user-${browsers}`));
  const [from, to] = WRITING_MS;
  try {
    await tabs.open(browser, join(folder, `profile-${browsers}`));
    for (let done = 0; done < count; done += 1) {
      const { leadsMs, answeredMs } = await tabs.end(how, from + random() * (to - from));
      times[how].leads_ms.push(leadsMs);
      times[how].answered_ms.push(answeredMs);
      process.stderr.write(
        `${how}: leads after ${leadsMs.toFixed()} ms, answered after ${answeredMs.toFixed()}\n`,
      );
    }
  } finally {
    await tabs.close();
  }
}

function report() {
  const result = { browser, seed: Number(values.seed), load: load.map((one) => Math.round(one * 10) / 10) };
  const missed = [];
  for (const how of ends) {
    const [leads, answered] = [spread(times[how].leads_ms), spread(times[how].answered_ms)];
    result[how] = { leads_ms: leads, answered_ms: answered, gate_p99_ms: GATES[how] };
    if (answered.p99 > GATES[how]) missed.push(`${how}: ${answered.p99} ms`);
  }
  const text = JSON.stringify(result, null, 2);
  console.log(values.json ? text : text.replaceAll(/[{}",]/g, ""));
  if (missed.length === 0) return;
  process.stderr.write(`FAILED: ${missed.join(", ")}\n`);
  process.exitCode = 1;
}
