// `cargo xtask demo` itself, with its supervisor: what a visitor starts.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const repository = fileURLToPath(new URL("../../", import.meta.url));
const START_LIMIT_MS = 120_000;
const LOG_CHARS_MAX = 20_000;

export class Demo {
  #folder;
  #child = null;
  #log = "";
  #address = null;

  /** @param {string} folder Holds the database. */
  constructor(folder) {
    this.#folder = folder;
  }

  /** Where the pages are. */
  get url() {
    return this.#address.origin;
  }

  /** The path of the page with two devices, with what it needs to kill the server. */
  get stage() {
    return this.#address.href.slice(this.#address.origin.length);
  }

  /** The endpoint that the page calls, as the address names it. */
  get control() {
    const [, port, token] = /^#control=(\d+)\.([0-9a-f]+)$/.exec(this.#address.hash);
    return { url: `http://127.0.0.1:${port}`, token };
  }

  get log() {
    return this.#log;
  }

  async start() {
    // `cargo xtask test` names its own program, so that nothing is compiled in the middle of a test.
    const [program, ...first] =
      process.env.SYNCLINE_XTASK === undefined ? ["cargo", "xtask"] : [process.env.SYNCLINE_XTASK];
    // A second start takes the first one's port: a browser keeps data by origin.
    const port = this.#address === null ? [] : ["--port", this.#address.port];
    this.#log = "";
    const child = spawn(program, [...first, "demo", "--no-open", "--data", this.#folder, ...port], {
      cwd: repository,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    this.#address = await new Promise((resolve, reject) => {
      const read = (chunk) => {
        this.#log = (this.#log + chunk).slice(-LOG_CHARS_MAX);
        const address = /http:\/\/127\.0\.0\.1:\d+\/\?devices=2#control=\d+\.[0-9a-f]{32}/.exec(this.#log);
        if (address !== null) resolve(new URL(address[0]));
      };
      child.stdout.setEncoding("utf8").on("data", read);
      child.stderr.setEncoding("utf8").on("data", read);
      child.once("error", (error) => reject(new Error(`${program} cannot be started: ${error.message}`)));
      child.once("exit", (code) => reject(new Error(`the demo ended (${code}):\n${this.#log}`)));
      AbortSignal.timeout(START_LIMIT_MS).onabort = () =>
        reject(new Error(`the demo does not start:\n${this.#log}`));
    });
  }

  async stop() {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
  }
}
