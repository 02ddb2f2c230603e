// Kills of one profile against one server: start, compare, write, kill, and again; at the end everything is on the server, once.

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { signIn, startServer } from "../figures/stage/server.mjs";
import { Browser, isInLocalStorage, storesOf } from "./browser.mjs";
import { differences, Expected, readLog, withUnsent } from "./expected.mjs";
import { logOf, OtherClient, prefill } from "./other_client.mjs";

/** A start, a hand-over and a whole sync of a loaded machine stay far below this. */
const HEARD_MS_MAX = 180_000;
const SETTLED_MS_MAX = 60_000;
const STARTS_MAX = 5;
/** When the kill comes, after the first write that was acknowledged: as in the measurements of bare IndexedDB. */
const KILL_MS = [60, 1650];
/** The same after a page said that what is wanted goes on. */
const KILL_MS_DURING = {
  compaction: [0, 30],
  resync: [0, 600],
  bootstrap: [0, 2000],
  recovery: [0, 400],
  upgrade: [0, 900],
};
const ROWS_BEFORE = 20_000;
const FILLED = new Set(["resync", "bootstrap", "upgrade"]);
/** After the kill of a page that writes, the next start is killed in the middle of this. */
const AT_NEXT_START = new Set(["recovery", "upgrade"]);

export class Series {
  #options;
  #channel;
  #figures;
  #random;
  #say;
  #profile;
  #server;
  #token;
  #other;
  #app = "crash";
  #round = 0;
  /** The version of the layout that pages open the database with; every upgrade takes the next one. */
  #layout;
  /** What this device must hold. */
  #device = new Expected();
  /** What the server must hold in the end. */
  #total = new Expected();
  /** What was acknowledged before each tab began to open the replica. */
  #before = new Map();
  #browser;
  /** Whether the last kill came while the layout was upgraded. */
  #isUpgrading = false;
  /** Whether its database was lost and nothing was fetched since. */
  #lacksRows = false;

  constructor({ options, channel, figures, random, say }) {
    this.#options = options;
    this.#channel = channel;
    this.#figures = figures;
    this.#random = random;
    this.#say = say;
  }

