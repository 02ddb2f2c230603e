// The page with two devices: breaks things at the press of a button and keeps the account.

import { button, element, setText } from "../element.ts";
import { Lives } from "../lives.ts";
import { Control } from "../stage/control.ts";
import { openDevice, sharedChannel } from "../stage/device.ts";
import { Stage } from "../stage/stage.ts";
import { tellStory } from "../stage/story.ts";
import { deviceView } from "./device.ts";
import { ledgerView } from "./ledger.ts";
import { messageOf, noticeView } from "./notice.ts";
import { serverView } from "./server.ts";

/** Opens both devices and shows them. */
export async function openStage(users: readonly [string, string]): Promise<HTMLElement> {
  const [one, other] = users;
  const devices = [await openDevice(one, 1), await openDevice(other, 2)] as const;
  const notice = noticeView();
  const lives = new Lives(`syncline_chat_lives_${one}_${other}`);
  const stage = new Stage(devices, lives, Control.fromAddress(), notice.show);
  for (const { engine } of devices) {
    engine.onError((error) => {
      if (!error.retryable) notice.show(error.message);
    });
  }
  const root = stageView(stage, notice);
  open(stage).catch((error: unknown) => notice.show(messageOf(error)));
  return root;
}

async function open(stage: Stage): Promise<void> {
  const [first, second] = stage.devices;
  await Promise.all(stage.devices.map(({ engine }) => engine.start()));
  stage.show(await sharedChannel(first, [second.user]));
}

function stageView(stage: Stage, notice: ReturnType<typeof noticeView>): HTMLElement {
  const [first, second] = stage.devices;
  const ledger = ledgerView(stage);
  const server = serverView(stage);
  const left = deviceView(stage, first, notice.show);
  const right = deviceView(stage, second, notice.show);
  const root = element(
    "div",
    { class: "stage" },
    headOf(stage),
    ledger.root,
    element("main", { class: "stage-body" }, left.root, server.root, right.root),
    notice.root,
  );
  const render = (): void => {
    const counted = stage.ledger();
    ledger.update(counted);
    server.update(counted);
    left.update();
    right.update();
  };
  stage.subscribe(render);
  // Countdowns move while nothing else happens.
  setInterval(render, TICK_MS);
  document.title = "Two devices – Syncline Chat";
  render();
  return root;
}

function headOf(stage: Stage): HTMLElement {
  const lead = element("p", { class: "lead", attributes: { role: "status" } }, LEAD);
  const story = button("Break everything", "primary", () => {
    story.disabled = true;
    root.classList.add("telling");
    const over = (): void => {
      story.disabled = false;
      root.classList.remove("telling");
    };
    tellStory(stage, (sentence) => setText(lead, sentence ?? END)).then(over, over);
  });
  const root = element(
    "header",
    { class: "stage-head" },
    element("img", { class: "logo", attributes: { src: "./icon.svg", alt: "", width: "40", height: "40" } }),
    element("div", { class: "stage-title" }, element("h1", {}, "Two devices, one server"), lead),
    element(
      "div",
      { class: "stage-actions" },
      story,
      button("Count anew", "quiet", () => stage.countAnew()),
      element("a", { class: "quiet-link", attributes: { href: "./" } }, "The chat"),
    ),
  );
  return root;
}

const LEAD = "Cut a network, kill the server, keep writing. The ledger counts it all.";
const END = "A bad day for everybody but the messages. Press any ✓ for a message’s life.";
const TICK_MS = 1_000;
