// The place to write a message; each channel keeps its own draft.

import { element } from "../element.ts";
import type { View } from "./state.ts";

/** How one composer differs from another. */
export interface ComposerOptions {
  /** Of the text field: a page may show more than one. */
  readonly id: string;
  /** Whether opening a channel puts the caret into it. */
  readonly takesFocus: boolean;
}

export function composerView(
  { id, takesFocus }: ComposerOptions,
  send: (channel: string, body: string) => void,
): View {
  let channel: string | null = null;
  const drafts = new Map<string, string>();
  const text = element("textarea", {
    attributes: {
      id,
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
    send(channel, body);
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
      if (takesFocus && matchMedia("(hover: hover)").matches) text.focus();
    },
  };
}
