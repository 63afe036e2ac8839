/** Elements, made without HTML: whatever is shown is text. */

export type Child = Node | string | undefined;
type Listener = (event: never) => unknown;
type Attributes = Readonly<Record<string, string | number | boolean | Listener | undefined>>;

/** An element; attributes that are functions listen (`onclick`), `true` stands for an empty one, `false` and undefined for none. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for drawings. */
export function svg(tag: string, attributes: Attributes = {}, ...children: readonly Child[]): SVGElement {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill<E extends Element>(element: E, attributes: Attributes, children: readonly Child[]): E {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value as EventListener);
    else if (value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== undefined) element.append(child);
  return element;
}

let ids = 0;

/** For labels and descriptions. */
export function uniqueId(): string {
  return `id-${++ids}`;
}

/** A button that says what it does. `kind`: how much it is meant. */
export function button(
  text: string,
  onclick: () => unknown,
  kind: "primary" | "plain" | "quiet" = "plain",
): HTMLButtonElement {
  return h("button", { type: "button", class: kind, onclick }, text);
}
