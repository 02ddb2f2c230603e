// A server of its own, a browser with a profile on disk, and pages that hold the built package: what these tests share.

import { createHmac } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildLaterPackage } from "../crash/later_package.mjs";
import { startChromium } from "../figures/stage/chromium.mjs";
import { serverProgram, startServer } from "../figures/stage/server.mjs";
import { makeSite } from "../figures/stage/site.mjs";

const WAIT_MS_MAX = 30_000;
/** First step of the engine's reconnect delay. */
const RECONNECT_MS = 20;

const SECRET = "thirty-two bytes are the least it takes";
const MANIFEST = `
[auth]
secret_env = "SYNCLINE_SESSIONS_SECRET"
leeway_secs = 0
[auth.claims]
tenant = "org"
[entities.todo]
fields = { title = "string" }
policies = { read = "public", insert = "public", update = "public", delete = "public" }
[entities.private]
fields = { title = "string", owner = { type = "string", stamp = "user" } }
policies = { read = "owner = user", insert = "signed-in", update = "owner = user", delete = "owner = user" }
`;

/** A token that the server takes. */
export function jwt(user, { seconds = 3600, more = {} } = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { sub: user, exp: Math.floor(Date.now() / 1000) + seconds, ...more };
  const head = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${head}.${createHmac("sha256", SECRET).update(head).digest("base64url")}`;
}

export class Stage {
  #folder;
  #server;
  #contexts = [];

  /** With `later`, pages can load a later version of the package, too. */
  static async set({ later = false } = {}) {
    const stage = new Stage();
    stage.#folder = await mkdtemp(join(tmpdir(), "syncline-sessions-"));
    const site = join(stage.#folder, "site");
    const manifest = join(stage.#folder, "syncline.toml");
    await makeSite(site);
    if (later) await buildLaterPackage(join(site, "later"));
    await writeFile(join(site, "blank.html"), "<!doctype html><title>Test</title>");
    await writeFile(manifest, MANIFEST);
    process.env.SYNCLINE_SESSIONS_SECRET = SECRET;
    stage.#server = await startServer(serverProgram(), {
      db: join(stage.#folder, "syncline.db"),
      statics: site,
      options: ["--manifest", manifest],
    });
    return stage;
  }

  get url() {
    return this.#server.url;
  }

  /** A browser of its own, whose pages share what is stored. */
  async browser() {
    const context = await startChromium(join(this.#folder, `profile-${this.#contexts.length}`));
    this.#contexts.push(context);
    await context.addInitScript(preparePage, RECONNECT_MS);
    return context;
  }

  /** Another page of a browser. */
  async page(context, path = "/blank.html") {
    const page = await context.newPage();
    await page.goto(this.url + path);
    return page;
  }

  /** What the server has, asked directly. */
  async titles(entity, token) {
    const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
    const answer = await fetch(`${this.url}/api/entities/${entity}`, { headers });
    const { data } = await answer.json();
    return data.map(({ title }) => title).sort();
  }

  /** Closes the browsers, and leaves the server for the next test. */
  async clear() {
    for (const context of this.#contexts) await context.close();
  }

  async strike() {
    await this.clear();
    await this.#server?.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** Runs in each page before its scripts. */
function preparePage(reconnectDelay) {
  // The memory of the module, which no script of the package gives away.
  const { instantiate } = WebAssembly;
  window.memories = [];
  const note = (instance) =>
    window.memories.push(Object.values(instance.exports).find((one) => one instanceof WebAssembly.Memory));
  WebAssembly.instantiate = async (...given) => {
    const made = await instantiate(...given);
    note(made.instance ?? made);
    return made;
  };
  WebAssembly.Instance = new Proxy(WebAssembly.Instance, {
    construct(target, given) {
      const instance = new target(...given);
      note(instance);
      return instance;
    },
  });
  window.errors = [];
  window.notices = [];
  window.asked = [];
  window.make = async ({ storedToken, renewWith, getTokenBy, layoutVersion, ...config }) => {
    // The later package has as many versions of the layout as it is told; the released one has its own.
    window.layoutVersion = layoutVersion;
    const folder = layoutVersion === undefined ? "dist" : "later";
    const { createSyncEngine, defaultStorage } = await import(
      new URL(`/${folder}/index.js`, location.origin).href
    );
    if (storedToken !== undefined) {
      config.storage = defaultStorage();
      config.storage.set("syncline_token", storedToken);
    }
    if (renewWith !== undefined) {
      config.getToken = ({ code }) => {
        window.asked.push(code);
        return renewWith;
      };
    }
    if (getTokenBy !== undefined) config.getToken = () => window[getTokenBy]();
    window.engine = createSyncEngine(location.origin, { reconnectDelay, ...config });
    window.engine.onError(({ code, hint }) => window.errors.push({ code, hint }));
    window.engine.onStorage((notice) => window.notices.push(notice));
    // Everything that was ever shown, for what must never be.
    window.seen = [];
    window.look = () => {
      const titles = ["todo", "private"]
        .flatMap((entity) => window.engine.store.list(entity))
        .map(({ title }) => title);
      window.seen.push(titles.sort().join());
      return titles;
    };
    window.engine.store.subscribe(window.look);
    return window.engine;
  };
  window.start = async (config) => {
    await (await window.make(config)).start();
  };
  window.shown = () => window.look().sort().join();
}

/** Makes an engine in the page and starts it; resolves when rows can be read. */
export function start(page, config = {}) {
  return page.evaluate((config) => window.start(config), config);
}

/** Waits until the page says yes. */
export async function until(page, isWanted, argument) {
  try {
    await page.waitForFunction(isWanted, argument, { timeout: WAIT_MS_MAX });
  } catch (cause) {
    const seen = await page.evaluate(() => ({
      status: window.engine.status,
      errors: window.errors,
      shown: window.shown(),
    }));
    throw new Error(`never ${isWanted} with ${argument}: ${JSON.stringify(seen)}`, { cause });
  }
}

/** Waits until the page shows these titles and no others. */
export function shows(page, ...titles) {
  return until(page, (wanted) => window.shown() === wanted, titles.sort().join());
}

/** Waits until the server has answered everything. */
export function isSynced(page) {
  return until(
    page,
    () =>
      window.engine.status.synced &&
      window.engine.status.pending === 0 &&
      window.engine.status.connection.state === "live",
  );
}

/** Inserts rows; resolves when they are on disk. */
export function insert(page, entity, ...titles) {
  return page.evaluate(
    async ([entity, titles]) => {
      for (const title of titles) await window.engine.insert(entity, { title });
    },
    [entity, titles],
  );
}
