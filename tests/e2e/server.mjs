// A real `syncline dev` on a database file, which tests stop, kill and start again at the same address.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const repository = fileURLToPath(new URL("../../", import.meta.url));
const START_LIMIT_MS = 30_000;
const LOG_CHARS_MAX = 20_000;

/** What the tests run; `cargo xtask test e2e-chromium` builds both and names them in the environment. */
export const program = process.env.SYNCLINE_SERVER_BIN ?? join(repository, "target/debug/syncline");
export const pages = process.env.SYNCLINE_STATIC_DIR ?? join(repository, "www/dist");

export class ChatServer {
  #folder;
  #site;
  #child = null;
  #log = "";
  #port = 0;

  /**
   * @param {string} folder Holds the database.
   * @param {string} [site] The folder of its files.
   */
  constructor(folder, site = pages) {
    this.#folder = folder;
    this.#site = site;
  }

  /** The same over all starts, because a browser keeps data by origin. */
  get url() {
    return `http://127.0.0.1:${this.#port}`;
  }

  get log() {
    return this.#log;
  }

  async start() {
    const child = spawn(
      program,
      [
        ...["dev", "--db", join(this.#folder, "syncline.db"), "--addr", `127.0.0.1:${this.#port}`],
        ...["--static", this.#site, "--manifest", join(repository, "www/syncline.toml")],
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    this.#child = child;
    const listening = new Promise((resolve, reject) => {
      let said = "";
      const read = (chunk) => {
        said += chunk;
        this.#log = (this.#log + chunk).slice(-LOG_CHARS_MAX);
        const address = /listening on http:\/\/127\.0\.0\.1:(\d+)/.exec(said);
        if (address !== null) resolve(Number(address[1]));
      };
      child.stdout.setEncoding("utf8").on("data", read);
      child.stderr.setEncoding("utf8").on("data", read);
      child.once("error", (error) => reject(new Error(`${program} cannot be started: ${error.message}`)));
      child.once("exit", (code) =>
        reject(new Error(`the server ended (${code}) before it listened:\n${said}`)),
      );
      AbortSignal.timeout(START_LIMIT_MS).onabort = () =>
        reject(new Error(`the server does not listen:\n${said}`));
    });
    this.#port = await listening;
  }

  /** Asks it to end, as Ctrl-C does. */
  async stop() {
    await this.#end("SIGTERM");
  }

  /** Ends it in the middle of whatever it does. */
  async kill() {
    await this.#end("SIGKILL");
  }

  async #end(signal) {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }
}
