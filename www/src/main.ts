// Entry of the page: finds out whose window this is and shows the chat, the way in, or two devices side by side.

import { type Account, claimWindow, knownAccount, userOfWindow } from "./accounts.ts";
import { createChatEngine } from "./chat.ts";
import { element } from "./element.ts";
import { Lives } from "./lives.ts";
import { chatView } from "./view/chat.ts";
import { messageOf } from "./view/notice.ts";
import { signInView } from "./view/sign_in.ts";
import { openStage } from "./view/stage.ts";

const wanted = userOfWindow();
const account = wanted === null ? null : knownAccount(wanted);
if (new URLSearchParams(location.search).get("devices") === "2") showStage();
else if (account === null) document.body.append(signInView(wanted, openChat));
else openChat(account);
keepPageOffline().catch(() => {
  // No server now, or a private window that forbids it: the chat works, only opening it without a server may not.
});

function showStage(): void {
  openStage(["alice", "bob"]).then((stage) => document.body.replaceChildren(stage), showFatal);
}

function openChat(account: Account): void {
  claimWindow(account.user);
  const engine = createChatEngine(account);
  const key = `syncline_chat_offline_${account.user}`;
  const offline = {
    chosen: stored(key),
    choose: (chosen: boolean): void => {
      store(key, chosen);
      if (chosen) engine.pause();
      else engine.resume();
    },
  };
  if (offline.chosen) engine.pause();
  const lives = new Lives(`syncline_chat_lives_${account.user}`);
  lives.attend(engine.mutations);
  document.body.replaceChildren(chatView(engine, account.user, lives, offline));
  engine.start().catch(showFatal);
}

function showFatal(error: unknown): void {
  const attributes = { role: "alert" };
  document.body.replaceChildren(element("p", { class: "fatal", attributes }, messageOf(error)));
}

/** The page, its script and the wasm module open without a server from the second visit on. */
async function keepPageOffline(): Promise<void> {
  if (!("serviceWorker" in navigator)) return;
  const registration = await navigator.serviceWorker.register("./service_worker.js");
  // Registering again looks for a newer worker only some time later, if at all.
  if (navigator.onLine) await registration.update();
}

function stored(key: string): boolean {
  try {
    return localStorage.getItem(key) === "true";
  } catch {
    return false;
  }
}

function store(key: string, value: boolean): void {
  try {
    localStorage.setItem(key, String(value));
  } catch {
    // Without storage the choice lasts as long as the window.
  }
}
