// One device: who uses it, what its engine says, its switches, and its chat.

import type { Status } from "syncline";
import { retry } from "../chat.ts";
import { avatar, button, element, setText } from "../element.ts";
import { type Device, setCut } from "../stage/device.ts";
import { capital, type Stage } from "../stage/stage.ts";
import { composerView } from "./composer.ts";
import { messageLog } from "./message_log.ts";
import { guarded, messageOf } from "./notice.ts";
import { refusedView } from "./refused.ts";
import { readState } from "./state.ts";
import { connectionText, count } from "./status.ts";

export function deviceView(
  stage: Stage,
  device: Device,
  show: (problem: string) => void,
): { readonly root: HTMLElement; update(): void } {
  const { engine, user } = device;
  const { lives } = stage;
  const act = guarded(show);
  const settle = (write: Promise<unknown>): void => {
    write.catch((error: unknown) => show(`${capital(user)}: not stored: ${messageOf(error)}`));
  };
  const again = act((opId: string) => settle(retry(engine, lives, opId)));
  const discard = act((opId: string) => engine.mutations.remove(opId));
  const log = messageLog({ retry: again, discard }, lives, EMPTY);
  const refused = refusedView(again, discard);
  const composer = composerView(
    { id: `message-${user}`, takesFocus: false },
    act((_channel: string, body: string) => stage.write(device, user, body)),
  );
  const connection = element("p", { class: "device-state", attributes: { role: "status" } });
  const detail = element("p", { class: "device-detail" });
  const cable = button("Cut network", "", () => setCut(device, !device.cable.isCut));
  cable.dataset.widest = "Mend network";
  const writeMany = button(
    "Write 100",
    "",
    act(() => stage.writeMany(device, MANY)),
  );
  const forge = button(
    `Write as ${capital(stage.otherThan(device).user)}`,
    "",
    act(() => stage.forge(device)),
  );
  forge.title =
    "A message in the other’s name: the server’s policy refuses it, and it stays here with the reason.";
  const root = element(
    "section",
    { class: "device", attributes: { "aria-label": `${capital(user)}’s device` } },
    element(
      "header",
      { class: "device-head" },
      avatar(user),
      element("h2", {}, capital(user)),
      connection,
      detail,
    ),
    element(
      "div",
      { class: "device-tools", attributes: { role: "group", "aria-label": `${capital(user)}’s switches` } },
      cable,
      writeMany,
      forge,
    ),
    log.root,
    refused.root,
    composer.root,
  );
  return {
    root,
    update: () => {
      const state = readState(engine, user, stage.channel);
      const { isCut } = device.cable;
      const { status } = state;
      root.dataset.connection = isCut ? "cut" : status.connection.state;
      root.dataset.pending = String(status.pending);
      setText(connection, isCut ? "Network cut" : connectionText(status.connection, Date.now()));
      setText(detail, detailText(status, isCut));
      setText(cable, isCut ? "Mend network" : "Cut network");
      cable.ariaPressed = String(isCut);
      log.update(state);
      refused.update(state);
      composer.update(state);
    },
  };
}

function detailText({ pending, failed, storage }: Status, isCut: boolean): string {
  const where = storage.kind === "memory" ? "in memory alone" : "on this disk";
  if (pending > 0) return `${count(pending, "write")} ${where}, unconfirmed`;
  if (failed > 0) return `${failed} refused, the rest confirmed`;
  return isCut ? "Nothing to send" : "Everything confirmed";
}

const EMPTY = "Nothing here yet. Write a message, or 100 at once.";
const MANY = 100;
