// Entry of the page: finds out whose window this is and shows the chat or the way in.

import { type Account, claimWindow, knownAccount, userOfWindow } from "./accounts.ts";
import { createChatEngine } from "./chat.ts";
import { element } from "./element.ts";
import { chatView } from "./view/chat.ts";
import { signInView } from "./view/sign_in.ts";

const wanted = userOfWindow();
const account = wanted === null ? null : knownAccount(wanted);
if (account === null) document.body.append(signInView(wanted, openChat));
else openChat(account);
keepPageOffline();

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
  document.body.replaceChildren(chatView(engine, account.user, offline));
  engine.start().catch((error: unknown) => {
    const text = error instanceof Error ? error.message : String(error);
    document.body.replaceChildren(element("p", { class: "fatal", attributes: { role: "alert" } }, text));
  });
}

/** The page, its script and the wasm module open without a server from the second visit on. */
function keepPageOffline(): void {
  if (!("serviceWorker" in navigator)) return;
  navigator.serviceWorker.register("./service_worker.js").catch((error: unknown) => {
    // Private windows may forbid it. The chat works; only opening it without a server does not.
    reportError(error);
  });
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
