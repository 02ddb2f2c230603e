// A `syncline` server of its own for a test: started on a free port, stopped by signal.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const START_MS_MAX = 20_000;
const LOG_LINES_MAX = 200;

/** The server's program, from the command line or the environment that `cargo xtask` sets. */
export function serverProgram(given) {
  const program = given ?? process.env.SYNCLINE_SERVER_BIN;
  if (!program) {
    throw new Error(
      "No server program: run this with cargo xtask, or name the program in SYNCLINE_SERVER_BIN.",
    );
  }
  return program;
}

/** Runs `syncline import` and returns what it printed and how long the process took, in seconds. */
export async function importRows(program, { file, entity, db }) {
  const start = performance.now();
  const run = promisify(execFile)(program, ["import", file, "--entity", entity, "--db", db]);
  const { stdout, stderr } = await run;
  return { output: `${stdout}${stderr}`.trim(), seconds: (performance.now() - start) / 1000 };
}

/** Starts `syncline dev` and resolves when it listens. */
export async function startServer(program, { db, statics, port = 0, isolated = false, options = [] }) {
  const all = ["dev", "--db", db, "--addr", `127.0.0.1:${port}`, "--static", statics, ...options];
  if (isolated) all.push("--cross-origin-isolated");
  const child = spawn(program, all, { stdio: ["ignore", "pipe", "pipe"] });
  const log = [];
  const gone = once(child, "exit");
  child.on("exit", (code, signal) => log.push(`(the process ended: ${signal ?? code})`));
  const url = await listening(child, gone, log);
  return {
    url,
    log: () => log.join("\n"),
    async stop() {
      child.kill("SIGTERM");
      await gone;
    },
  };
}

function listening(child, gone, log) {
  return new Promise((resolve, reject) => {
    const fail = (what) => reject(new Error(`The server ${what}:\n${log.join("\n")}`));
    const late = setTimeout(() => {
      child.kill("SIGKILL");
      fail(`did not listen within ${START_MS_MAX / 1000} s`);
    }, START_MS_MAX);
    gone.then(([code, signal]) => {
      clearTimeout(late);
      fail(`ended with ${signal ?? code} before it listened`);
    });
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        log.push(line);
        if (log.length > LOG_LINES_MAX) log.shift();
        const url = /listening on (http:\/\/\S+)/.exec(line)?.[1];
        if (!url) return;
        clearTimeout(late);
        resolve(url);
      });
    }
  });
}

/** A session for the asking, which only `syncline dev` gives. */
export async function signIn(url, user) {
  const answer = await fetch(`${url}/api/auth/session`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ user_id: user }),
  });
  const body = await answer.text();
  if (answer.status !== 201) throw new Error(`No session for ${user}: ${answer.status} ${body}`);
  return JSON.parse(body).token;
}
