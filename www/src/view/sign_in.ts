// The first page of a window: which user is it for?

import {
  type Account,
  addressOf,
  knownUsers,
  parseUser,
  SignInError,
  signIn,
  USER_HINT,
} from "../accounts.ts";
import { avatar, element, setText } from "../element.ts";

/** Shows the form; `onSignedIn` is called once. `wanted` is the user the address named, if any. */
export function signInView(wanted: string | null, onSignedIn: (account: Account) => void): HTMLElement {
  const name = element("input", {
    attributes: {
      id: "user",
      name: "user",
      required: true,
      maxlength: "32",
      autocomplete: "username",
      autocapitalize: "none",
      spellcheck: "false",
      autofocus: true,
      placeholder: "alice",
      value: wanted ?? "",
      "aria-describedby": "sign-in-problem",
    },
  });
  const problem = element("p", { class: "problem", attributes: { id: "sign-in-problem", role: "alert" } });
  const submit = element("button", { class: "primary", attributes: { type: "submit" } }, "Sign in");

  const attempt = async (): Promise<void> => {
    const user = parseUser(name.value);
    if (user === null) return setText(problem, `A name has ${USER_HINT}, and begins with a letter or digit.`);
    setText(problem, "");
    submit.disabled = true;
    try {
      onSignedIn(await signIn(user));
    } catch (error) {
      if (!(error instanceof SignInError)) throw error;
      setText(problem, error.message);
    } finally {
      submit.disabled = false;
    }
  };

  const form = element(
    "form",
    {
      class: "sign-in-form",
      on: {
        submit: (event) => {
          event.preventDefault();
          void attempt();
        },
      },
    },
    element("label", { attributes: { for: "user" } }, "Your name"),
    element("div", { class: "field-row" }, name, submit),
    problem,
  );
  return element(
    "main",
    { class: "sign-in" },
    element("img", { class: "logo", attributes: { src: "./icon.svg", alt: "", width: "56", height: "56" } }),
    element("h1", {}, "Syncline Chat"),
    element(
      "p",
      { class: "lead" },
      "A chat that keeps working without a network. No password: this demo server lets anybody on this computer be anybody.",
    ),
    form,
    accountsOnDevice(),
    element(
      "a",
      { class: "two-devices", attributes: { href: "./?devices=2" } },
      element("strong", {}, "Two devices side by side"),
      element("span", {}, "Cut a network, kill the server, and count what became of every message."),
    ),
  );
}

/** Users whose token is here already: their windows open without a server. */
function accountsOnDevice(): HTMLElement | null {
  const users = knownUsers();
  if (users.length === 0) return null;
  const links = users.map((user) =>
    element(
      "li",
      {},
      element("a", { class: "account", attributes: { href: addressOf(user) } }, avatar(user), user),
    ),
  );
  return element(
    "section",
    { class: "accounts" },
    element("h2", {}, "Signed in on this device"),
    element("ul", {}, ...links),
  );
}
