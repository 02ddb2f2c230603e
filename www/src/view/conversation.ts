// One channel: its messages, with how far each of one's own has come, and the place to write the next.

import { button, element, setText } from "../element.ts";
import type { Lives } from "../lives.ts";
import { composerView } from "./composer.ts";
import { type MessageActions, messageLog } from "./message_log.ts";
import type { ChatState, View } from "./state.ts";

/** What this part of the page can cause. */
export interface ConversationActions extends MessageActions {
  send(channel: string, body: string): void;
  toggleMembers(): void;
}

export function conversationView(actions: ConversationActions, lives: Lives): View {
  const title = element("h1", {});
  const people = button("", "quiet", actions.toggleMembers);
  people.setAttribute("aria-controls", "members");
  const back = element(
    "a",
    { class: "back", attributes: { href: "#", "aria-label": "Back to the channels" } },
    "‹",
  );
  const log = messageLog(actions, lives, "Nothing here yet. Say hello.");
  const composer = composerView({ id: "message", takesFocus: true }, actions.send);
  const reason = element("p", {});
  const leave = element("a", { class: "back-link", attributes: { href: "#" } }, "Back to the channels");
  const nothing = element("div", { class: "nothing-open" }, reason, leave);
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
      if (state.channel === null) return setText(reason, nothingText(state));
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
