// The ledger: five numbers and the sentence that they add up to.

import { element, setText } from "../element.ts";
import type { Ledger } from "../stage/ledger.ts";
import type { Stage } from "../stage/stage.ts";
import { count } from "./status.ts";

export function ledgerView(stage: Stage): { readonly root: HTMLElement; update(ledger: Ledger): void } {
  const cells = CELLS.map(({ key, label, meaning }) => {
    const number = element("dd", {}, "0");
    const cell = element(
      "div",
      { class: `cell cell-${key}`, attributes: { title: meaning } },
      element("dt", {}, label),
      number,
    );
    return { key, cell, number };
  });
  const verdict = element("p", { class: "verdict", attributes: { role: "status" } });
  const root = element(
    "section",
    { class: "ledger", attributes: { "aria-label": "Ledger" } },
    element("dl", {}, ...cells.map(({ cell }) => cell)),
    verdict,
  );
  return {
    root,
    update: (ledger) => {
      for (const { key, cell, number } of cells) {
        setText(number, String(ledger[key]));
        root.dataset[key] = String(ledger[key]);
        cell.classList.toggle("is-zero", ledger[key] === 0);
      }
      const isBad = ledger.lost + ledger.doubled > 0;
      root.dataset.settled = String(ledger.isSettled);
      root.dataset.verdict = isBad ? "bad" : ledger.isSettled ? "good" : "open";
      setText(verdict, verdictText(ledger, stage));
    },
  };
}

function verdictText(ledger: Ledger, stage: Stage): string {
  const { written, confirmed, onDisk, refused, lost, doubled, isSettled } = ledger;
  if (lost + doubled > 0)
    return `${count(lost, "message")} lost, ${doubled} doubled. That is a bug: please report it.`;
  if (written === 0) return "Nothing written yet. Write something, then break something.";
  const aside =
    refused === 0 ? "" : ` ${count(refused, "message")} refused, kept with the reason until you decide.`;
  if (isSettled) return `Every message is on both devices and on the server, once.${aside}`;
  const away = written - refused - confirmed;
  if (away > 0) {
    const place = onDisk === written ? "safe on disk" : "being stored";
    const where = stage.isInMemory ? "in memory alone, because this browser stores nothing" : place;
    return `${count(away, "message")} not confirmed yet, ${where}. Nothing is lost.${aside}`;
  }
  if (!stage.isAnswering) return `All confirmed. The server cannot be asked for its copy now.${aside}`;
  return `All confirmed. On the way to the other device.${aside}`;
}

const CELLS = [
  { key: "written", label: "Written", meaning: "Messages written on this page and not discarded" },
  { key: "onDisk", label: "On disk", meaning: "Their promise resolved: they survive a crash of the browser" },
  { key: "confirmed", label: "Confirmed", meaning: "The server answered that it has them on its disk" },
  { key: "refused", label: "Refused", meaning: "The server said no; kept with the reason until you decide" },
  {
    key: "lost",
    label: "Lost",
    meaning: "In no queue, no replica and not on the server, or confirmed and not there",
  },
  { key: "doubled", label: "Doubled", meaning: "More than once in a replica or on the server" },
] as const;
