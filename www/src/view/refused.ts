// Writes that the server did not accept and that have no place of their own on the page: nothing disappears silently.

import type { Mutation } from "syncline";
import { describeMutation } from "../chat.ts";
import { button, element, reconcile } from "../element.ts";
import type { View } from "./state.ts";

interface Refused {
  readonly mutation: Mutation;
  readonly waiting: number;
}

export function refusedView(retry: (opId: string) => void, discard: (opId: string) => void): View {
  const list = element("ul", {});
  const root = element(
    "section",
    { class: "refused-list", attributes: { "aria-label": "Not accepted by the server" } },
    element("h2", {}, "Not accepted"),
    list,
  );
  const item = ({ mutation, waiting }: Refused): HTMLElement => {
    const reason = mutation.error?.message ?? "no reason given";
    const more = waiting === 0 ? "" : ` · ${waiting} more ${waiting === 1 ? "waits" : "wait"} for it`;
    return element(
      "li",
      {},
      element("p", {}, `${describeMutation(mutation)}: ${reason}${more}`),
      refusalButtons(mutation.opId, retry, discard),
    );
  };
  return {
    root,
    update: (state) => {
      root.hidden = state.refused.length === 0;
      const refused = state.refused.map((mutation) => ({
        mutation,
        waiting: state.waitingFor(mutation.opId),
      }));
      reconcile(list, refused, ({ mutation, waiting }) => `${mutation.opId} ${waiting}`, item);
    },
  };
}

/** What the author of a refused write can decide. */
export function refusalButtons(
  opId: string,
  retry: (opId: string) => void,
  discard: (opId: string) => void,
): HTMLElement {
  return element(
    "div",
    { class: "refusal-buttons" },
    button("Try again", "quiet", () => retry(opId)),
    button("Discard", "quiet danger", () => discard(opId)),
  );
}