  /** Runs so many kills in an empty folder that holds the site. */
  async run(folder, site, kills) {
    const { program, during } = this.#options;
    this.#profile = join(folder, "profile");
    await mkdir(this.#profile);
    const options = ["--allow-connect", this.#channel.origin];
    this.#server = await startServer(program, { db: join(folder, "crash.db"), statics: site, options });
    try {
      this.#token = await signIn(this.#server.url, "ann");
      const other = await signIn(this.#server.url, "ben");
      if (during === "upgrade") this.#layout = 1;
      if (FILLED.has(during)) await prefill(this.#server.url, other, ROWS_BEFORE);
      this.#other = new OtherClient(this.#server.url, other, this.#random);
      this.#other.start();
      if (during !== "bootstrap") await this.#settleIn();
      for (let kill = 0; kill < kills; kill += 1) await this.#kill();
      await this.#finish();
    } catch (error) {
      this.#say(`The server said:\n${this.#server.log()}`);
      throw error;
    } finally {
      await this.#browser?.kill();
      await this.#server.stop();
    }
  }

  /** A first visit that lasts until `localStorage`, where a token's identity is, was written to the disk. */
  async #settleIn() {
    // An upgrade is to have something to do.
    const finish = this.#options.during === "upgrade";
    await this.#open({ finish });
    await this.#heard(finish ? "finished" : "acknowledged");
    const late = performance.now() + SETTLED_MS_MAX;
    while (!isInLocalStorage(this.#options.browser, this.#profile, `syncline_${this.#app}_identities`)) {
      if (performance.now() > late) throw new Error("the browser did not write localStorage to the disk");
      await pause(SETTLE_MS);
    }
    await this.#browser.kill();
  }

  async #kill() {
    const { during, wipe } = this.#options;
    if (during === "bootstrap") this.#newReplica();
    const before = this.#total.acknowledged;
    await this.#killMoment();
    await this.#browser.kill();
    this.#figures.kills += 1;
    const acknowledged = this.#total.acknowledged - before;
    this.#figures.acknowledged += acknowledged;
    this.#say(`kill ${this.#figures.kills}: ${acknowledged} writes acknowledged`);
    if (wipe || during === "recovery") await this.#wipe();
    if (during === "recovery") this.#lacksRows = true;
    if (during === "upgrade") this.#layout += 1;
    if (AT_NEXT_START.has(during)) await this.#killNextStart();
    // The next replica is another one: this one is compared now.
    if (during === "bootstrap") await this.#finish();
  }

  /** Each bootstrap needs a replica that was never filled. */
  #newReplica() {
    this.#app = `crash-${this.#figures.kills}`;
    this.#device = new Expected();
  }

  async #killMoment() {
    const { during, twoTabs } = this.#options;
    if (during === "bootstrap") {
      this.#start({});
      await this.#heard("starting");
    } else {
      await this.#open({ during, secondTab: twoTabs });
      const other = twoTabs && this.#heard("starting", "b");
      await this.#heard("acknowledged");
      if (during && !AT_NEXT_START.has(during)) await this.#heard("moment");
      await other;
    }
    const [from, to] = AT_NEXT_START.has(during) ? KILL_MS : (KILL_MS_DURING[during] ?? KILL_MS);
    await pause(from + this.#random() * (to - from));
    if (twoTabs) await this.#killTab();
  }

  /** Kills the process of one of two tabs; the other one must go on. */
  async #killTab() {
    if (!this.#browser.killTab((count) => Math.floor(this.#random() * count))) {
      throw new Error("no process of a tab was found");
    }
    const killed = performance.now();
    // What the dead tab said may still be under way.
    await pause(SETTLE_MS);
    await this.#heard("acknowledged", "");
    this.#figures.handover_ms.push(performance.now() - killed);
    await pause(this.#random() * KILL_MS[1]);
  }

  /** The next start comes back from the second copy into a new database, or upgrades the one there is; it does not get far. */
  async #killNextStart() {
    const { during } = this.#options;
    this.#start({});
    await this.#heard(during === "upgrade" ? "moment" : "starting");
    const [from, to] = KILL_MS_DURING[during];
    await pause(from + this.#random() * (to - from));
    await this.#browser.kill();
    this.#figures.kills += 1;
    this.#isUpgrading = during === "upgrade";
  }

  async #wipe() {
    for (const folder of storesOf(this.#options.browser, this.#profile)) {
      await rm(folder, { recursive: true, force: true });
    }
    this.#figures.wipes_provoked += 1;
  }

  /** Starts without a kill, waits until nothing is left to send or fetch, and compares device and server. */
  async #finish() {
    await this.#other.stop();
    await this.#open({ finish: true });
    const finished = await this.#heard("finished");
    const changes = await logOf(this.#server.url, this.#token);
    const { rows, doubled } = readLog(changes);
    const { lost } = this.#total.compare({ rows });
    this.#figures.server_lost.push(...lost);
    this.#total.forget(lost);
    this.#figures.server_doubled.push(...doubled);
    this.#figures.server_differs.push(...differences(finished.rows, rows));
    this.#figures.add({ ...this.#device.compare(finished), survivors: 0 });
    await this.#browser.close();
    this.#other.start();
  }

  /** Starts until the browser can read its store; what it cannot read now may be there the next time, or not. */
  async #open(plan) {
    for (let attempt = 0; attempt < STARTS_MAX; attempt += 1) {
      this.#start(plan);
      const { storage } = await this.#heard("opened");
      if (storage.kind === "indexeddb") return;
      await this.#browser.kill();
    }
    throw new Error(`the store cannot be read after ${STARTS_MAX} starts`);
  }

  /** Starts the browser on the page, and judges what the page finds. */
  #start(plan) {
    this.#round += 1;
    this.#before.clear();
    this.#channel.answers({
      starting: ({ tab }) => void this.#before.set(tab, this.#device.copy()),
      opened: async (report) => {
        await this.#judge(report);
        const opensAnother = plan.secondTab && report.tab === "a";
        return { ...plan, secondTab: opensAnother ? this.#address("b") : undefined };
      },
      deleting: ({ id }) => this.#both((all) => all.deleting(id)),
      acknowledged: ({ writes }) => {
        for (const changes of writes) this.#both((all) => all.acknowledge(changes));
      },
    });
    this.#browser = new Browser(this.#options.browser, this.#profile, this.#address("a"));
  }

  #address(tab) {
    const seed = Math.floor(this.#random() * 2 ** 32);
    const round = this.#round;
    const layout = this.#layout;
    const wishes = {
      origin: this.#channel.origin,
      app: this.#app,
      token: this.#token,
      tab,
      round,
      seed,
      layout,
    };
    return `${this.#server.url}/index.html?wishes=${encodeURIComponent(JSON.stringify(wishes))}`;
  }

  #both(note) {
    note(this.#device);
    note(this.#total);
  }

  /** Compares what a page found on this device with what was acknowledged before. */
  async #judge(report) {
    if (report.storage.kind !== "indexeddb") {
      this.#figures.unreadable.push({
        round: report.round,
        storage: report.storage,
        problems: report.problems,
      });
      this.#say(`round ${report.round}: the store cannot be read: ${report.storage.reason}`);
      return;
    }
    const expected = this.#before.get(report.tab) ?? new Expected();
    const isNamed = report.databases.some((name) => name.includes(`_${this.#app}_`));
    // A page that was killed in its upgrade may have made the database that is there, in place of one that was lost.
    const isWiped = expected.size > 0 && (!isNamed || this.#isUpgrading) && report.seq === 0;
    this.#judgeLayout(report);
    // Until its rows are fetched again a device has what waits in its queue, and no more.
    this.#lacksRows = (this.#lacksRows || isWiped) && report.seq === 0;
    const found = this.#lacksRows
      ? await this.#withServer(expected, report)
      : expected.compare(report, this.#device);
    if (isWiped) this.#figures.wiped += 1;
    for (const { kind, recovered, reason } of report.notices) {
      if (kind === "lost" && expected.size > 0) this.#figures.wipes_reported += 1;
      if (kind === "lost") this.#figures.recovered += recovered;
      if (kind === "copy_failed") this.#figures.copy_failed.push(reason);
    }
    if (!report.isIdentified && expected.size > 0) this.#figures.identity_forgotten += 1;
    this.#figures.problems.push(...report.problems);
    this.#figures.add(found);
    const { lost, torn, refused } = found;
    if (isWiped || lost.length + torn.length + refused.length > 0) {
      const first = JSON.stringify({
        lost: lost.slice(0, 3),
        torn: torn.slice(0, 3),
        refused: refused.slice(0, 3),
      });
      const gone = isWiped ? "the store is gone, " : "";
      this.#say(`round ${report.round}, tab ${report.tab}: ${gone}${lost.length} lost, among them ${first}`);
    }
    // A second tab opens while the first one writes on; only the first sees all there is.
    if (this.#lacksRows) this.#device = new Expected();
    else if (report.tab === "a") this.#device.learn(report, found.lost);
  }

  /** What is left of an upgrade that was killed: nothing, so that it is done again, or all of it. */
  #judgeLayout({ layout: { upgrades, problems } }) {
    if (this.#isUpgrading && upgrades > 0) this.#figures.upgrades_undone += 1;
    else if (this.#isUpgrading) this.#figures.upgrades_complete += 1;
    this.#isUpgrading = false;
    this.#figures.torn.push(...problems);
  }

  /** Without its database a device has the queue alone; with what the server has it must be everything. */
  async #withServer(expected, { unsent, queue }) {
    const rows = withUnsent(await logOf(this.#server.url, this.#token), unsent);
    const { lost } = expected.compare({ rows }, this.#device);
    const refused = queue.filter(([, status]) => status === "failed");
    return { lost, survivors: 0, torn: [], refused };
  }

  /** Waits for a report of this round; `tab` is empty for any of them. */
  #heard(wanted, tab = "a") {
    const round = this.#round;
    const isWanted = (report) =>
      report.what === wanted && report.round === round && report.tab.startsWith(tab);
    return this.#channel.heard(isWanted, HEARD_MS_MAX, `report "${wanted}" in round ${round}`);
  }
}

/** How long words of a killed process may still be under way on this machine. */
const SETTLE_MS = 100;

/** The wait before a kill: its length is the experiment. */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
