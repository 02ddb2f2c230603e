// The page of a signed-in user: puts the parts together, tells them each new state, and turns what they ask for into writes.

import type { Write } from "syncline";
import * as chat from "../chat.ts";
import { avatar, element } from "../element.ts";
import type { Lives } from "../lives.ts";
import { oncePerTurn } from "../once_per_turn.ts";
import { channelListView } from "./channel_list.ts";
import { conversationView } from "./conversation.ts";
import { membersView } from "./members.ts";
import { guarded, messageOf, noticeView } from "./notice.ts";
import { refusedView } from "./refused.ts";
import { addressOfChannel, channelOfAddress, readState, type View } from "./state.ts";
import { statusView } from "./status.ts";

/** Whether the user chose to be offline, which outlives the window. */
export interface OfflineChoice {
  readonly chosen: boolean;
  choose(offline: boolean): void;
}

export function chatView(
  engine: chat.ChatEngine,
  user: string,
  lives: Lives,
  offline: OfflineChoice,
): HTMLElement {
  const notice = noticeView();
  const act = guarded(notice.show);
  const settle = (write: Write<unknown>): void => {
    // The promise speaks of this device's disk. What the server says stands in the queue and is shown from there.
    write.catch((error: unknown) => notice.show(`Not stored: ${messageOf(error)}`));
  };
  const retry = act((opId: string) => settle(chat.retry(engine, lives, opId)));
  const discard = act((opId: string) => engine.mutations.remove(opId));

  const status = statusView(offline.chosen, (chosen) => offline.choose(chosen));
  const channelList = channelListView(
    act((name: string, members: readonly string[]) => {
      const write = chat.createChannel(engine, user, name, members);
      location.hash = addressOfChannel(write.id);
      settle(write);
    }),
  );
  const members = membersView({
    invite: act((channel: string, member: string) => settle(chat.invite(engine, channel, member))),
    remove: act((channel: string, member: string) => settle(chat.removeMember(engine, channel, member))),
  });
  const refused = refusedView(retry, discard);
  const conversation = conversationView(
    {
      send: act((channel: string, body: string) => settle(chat.send(engine, lives, user, channel, body))),
      retry,
      discard,
      toggleMembers: () => root.classList.toggle("members-toggled"),
    },
    lives,
  );
  const who = element(
    "header",
    { class: "who" },
    avatar(user),
    element("strong", { class: "user-name" }, user),
    element("a", { attributes: { href: "./" } }, "Switch user"),
  );
  const sidebar = element("div", { class: "sidebar" }, who, channelList.root, refused.root, status.root);
  const root = element("div", { class: "chat" }, sidebar, conversation.root, members.root, notice.root);
  keepCurrent(engine, user, lives, root, [status, channelList, members, refused, conversation]);
  engine.onError((error) => {
    // A connection that comes and goes is the indicator's to tell, and so is a token that no new one replaced.
    const isTold = error.retryable || error.code === "UNAUTHENTICATED" || error.code === "TOKEN_EXPIRED";
    if (!isTold) notice.show(error.message);
  });
  return root;
}

/** Renders after every change of rows, queue, status or address, once for all that changed together. */
function keepCurrent(
  engine: chat.ChatEngine,
  user: string,
  lives: Lives,
  root: HTMLElement,
  views: readonly View[],
): void {
  const ask = oncePerTurn(() => {
    const state = readState(engine, user, channelOfAddress());
    root.classList.toggle("channel-open", state.wantedChannel !== null);
    root.classList.toggle("channel-shown", state.channel !== null);
    document.title = state.channel === null ? `${user} – Syncline Chat` : `#${state.channel.name} – ${user}`;
    for (const view of views) view.update(state);
  });
  engine.store.subscribe(ask);
  engine.mutations.subscribe(ask);
  engine.onStatus(ask);
  lives.subscribe(ask);
  addEventListener("hashchange", ask);
  ask();
}
