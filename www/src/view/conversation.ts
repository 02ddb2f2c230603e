// One channel: its messages, with how far each of one's own has come, and the place to write the next.

import type { Delivery, Message } from "../chat.ts";
import { avatar, button, element, reconcile, setText } from "../element.ts";
import type { ChatState, View } from "./state.ts";

/** What this part of the page can cause. */
export interface ConversationActions {
  send(channel: string, body: string): void;
  retry(opId: string): void;
  discard(opId: string): void;
  toggleMembers(): void;
}

export function conversationView(actions: ConversationActions): View {
  const title = element("h1", {});
  const people = button("", "quiet", actions.toggleMembers);
  people.setAttribute("aria-controls", "members");
  const back = element(
    "a",
    { class: "back", attributes: { href: "#", "aria-label": "Back to the channels" } },
    "‹",
  );
  const log = messageLog(actions);
  const composer = composerOf(actions);
  const nothing = element("div", { class: "nothing-open" });
  const open = element(
    "div",
    { class: "open-channel" },
    element("header", { class: "channel-head" }, back, title, people),
    log.root,
    composer.root,
  );
  return {
    root: element("main", { class: "conversation" }, nothing, open),
    update: (state) => {
      nothing.hidden = state.channel !== null;
      open.hidden = state.channel === null;
      if (state.channel === null) return setText(nothing, nothingText(state));
      setText(title, `# ${state.channel.name}`);
      setText(people, state.members.length === 1 ? "1 member" : `${state.members.length} members`);
      log.update(state);
      composer.update(state);
    },
  };
}

function nothingText({ wantedChannel, channels, status }: ChatState): string {
  if (wantedChannel !== null && status.synced)
    return "This channel is not among yours. You left it, or somebody removed you.";
  return channels.length === 0 ? "Create a channel to begin." : "Choose a channel.";
}

function messageLog(actions: ConversationActions): View {
  let channel: string | null = null;
  let limit = PAGE_MESSAGES;
  let last: ChatState | null = null;
  const empty = element("p", { class: "empty" }, "Nothing here yet. Say hello.");
  const earlier = button("Show earlier messages", "quiet earlier", () => {
    limit += PAGE_MESSAGES;
    if (last !== null) view.update(last);
  });
  const list = element("ol", {
    class: "messages",
    attributes: { role: "log", "aria-label": "Messages", "aria-live": "polite" },
  });
  const root = element("div", { class: "scroller", attributes: { tabindex: "0" } }, earlier, empty, list);
  const view: View = {
    root,
    update: (state) => {
      const switched = state.channel?.id !== channel;
      const atEnd = root.scrollHeight - root.scrollTop - root.clientHeight < NEAR_END_PX;
      const wroteOne =
        state.messages.length > (last?.messages.length ?? 0) && state.messages.at(-1)?.author === state.user;
      if (switched) limit = PAGE_MESSAGES;
      channel = state.channel?.id ?? null;
      last = state;
      const shown = state.messages.slice(-limit);
      empty.hidden = shown.length > 0;
      earlier.hidden = shown.length === state.messages.length;
      reconcile(list, placed(shown), keyOf, (entry) => messageItem(entry, state.user, actions));
      if (switched || atEnd || wroteOne) root.scrollTop = root.scrollHeight;
    },
  };
  return view;
}

/** A message and whether it opens a run of one author's messages, which then shows the name. */
interface Placed {
  readonly message: Message;
  readonly opens: boolean;
}

function placed(messages: readonly Message[]): readonly Placed[] {
  return messages.map((message, index) => {
    const before = messages[index - 1];
    const opens =
      before?.author !== message.author || Date.parse(message.sentAt) - Date.parse(before.sentAt) > RUN_MS;
    return { message, opens };
  });
}

/** All that an item shows is in its key: an item is made anew when any of it changes. */
function keyOf({ message, opens }: Placed): string {
  const { id, delivery } = message;
  return `${id} ${opens} ${delivery.state} ${delivery.state === "refused" ? delivery.opId : ""}`;
}

function messageItem({ message, opens }: Placed, user: string, actions: ConversationActions): HTMLElement {
  const { id, author, body, sentAt, delivery } = message;
  const mine = author === user;
  const side = opens ? avatar(author) : element("span", { class: "avatar-space" });
  const head = element(
    "p",
    { class: "message-head" },
    element("strong", {}, mine ? `${author} (you)` : author),
    timeOf(sentAt),
  );
  const item = element(
    "li",
    { class: `message ${mine ? "mine" : "theirs"}${opens ? " opens" : ""}` },
    side,
    element(
      "div",
      { class: "message-main" },
      opens ? head : null,
      element("p", { class: "body" }, body),
      mine ? deliveryMark(delivery, actions) : null,
    ),
  );
  item.dataset.id = id;
  item.dataset.delivery = delivery.state;
  return item;
}

function deliveryMark(delivery: Delivery, actions: ConversationActions): HTMLElement {
  switch (delivery.state) {
    case "local":
      return element(
        "p",
        { class: "mark", attributes: { title: "Kept on this device, not sent yet" } },
        "◌ on this device",
      );
    case "sent":
      return element(
        "p",
        { class: "mark", attributes: { title: "Sent; the server has not answered yet" } },
        "◔ sent",
      );
    case "confirmed":
      return element("p", { class: "mark", attributes: { title: "Confirmed by the server" } }, "✓");
    case "refused":
      return element(
        "div",
        { class: "mark refused" },
        element("span", {}, `Not accepted: ${delivery.reason}`),
        button("Try again", "quiet", () => actions.retry(delivery.opId)),
        button("Discard", "quiet danger", () => actions.discard(delivery.opId)),
      );
  }
}

function timeOf(sentAt: string): HTMLElement {
  const date = new Date(sentAt);
  const today = date.toDateString() === new Date().toDateString();
  const text = (today ? TIME : DAY_AND_TIME).format(date);
  return element("time", { attributes: { datetime: sentAt } }, text);
}

function composerOf(actions: ConversationActions): View {
  let channel: string | null = null;
  const drafts = new Map<string, string>();
  const text = element("textarea", {
    attributes: {
      id: "message",
      rows: "1",
      maxlength: "4000",
      "aria-label": "Message",
      placeholder: "Write a message",
      enterkeyhint: "send",
    },
  });
  const submit = (): void => {
    const body = text.value.trim();
    if (body === "" || channel === null) return;
    text.value = "";
    actions.send(channel, body);
    text.focus();
  };
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  const root = element(
    "form",
    {
      class: "composer",
      on: {
        submit: (event) => {
          event.preventDefault();
          submit();
        },
      },
    },
    text,
    element("button", { class: "primary", attributes: { type: "submit" } }, "Send"),
  );
  return {
    root,
    update: (state) => {
      if (state.channel === null || state.channel.id === channel) return;
      if (channel !== null) drafts.set(channel, text.value);
      channel = state.channel.id;
      text.value = drafts.get(channel) ?? "";
      if (matchMedia("(hover: hover)").matches) text.focus();
    },
  };
}

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY_AND_TIME = new Intl.DateTimeFormat(undefined, {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
});
/** Messages of one author within this time stand under one name. */
const RUN_MS = 5 * 60_000;
/** How many messages are in the page at first, and how many more a press on the button brings. */
const PAGE_MESSAGES = 200;
/** Whoever reads within this distance of the end wants to see what arrives. */
const NEAR_END_PX = 80;
