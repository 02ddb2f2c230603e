// The server between the two devices: whether it lives, the buttons that end and restart it, and who holds how much.

import { button, element, setText } from "../element.ts";
import type { Ledger } from "../stage/ledger.ts";
import { capital, type Liveness, type Stage } from "../stage/stage.ts";

export function serverView(stage: Stage): { readonly root: HTMLElement; update(ledger: Ledger): void } {
  const wires = stage.devices.map((_, index) =>
    element("span", { class: `wire wire-${index}`, attributes: { "aria-hidden": "true" } }),
  );
  const says = element("p", { class: "server-says", attributes: { role: "status" } });
  const kill = button("Kill the server", "danger-solid", () => {
    void (stage.server === "killed" ? stage.restart() : stage.kill());
  });
  kill.dataset.widest = "Restart the server";
  const hint = element(
    "p",
    { class: "hint" },
    "Start the page with “cargo xtask demo” and this can kill the server.",
  );
  hint.hidden = stage.canKill;
  const holders = [...stage.devices.map(({ user }) => capital(user)), "Server"].map((name) => {
    const number = element("span", { class: "holder-number" }, "–");
    const bar = element("meter", {
      attributes: { min: "0", max: "1", value: "0", "aria-label": `Held by ${name}` },
    });
    return { number, bar, item: element("li", {}, element("span", {}, name), number, bar) };
  });
  const root = element(
    "section",
    { class: "server", attributes: { "aria-label": "Server" } },
    ...wires,
    element(
      "div",
      { class: "rack", attributes: { "aria-hidden": "true" } },
      ...[1, 2, 3].map(() => element("span", { class: "unit" })),
    ),
    element("div", { class: "server-name" }, element("h2", {}, "Server"), says),
    kill,
    hint,
    element("h3", {}, "Who holds the messages"),
    element("ul", { class: "holders" }, ...holders.map(({ item }) => item)),
    legend(),
  );
  return {
    root,
    update: (ledger) => {
      const shown = stateOf(stage);
      root.dataset.server = shown;
      setText(says, STATES[shown]);
      kill.disabled = !stage.canKill || shown === "starting";
      setText(kill, shown === "killed" || shown === "starting" ? "Restart the server" : "Kill the server");
      kill.className = shown === "killed" || shown === "starting" ? "primary" : "danger-solid";
      for (const [index, device] of stage.devices.entries()) {
        const wire = wires[index];
        if (wire !== undefined)
          wire.dataset.wire = wireOf(device.cable.isCut, device.engine.status.connection.state);
      }
      for (const [index, { number, bar }] of holders.entries()) {
        const held = ledger.held[index] ?? null;
        setText(number, held === null ? "–" : String(held));
        bar.max = Math.max(1, ledger.written);
        bar.value = held ?? 0;
      }
    },
  };
}

/** What the signs beside the messages say, where there is room to say it. */
function legend(): HTMLElement {
  const lines = SIGNS.flatMap(([sign, meaning]) => [element("dt", {}, sign), element("dd", {}, meaning)]);
  return element(
    "div",
    { class: "legend" },
    element("h3", {}, "Beside each message"),
    element("dl", {}, ...lines),
    element("p", { class: "hint" }, "Press one to see the message’s life."),
  );
}

/** Without a supervisor all that is known is whether it answers. */
function stateOf(stage: Stage): Exclude<Liveness, "unknown"> | "silent" {
  if (stage.server !== "unknown") return stage.server;
  return stage.isAnswering ? "running" : "silent";
}

function wireOf(isCut: boolean, connection: string): "cut" | "live" | "down" {
  if (isCut) return "cut";
  return connection === "live" ? "live" : "down";
}

const SIGNS = [
  ["◌", "on this device alone"],
  ["◔", "sent, no answer yet"],
  ["✓", "confirmed after so long"],
  ["↓", "came from the other"],
  ["✕", "refused, with the reason"],
] as const;

const STATES = {
  running: "Running",
  killed: "Dead (SIGKILL)",
  starting: "Starting…",
  silent: "Does not answer",
} as const;
