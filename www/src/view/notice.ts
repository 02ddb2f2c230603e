// Saying that something did not work, where it has no place of its own.

import { button, element, setText } from "../element.ts";

/** Makes a handler show why a write was refused by the engine at once: nothing was written then. */
export function guarded(show: (text: string) => void) {
  return <A extends readonly unknown[]>(handler: (...args: A) => void) =>
    (...args: A): void => {
      try {
        handler(...args);
      } catch (error) {
        show(messageOf(error));
      }
    };
}

/** A line at the bottom of the page for what went wrong outside of any message. */
export function noticeView(): { readonly root: HTMLElement; show(text: string): void } {
  const text = element("p", { attributes: { role: "alert" } });
  const root = element(
    "div",
    { class: "notice" },
    text,
    button("Dismiss", "quiet", () => (root.hidden = true)),
  );
  root.hidden = true;
  return {
    root,
    show: (message) => {
      setText(text, message);
      root.hidden = false;
    },
  };
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
