// Browsers as plain child processes on a profile of their own: nothing of a driver stands between them and the kill.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CHROMIUM_ARGUMENTS } from "../chromium_arguments.mjs";
import { DebuggingPipe } from "./debugging_pipe.mjs";

const CLOSE_MS_MAX = 15_000;
const GONE_MS_MAX = 15_000;

/** Each browser: how it is started, where it keeps the stores of a site, and which of its processes run pages. */
const BROWSERS = {
  chromium: {
    program: () => process.env.CHROME ?? "/usr/bin/chromium",
    prepare() {},
    start: (profile, url) => [
      ...CHROMIUM_ARGUMENTS,
      "--headless=new",
      // A spare process without a page would be killed in place of a tab.
      "--disable-features=SpareRendererForSitePerProcess",
      "--disable-breakpad",
      "--hide-crash-restore-bubble",
      // The page opens the second tab itself.
      "--disable-popup-blocking",
      `--user-data-dir=${profile}`,
      url,
    ],
    stores: (profile) => [join(profile, "Default/IndexedDB")],
    localStorage: (profile) => [join(profile, "Default/Local Storage/leveldb")],
    isTab: (line) => line.includes("--type=renderer") && !line.includes("--extension-process"),
  },
  firefox: {
    program: () => process.env.FIREFOX ?? "/usr/bin/firefox-esr",
    prepare: (profile) => writeFileSync(join(profile, "user.js"), FIREFOX_PREFERENCES),
    start: (profile, url) => ["--headless", "--no-remote", "--profile", profile, url],
    stores: (profile) => sitesOf(profile).map((site) => join(site, "idb")),
    localStorage: (profile) => sitesOf(profile).map((site) => join(site, "ls")),
    isTab: (line) => line.includes("-contentproc") && /\btab$/.test(line.trim()),
  },
};

/** Nothing is restored, asked or fetched after a crash. */
const FIREFOX_PREFERENCES = Object.entries({
  "app.normandy.enabled": false,
  "app.update.enabled": false,
  "browser.aboutwelcome.enabled": false,
  "browser.sessionstore.resume_from_crash": false,
  "browser.shell.checkDefaultBrowser": false,
  "browser.startup.homepage_override.mstone": "ignore",
  "browser.startup.page": 0,
  "datareporting.policy.dataSubmissionEnabled": false,
  "dom.disable_open_during_load": false,
  "dom.ipc.processPrelaunch.enabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "toolkit.startup.max_resumed_crashes": -1,
})
  .map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`)
  .join("");

/** One browser that runs. */
export class Browser {
  #kind;
  #profile;
  #child;
  #gone;
  /** Speaks to the browser, if it was started to be spoken to. @type {DebuggingPipe | undefined} */
  debugging;

  /** Starts one on the profile and opens the address in a tab; `isDebugged` is for Chromium alone. */
  constructor(name, profile, url, isDebugged = false) {
    this.#kind = BROWSERS[name];
    this.#profile = profile;
    this.#kind.prepare(profile);
    // What a browser leaves behind when it is killed goes with the profile.
    const TMPDIR = join(profile, "tmp");
    mkdirSync(TMPDIR, { recursive: true });
    const env = { ...process.env, TMPDIR, MOZ_CRASHREPORTER_DISABLE: "1", MOZ_HEADLESS: "1" };
    // A group of its own: it is killed without asking who belongs to it.
    const pipe = isDebugged ? { stdio: DebuggingPipe.STDIO, more: DebuggingPipe.ARGUMENTS } : {};
    const options = { stdio: pipe.stdio ?? "ignore", detached: true, env };
    const given = [...(pipe.more ?? []), ...this.#kind.start(profile, url)];
    this.#child = spawn(this.#kind.program(), given, options);
    if (isDebugged) this.debugging = new DebuggingPipe(this.#child);
    this.#gone = once(this.#child, "exit");
    this.#gone.catch(() => {});
  }

  /** Kills all of its processes at once. */
  async kill() {
    const others = this.#processes();
    signal(-this.#child.pid, "SIGKILL");
    for (const { pid } of others) signal(pid, "SIGKILL");
    await this.#gone;
    await this.#empty();
  }

  /** Kills one process that runs a page; `choose` picks from their number. Gives whether there was one. */
  killTab(choose) {
    const tabs = this.tabs();
    if (tabs.length === 0) return false;
    return this.killProcess(tabs[choose(tabs.length)]);
  }

  /** The processes that run pages. */
  tabs() {
    const all = this.#processes().filter(({ line }) => this.#kind.isTab(line));
    return all.map(({ pid }) => pid);
  }

  /** Kills one of them. */
  killProcess(pid) {
    return signal(pid, "SIGKILL");
  }

  /** Ends it as its user would. */
  async close() {
    signal(this.#child.pid, "SIGTERM");
    const late = setTimeout(() => void this.kill(), CLOSE_MS_MAX);
    await this.#gone;
    clearTimeout(late);
    await this.#empty();
  }

  /** Waits until no process has the profile open. */
  async #empty() {
    const late = Date.now() + GONE_MS_MAX;
    for (;;) {
      const left = this.#processes();
      if (left.length === 0) return;
      if (Date.now() > late) throw new Error(`still there: ${left.map(({ line }) => line.slice(0, 200))}`);
      for (const { pid } of left) signal(pid, "SIGKILL");
      await new Promise(setImmediate);
    }
  }

  /** Its processes and their command lines: all below the one that was started, and all that name the profile. */
  #processes() {
    const all = processTable();
    const own = new Set([this.#child.pid]);
    for (let size = 0; size < own.size; ) {
      size = own.size;
      for (const { pid, parent, line } of all)
        if (own.has(parent) || line.includes(this.#profile)) own.add(pid);
    }
    own.delete(process.pid);
    return all.filter(({ pid }) => own.has(pid));
  }
}

/** Where the browser keeps the databases of sites. */
export const storesOf = (name, profile) => BROWSERS[name].stores(profile);

/** Whether the browser has written a text to the disk as a part of `localStorage`: it does so seconds after the page did. */
export function isInLocalStorage(name, profile, text) {
  const folders = BROWSERS[name].localStorage(profile);
  const files = folders.flatMap((folder) => entriesOf(folder).map((file) => join(folder, file)));
  // In two bytes a character or in one.
  const forms = [Buffer.from(text, "latin1"), Buffer.from(text, "utf16le")];
  return files.some((file) => forms.some((form) => readIfThere(file).includes(form)));
}

function sitesOf(profile) {
  const folder = join(profile, "storage/default");
  return entriesOf(folder).map((site) => join(folder, site));
}

function readIfThere(file) {
  try {
    return readFileSync(file);
  } catch {
    return Buffer.alloc(0);
  }
}

/** What runs on this machine, where the system shows it as files; elsewhere the process group has to do. */
function processTable() {
  const table = [];
  for (const entry of entriesOf("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      // The name in parentheses may hold anything; the state and the parent follow it.
      const status = readFileSync(`/proc/${entry}/stat`, "utf8");
      const [state, parent] = status.slice(status.lastIndexOf(")") + 2).split(" ");
      if (state === "Z") continue;
      const line = readFileSync(`/proc/${entry}/cmdline`, "utf8").replaceAll("\0", " ");
      table.push({ pid: Number(entry), parent: Number(parent), line });
    } catch {
      // It ended meanwhile.
    }
  }
  return table;
}

function entriesOf(folder) {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function signal(pid, name) {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}
