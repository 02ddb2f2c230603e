// The life of a message: each station with the time since it was written.

import type { Message } from "../chat.ts";
import { element } from "../element.ts";
import type { Life } from "../lives.ts";

/** One station; `at` is null where the message has not come to it. */
interface Station {
  readonly name: string;
  readonly at: number | null;
  readonly meaning: string;
}

/** Shows how far a message has come. `life` is absent for a message that this page did not write. */
export function lifeView(message: Message, life: Life | undefined): HTMLElement {
  const panel = element("div", { class: "life" });
  if (life === undefined) {
    panel.append(element("p", { class: "life-note" }, elsewhereText(message)));
    return panel;
  }
  panel.append(
    element(
      "ol",
      { class: "stations" },
      ...stations(life).map((station) => stationItem(station, life.writtenAt)),
    ),
    element("p", { class: "life-note" }, ...notes(life)),
  );
  return panel;
}

/** How long it took to be confirmed, where that is known. */
export function confirmedAfter(life: Life | undefined): string | null {
  if (life === undefined || life.confirmedAt === null) return null;
  return duration(life.confirmedAt - life.writtenAt);
}

/** How long it took to arrive at another device of this page. */
export function arrivedAfter(life: Life | undefined): string | null {
  if (life === undefined || life.arrivedAt === null) return null;
  return duration(life.arrivedAt - life.writtenAt);
}

function stations(life: Life): readonly Station[] {
  const told: Station[] = [
    { name: "Local", at: life.writtenAt, meaning: "On the screen, in the same turn as the key press" },
    { name: "Disk", at: life.diskAt, meaning: "In this browser’s storage: survives a crash" },
    { name: "Sent", at: life.sentAt, meaning: "Marked on disk as sent, then given to the network" },
  ];
  if (life.end === "refused") return told;
  told.push({ name: "Confirmed", at: life.confirmedAt, meaning: "On the server’s disk, in its log" });
  if (life.arrivedAt !== null)
    told.push({ name: "Other device", at: life.arrivedAt, meaning: "On the other screen" });
  return told;
}

function stationItem({ name, at, meaning }: Station, start: number): HTMLElement {
  return element(
    "li",
    { class: at === null ? "station" : "station reached", attributes: { title: meaning } },
    element("span", { class: "station-name" }, name),
    element("span", { class: "station-time" }, at === null ? "waiting" : `+${duration(at - start)}`),
  );
}

function notes(life: Life): readonly (HTMLElement | string)[] {
  const place = life.seq === null ? "" : `Place ${life.seq} in the server’s log. `;
  const again = life.sends > 1 ? `Sent ${life.sends} times under one op_id and applied once. ` : "";
  const refused = life.end === "refused" ? "The server refused it. " : "";
  return [`${refused}${place}${again}`, element("code", {}, `op_id ${life.opId}`)];
}

function elsewhereText(message: Message): string {
  if (message.delivery.state !== "confirmed")
    return "Written before this page was opened; its queue is still on disk.";
  return "Written elsewhere, or before this page kept notes. It came confirmed from the server.";
}

/** Short, with as many digits as can be believed. */
export function duration(ms: number): string {
  if (ms < 9.95) return `${Math.max(0, ms).toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 99.5) return `${seconds.toFixed(1)} s`;
  return seconds < 5_940 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3_600)} h`;
}
