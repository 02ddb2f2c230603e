// One of several tabs: says when it leads and when the server has answered it, and does what the harness asks for.

import { createSyncEngine } from "./dist/index.js";
import { tell, wishes } from "./reports.js";

const engine = createSyncEngine(location.origin, {
  appName: wishes.app,
  token: wishes.token,
  reconnectDelay: 50,
});

const TASKS = {
  /** Without a tie to this page it gets a process of its own. */
  open: ({ url }) => void window.open(url, "_blank", "noopener"),
  close: () => window.close(),
  /** Nothing of this page runs any more, and nobody was told. */
  hang: () => {
    for (;;);
  },
  /** One write after the other, each as soon as the server has answered the one before. */
  write: () => void write(),
};

run().catch((error) => tell("problem", { message: `${error?.stack ?? error}`, status: engine.status }));

async function run() {
  await engine.start();
  await until(({ connection, synced }) => connection.state === "live" && synced);
  void until(({ role }) => role === "leader").then(() => tell("leads", {}));
  await tell("ready", { role: engine.status.role });
  for (;;) {
    const { task, ...how } = await tell("idle", { isHidden: document.hidden });
    TASKS[task](how);
  }
}

async function write() {
  for (let n = 0; ; n += 1) {
    await engine.insert("note", { n }).confirmed;
    if (engine.status.role === "leader") return tell("answered", { writes: n + 1 });
  }
}

function until(isSo) {
  return new Promise((resolve) => {
    if (isSo(engine.status)) return resolve();
    const stop = engine.onStatus((status) => {
      if (!isSo(status)) return;
      stop();
      resolve();
    });
  });
}
