// The connection and the queue, as they are: nothing here is called connected or saved because it probably is.

import type { Connection, Status, StorageStatus } from "syncline";
import { element, setText } from "../element.ts";
import type { View } from "./state.ts";

/** The indicator with its offline switch. `onOffline` is told what the user chose. */
export function statusView(offline: boolean, onOffline: (offline: boolean) => void): View {
  const dot = element("span", { class: "dot", attributes: { "aria-hidden": "true" } });
  const headline = element("strong", { class: "status-headline" });
  const heard = element("p", { class: "status-detail" });
  const queue = element("p", { class: "status-queue" });
  const storage = element("p", { class: "status-detail" });
  const problem = element("p", { class: "status-problem" });
  const checkbox = element("input", { attributes: { type: "checkbox", role: "switch", id: "offline" } });
  checkbox.checked = offline;
  checkbox.addEventListener("change", () => onOffline(checkbox.checked));

  const root = element(
    "section",
    { class: "status", attributes: { "aria-label": "Connection" } },
    element("p", { class: "status-line", attributes: { role: "status" } }, dot, headline),
    queue,
    heard,
    storage,
    problem,
    element("label", { class: "switch", attributes: { for: "offline" } }, checkbox, "Work offline"),
  );
  let status: Status | null = null;
  const show = (): void => {
    if (status === null) return;
    const now = Date.now();
    root.dataset.connection = status.connection.state;
    root.dataset.pending = String(status.pending);
    setText(headline, connectionText(status.connection, now));
    setText(heard, heardText(status, now));
    setText(queue, queueText(status));
    setText(storage, storageText(status.storage));
    setText(problem, problemText(status));
    root.classList.toggle("has-queue", status.pending + status.failed > 0);
    root.classList.toggle("storage-warning", status.storage.kind === "memory");
  };
  // Ages and countdowns move while nothing else happens.
  setInterval(show, TICK_MS);
  return {
    root,
    update: (state) => {
      status = state.status;
      show();
    },
  };
}

/** What the engine does about the server, in words. */
export function connectionText(connection: Connection, now: number): string {
  switch (connection.state) {
    case "idle":
      return "Not connected";
    case "connecting":
      return "Connecting…";
    case "live":
      return "Live";
    case "waiting":
      return connection.retryAt === null
        ? "No connection"
        : `Offline, retry ${inTime(connection.retryAt - now)}`;
    case "paused":
      return "Offline, as you chose";
    case "unauthorized":
      return "Signed out by the server";
    case "incompatible":
      return "This page is of another version than the server: reload it";
    case "stopped":
      return "Stopped";
  }
}

function heardText(status: Status, now: number): string {
  if (status.lastHeardAt === null)
    return status.synced ? "Server not heard since opening" : "Server not heard yet";
  const seconds = Math.max(0, Math.round((now - status.lastHeardAt) / 1000));
  return seconds < 2 ? "Server heard just now" : `Server heard ${age(seconds)} ago`;
}

function queueText(status: Status): string {
  const refused = status.failed === 0 ? "" : `${count(status.failed, "change")} refused. `;
  if (status.pending > 0) return `${refused}${count(status.pending, "change")} unconfirmed`;
  return refused === "" ? "All changes confirmed" : refused;
}

function storageText(storage: StorageStatus): string {
  switch (storage.kind) {
    case "opening":
      return "Opening this browser’s storage…";
    case "indexeddb":
    case "backend":
      return "Kept in this browser";
    case "memory":
      return `Not kept: closing this window loses it (${storage.reason})`;
  }
}

/** What is wrong, while it is. An error of the past beside a live connection would only worry. */
function problemText(status: Status): string {
  const well = status.connection.state === "live" || status.connection.state === "paused";
  if (well || status.lastError === null || status.lastError.code === "NETWORK_UNAVAILABLE") return "";
  return status.lastError.message;
}

function inTime(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  return seconds <= 0 ? "now" : `in ${age(seconds)}`;
}

function age(seconds: number): string {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

/** A number with its noun. */
export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

const TICK_MS = 1_000;
