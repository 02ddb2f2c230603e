// Who is in the channel: inviting, removing, leaving.

import { parseUser, USER_HINT } from "../accounts.ts";
import { avatar, cautiousButton, element, reconcile, setText } from "../element.ts";
import type { ChatState, View } from "./state.ts";

/** What this panel can cause. */
export interface MemberActions {
  invite(channel: string, member: string): void;
  remove(channel: string, member: string): void;
}

export function membersView(actions: MemberActions): View {
  let shown: ChatState | null = null;
  const list = element("ul", { class: "members" });
  const name = element("input", {
    attributes: {
      id: "invite",
      required: true,
      maxlength: "32",
      placeholder: "carol",
      autocomplete: "off",
      autocapitalize: "none",
      spellcheck: "false",
    },
  });
  const problem = element("p", { class: "problem", attributes: { role: "alert" } });
  const form = element(
    "form",
    {
      class: "invite",
      on: {
        submit: (event) => {
          event.preventDefault();
          if (shown?.channel === null || shown === null) return;
          const user = parseUser(name.value);
          if (user === null) return setText(problem, `A name has ${USER_HINT}.`);
          if (shown.members.includes(user)) return setText(problem, `${user} is here already.`);
          setText(problem, "");
          name.value = "";
          actions.invite(shown.channel.id, user);
        },
      },
    },
    element("label", { attributes: { for: "invite" } }, "Invite somebody"),
    element(
      "div",
      { class: "field-row" },
      name,
      element("button", { attributes: { type: "submit" } }, "Invite"),
    ),
    problem,
  );
  return {
    root: element(
      "aside",
      { class: "members-panel", attributes: { id: "members", "aria-label": "Members" } },
      element("h2", {}, "Members"),
      list,
      form,
    ),
    update: (state) => {
      if (state.channel?.id !== shown?.channel?.id) setText(problem, "");
      shown = state;
      const { channel, user } = state;
      if (channel === null) return;
      const key = (member: string): string => `${channel.id} ${member}`;
      reconcile(list, state.members, key, (member) =>
        memberItem(member, user, channel.id, channel.created_by, actions),
      );
    },
  };
}

function memberItem(
  member: string,
  user: string,
  channel: string,
  creator: string,
  actions: MemberActions,
): HTMLElement {
  const roles = [member === user ? "you" : "", member === creator ? "created this channel" : ""].filter(
    (role) => role !== "",
  );
  const remove = (): void => actions.remove(channel, member);
  let leaveOrRemove: HTMLElement | null = null;
  if (member === user) leaveOrRemove = cautiousButton("Leave", "Really leave?", "quiet danger", remove);
  else if (user === creator)
    leaveOrRemove = cautiousButton("Remove", "Really remove?", "quiet danger", remove);
  leaveOrRemove?.setAttribute("aria-description", member);
  return element(
    "li",
    {},
    avatar(member),
    element(
      "span",
      { class: "member-name" },
      member,
      roles.length === 0 ? null : element("small", {}, roles.join(", ")),
    ),
    leaveOrRemove,
  );
}
