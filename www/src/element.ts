// Making DOM nodes. Text enters the page here and only as text: nothing in this application parses HTML.

type Child = Node | string | null;

/** What an element may be given beside its children. Names of attributes, and listeners by the event's name. */
interface Properties {
  readonly class?: string;
  readonly attributes?: Readonly<Record<string, string | boolean>>;
  readonly on?: { readonly [E in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[E]) => void };
}

/** Makes an element; texts among the children become text nodes, `null` is left out. */
export function element<T extends keyof HTMLElementTagNameMap>(
  tag: T,
  properties: Properties = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[T] {
  const made = document.createElement(tag);
  if (properties.class !== undefined) made.className = properties.class;
  for (const [name, value] of Object.entries(properties.attributes ?? {})) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false) made.setAttribute(name, value);
  }
  for (const [name, listener] of Object.entries(properties.on ?? {})) {
    made.addEventListener(name, listener as EventListener);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Sets a text only where it differs, so that a screen reader is not told what it knows. */
export function setText(node: Element, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

/** A button that is not meant to send a form. */
export function button(label: string, className: string, onClick: () => void): HTMLButtonElement {
  return element(
    "button",
    { class: className, attributes: { type: "button" }, on: { click: onClick } },
    label,
  );
}

/** A button for what cannot be taken back: the first press asks, the second does it, leaving it takes the question back. */
export function cautiousButton(
  label: string,
  question: string,
  className: string,
  onSure: () => void,
): HTMLButtonElement {
  const made = button(label, className, () => {
    if (made.dataset.asking === "true") return onSure();
    made.dataset.asking = "true";
    made.textContent = question;
  });
  made.addEventListener("blur", () => {
    delete made.dataset.asking;
    made.textContent = label;
  });
  return made;
}

/** The round picture of a user: two letters on a colour that follows from the name. */
export function avatar(user: string): HTMLElement {
  let sum = 0;
  for (const character of user) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) % HUES;
  const letters = user.slice(0, 2).toUpperCase();
  return element("span", { class: `avatar hue-${sum}`, attributes: { "aria-hidden": "true" } }, letters);
}

/**
 * Makes `parent` hold exactly one node for each item, in order. Nodes whose key stays are kept and moved only where they
 * stand wrong, so that focus, selection and scrolling survive.
 */
export function reconcile<T>(
  parent: Element,
  items: readonly T[],
  key: (item: T) => string,
  make: (item: T) => HTMLElement,
): void {
  const held = new Map<string, Element>();
  for (const child of parent.children) held.set((child as HTMLElement).dataset.key ?? "", child);
  let place: Element | null = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let node = held.get(name);
    held.delete(name);
    if (node === undefined) {
      const made = make(item);
      made.dataset.key = name;
      node = made;
    }
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of held.values()) node.remove();
}

/** As many as the style sheet has classes `hue-N`. */
const HUES = 8;
