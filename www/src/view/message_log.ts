// The messages of one channel, how far each of one's own has come, and the life of any that is asked about.

import type { Delivery, Message } from "../chat.ts";
import { avatar, button, element, reconcile } from "../element.ts";
import type { Life, Lives } from "../lives.ts";
import { arrivedAfter, confirmedAfter, lifeView } from "./life.ts";
import { refusalButtons } from "./refused.ts";
import type { ChatState, View } from "./state.ts";

/** What a message can cause. */
export interface MessageActions {
  retry(opId: string): void;
  discard(opId: string): void;
}

export function messageLog(actions: MessageActions, lives: Lives, emptyText: string): View {
  const open = new Set<string>();
  let channel: string | null = null;
  let limit = PAGE_MESSAGES;
  let last: ChatState | null = null;
  const empty = element("p", { class: "empty" }, emptyText);
  const earlier = button("Show earlier messages", "quiet earlier", () => {
    limit += PAGE_MESSAGES;
    if (last !== null) view.update(last);
  });
  const list = element("ol", {
    class: "messages",
    attributes: { role: "log", "aria-label": "Messages", "aria-live": "polite" },
    on: { keydown: walk },
  });
  const root = element("div", { class: "scroller", attributes: { tabindex: "0" } }, earlier, empty, list);
  const toggle = (id: string): void => {
    const opens = !open.delete(id);
    if (opens) open.add(id);
    if (last !== null) view.update(last);
    if (opens) list.querySelector(`[data-id="${CSS.escape(id)}"]`)?.scrollIntoView({ block: "nearest" });
  };
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
      const entries = placed(shown, (id) => ({ life: lives.get(id), isOpen: open.has(id) }));
      keepingFocus(list, () => {
        reconcile(list, entries, keyOf, (entry) => messageItem(entry, state.user, actions, toggle));
      });
      if (switched || atEnd || wroteOne) root.scrollTop = root.scrollHeight;
    },
  };
  return view;
}

/** A message with all that its item shows. */
interface Placed {
  readonly message: Message;
  /** Whether it opens a run of one author's messages, which then shows the name. */
  readonly opens: boolean;
  readonly life: Life | undefined;
  readonly isOpen: boolean;
}

function placed(
  messages: readonly Message[],
  more: (id: string) => Pick<Placed, "life" | "isOpen">,
): readonly Placed[] {
  return messages.map((message, index) => {
    const before = messages[index - 1];
    const opens =
      before?.author !== message.author || Date.parse(message.sentAt) - Date.parse(before.sentAt) > RUN_MS;
    return { message, opens, ...more(message.id) };
  });
}

/** All that an item shows is in its key: an item is made anew when any of it changes. */
function keyOf({ message, opens, life, isOpen }: Placed): string {
  const { id, delivery } = message;
  const refusal = delivery.state === "refused" ? delivery.opId : "";
  const times = life === undefined ? "" : [life.confirmedAt, life.arrivedAt].join();
  const all = isOpen && life !== undefined ? [life.diskAt, life.sentAt, life.sends, life.seq].join() : "";
  return `${id} ${opens} ${delivery.state} ${refusal} ${isOpen} ${times} ${all}`;
}

function messageItem(
  { message, opens, life, isOpen }: Placed,
  user: string,
  actions: MessageActions,
  toggle: (id: string) => void,
): HTMLElement {
  const { id, author, body, sentAt, delivery } = message;
  const mine = author === user;
  const mark = markOf(message, mine, life);
  const ask = button(mark.text, "mark", () => toggle(id));
  ask.title = `${mark.meaning}. Show its life.`;
  ask.ariaLabel = `${mark.meaning}: life of “${body.slice(0, LABEL_CHARS_MAX)}”`;
  ask.ariaExpanded = String(isOpen);
  const head = element(
    "p",
    { class: "message-head" },
    element("strong", {}, mine ? `${author} (you)` : author),
    timeOf(sentAt),
  );
  const item = element(
    "li",
    { class: `message ${mine ? "mine" : "theirs"}${opens ? " opens" : ""}` },
    opens ? avatar(author) : element("span", { class: "avatar-space" }),
    element(
      "div",
      { class: "message-main" },
      opens ? head : null,
      element("p", { class: "body" }, body),
      ask,
      delivery.state === "refused" ? refusal(delivery, actions) : null,
      isOpen ? lifeView(message, life) : null,
    ),
  );
  item.dataset.id = id;
  item.dataset.delivery = delivery.state;
  return item;
}

/** The sign beside a message. */
interface Mark {
  readonly text: string;
  readonly meaning: string;
}

function markOf({ delivery }: Message, mine: boolean, life: Life | undefined): Mark {
  if (!mine && delivery.state === "confirmed") {
    const after = arrivedAfter(life);
    return { text: after === null ? "···" : `↓ ${after}`, meaning: "Came from the server" };
  }
  switch (delivery.state) {
    case "local":
      return { text: "◌ local", meaning: "Kept on this device, not sent yet" };
    case "sent":
      return { text: "◔ sent", meaning: "Sent; the server has not answered yet" };
    case "confirmed":
      return { text: `✓ ${confirmedAfter(life) ?? ""}`.trim(), meaning: "Confirmed by the server" };
    case "refused":
      return { text: "✕ refused", meaning: "Refused by the server" };
  }
}

function refusal(delivery: Delivery & { readonly state: "refused" }, actions: MessageActions): HTMLElement {
  return element(
    "div",
    { class: "refused" },
    element("p", {}, `Not accepted: ${delivery.reason}`),
    refusalButtons(delivery.opId, actions.retry, actions.discard),
  );
}

/** Arrow keys go from mark to mark, so that one press of Tab leaves a list of two hundred. */
function walk(event: KeyboardEvent): void {
  const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  const list = event.currentTarget;
  if (step === 0 || !(list instanceof HTMLElement)) return;
  const marks = marksIn(list);
  const at = marks.findIndex((mark) => mark.matches(":focus"));
  const next = at < 0 ? undefined : marks[at + step];
  if (next === undefined) return;
  event.preventDefault();
  next.focus();
}

/** Keeps the focus on the mark of a message whose item is made anew, and one mark in the order of Tab. */
function keepingFocus(list: HTMLElement, change: () => void): void {
  const focused = document.activeElement;
  const item = focused !== null && list.contains(focused) ? focused.closest<HTMLElement>(".message") : null;
  const id = item?.dataset.id;
  change();
  const marks = marksIn(list);
  let kept: HTMLElement | undefined;
  for (const mark of marks) {
    mark.tabIndex = -1;
    if (id !== undefined && mark.closest<HTMLElement>(".message")?.dataset.id === id) kept = mark;
  }
  const reachable = kept ?? marks.at(-1);
  if (reachable !== undefined) reachable.tabIndex = 0;
  if (focused?.isConnected === false) kept?.focus({ preventScroll: true });
}

function marksIn(list: HTMLElement): readonly HTMLElement[] {
  return [...list.querySelectorAll<HTMLElement>(".mark")];
}

function timeOf(sentAt: string): HTMLElement {
  const date = new Date(sentAt);
  const today = date.toDateString() === new Date().toDateString();
  const text = (today ? TIME : DAY_AND_TIME).format(date);
  return element("time", { attributes: { datetime: sentAt } }, text);
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
const LABEL_CHARS_MAX = 40;
