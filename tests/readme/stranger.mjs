// What somebody types who follows the README: installing the package, and programs that run beside the editor.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const repository = fileURLToPath(new URL("../../", import.meta.url));
const START_LIMIT_MS = 180_000;
const LOG_CHARS_MAX = 20_000;
const npm = process.platform === "win32" ? "npm.cmd" : "npm";

/** Packs the package as it would be published and installs the tarball, and nothing else, into an empty folder. */
export async function installPackage(folder) {
  const run = promisify(execFile);
  const { stdout } = await run(npm, ["pack", "--silent", "--ignore-scripts", join(repository, "pkg")], {
    cwd: folder,
  });
  await writeFile(join(folder, "package.json"), JSON.stringify({ name: "todo", version: "1.0.0" }));
  const quiet = ["--silent", "--offline", "--ignore-scripts", "--no-package-lock"];
  await run(npm, ["install", ...quiet, `./${stdout.trim().split("\n").at(-1)}`], { cwd: folder });
}

/** The script that an installed package's only program consists of. */
export function tool(name) {
  const file = createRequire(import.meta.url).resolve(`${name}/package.json`);
  const { bin } = createRequire(import.meta.url)(file);
  return join(dirname(file), typeof bin === "string" ? bin : bin[name]);
}

/** A program that runs until it is ended, or until it is done. */
export class Service {
  #name;
  #child;
  #log = "";
  #listeners = new Set();

  constructor(program, args, folder) {
    this.#name = [program, ...args].join(" ");
    this.#child = spawn(program, args, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
    const read = (chunk) => {
      this.#log = (this.#log + chunk).slice(-LOG_CHARS_MAX);
      for (const listener of this.#listeners) listener();
    };
    this.#child.stdout.setEncoding("utf8").on("data", read);
    this.#child.stderr.setEncoding("utf8").on("data", read);
  }

  /** The first address it prints, as a URL without what follows the port; with a slash at the end where it prints one. */
  async address() {
    return await new Promise((resolve, reject) => {
      const look = () => {
        // Vite prints in colours when it thinks somebody looks at it.
        const plain = this.#log.replace(ESCAPES, "");
        const found = /http:\/\/(?:localhost|127\.0\.0\.1):\d+\/?/.exec(plain);
        if (found !== null) resolve(found[0]);
      };
      this.#listeners.add(look);
      this.#child.once("error", reject);
      this.#child.once("exit", (code) => reject(new Error(`it ended (${code}): ${this.report()}`)));
      AbortSignal.timeout(START_LIMIT_MS).onabort = () => reject(new Error(`no address: ${this.report()}`));
      look();
    });
  }

  /** Waits until it has done its work. */
  async success() {
    const [code] = await once(this.#child, "exit");
    if (code !== 0) throw new Error(`it failed (${code}): ${this.report()}`);
  }

  async end() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }

  report() {
    return `${this.#name}\n${this.#log}`;
  }
}

const ESCAPES = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, "g");
