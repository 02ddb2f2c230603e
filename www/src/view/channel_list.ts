// The channels of this user, and the dialog that makes one.

import { parseUser, USER_HINT } from "../accounts.ts";
import type { Channel } from "../chat.ts";
import { button, element, reconcile, setText } from "../element.ts";
import { addressOfChannel, type ChatState, type View } from "./state.ts";

/** `onCreate` writes the channel with its members. */
export function channelListView(onCreate: (name: string, members: readonly string[]) => void): View {
  const list = element("ul", { class: "channels" });
  const create = button("New channel", "quiet", () => dialog.showModal());
  const empty = element("p", { class: "empty" });
  const dialog = createDialog(onCreate);
  const root = element(
    "nav",
    { class: "channel-list", attributes: { "aria-label": "Channels" } },
    element("div", { class: "section-head" }, element("h2", {}, "Channels"), create),
    list,
    empty,
    dialog,
  );
  return {
    root,
    update: (state) => {
      reconcile(list, state.channels, (channel) => `${channel.id} ${channel.name}`, channelItem);
      for (const link of list.querySelectorAll("a")) {
        const current = link.hash === (state.channel === null ? "" : addressOfChannel(state.channel.id));
        link.ariaCurrent = current ? "page" : null;
      }
      create.className = state.channels.length === 0 ? "primary small" : "quiet";
      setText(empty, state.channels.length > 0 ? "" : emptyText(state));
      empty.hidden = state.channels.length > 0;
    },
  };
}

function channelItem(channel: Channel): HTMLElement {
  const sign = element("span", { class: "hash", attributes: { "aria-hidden": "true" } }, "#");
  return element(
    "li",
    {},
    element("a", { attributes: { href: addressOfChannel(channel.id) } }, sign, channel.name),
  );
}

function emptyText({ status }: ChatState): string {
  if (status.synced) return "No channels yet. Create one, or ask somebody to invite you.";
  if (status.connection.state === "live" || status.syncing) return "Fetching your channels…";
  return "Your channels have not reached this device yet. They come with the first connection.";
}

function createDialog(onCreate: (name: string, members: readonly string[]) => void): HTMLDialogElement {
  const name = element("input", {
    attributes: {
      class: "text-field",
      id: "channel-name",
      required: true,
      maxlength: "60",
      placeholder: "lunch",
      autocomplete: "off",
    },
  });
  const members = element("input", {
    attributes: {
      class: "text-field",
      id: "channel-members",
      placeholder: "bob, carol",
      autocomplete: "off",
      autocapitalize: "none",
      spellcheck: "false",
    },
  });
  const problem = element("p", { class: "problem", attributes: { role: "alert" } });
  const form = element(
    "form",
    { attributes: { method: "dialog" } },
    element("h2", {}, "New channel"),
    element("label", { attributes: { for: "channel-name" } }, "Name"),
    name,
    element("label", { attributes: { for: "channel-members" } }, "Members beside you"),
    members,
    element("p", { class: "hint" }, "Names with commas between them. More can be invited later."),
    problem,
    element(
      "div",
      { class: "dialog-buttons" },
      button("Cancel", "quiet", () => dialog.close()),
      element("button", { class: "primary", attributes: { type: "submit" } }, "Create"),
    ),
  );
  const dialog = element("dialog", { attributes: { "aria-label": "New channel" } }, form);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const others = parseUsers(members.value);
    if (name.value.trim() === "") return setText(problem, "A channel needs a name.");
    if (typeof others === "string") return setText(problem, `“${others}” is no user’s name: ${USER_HINT}.`);
    onCreate(name.value.trim(), others);
    dialog.close();
  });
  dialog.addEventListener("close", () => {
    form.reset();
    setText(problem, "");
  });
  return dialog;
}

/** The users in a text with commas or spaces between them, or the first part that cannot be one. */
function parseUsers(text: string): readonly string[] | string {
  const users: string[] = [];
  for (const part of text.split(/[\s,;]+/).filter((piece) => piece !== "")) {
    const user = parseUser(part);
    if (user === null) return part;
    users.push(user);
  }
  return users;
}
