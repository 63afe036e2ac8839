/** Links and forms that name the TARGET's own origin: browsers would leave this one. */

/** `map`: another URL in place of this one; undefined for none. */
export function mapLinks(map: (url: URL) => string | undefined): void {
  const mapped = (text: string): string | undefined =>
    URL.canParse(text, document.baseURI) ? map(new URL(text, document.baseURI)) : undefined;
  const follow = (event: Event): void => {
    const link = event
      .composedPath()
      .find(
        (each): each is HTMLAnchorElement =>
          each instanceof HTMLAnchorElement || each instanceof HTMLAreaElement,
      );
    const url = link && link.href !== "" ? mapped(link.href) : undefined;
    if (link && url !== undefined) link.href = url;
  };
  addEventListener("click", follow, true);
  addEventListener("auxclick", follow, true);
  addEventListener(
    "submit",
    ({ target, submitter }) => {
      // What a form's action is may be hidden by a field of that name.
      for (const [element, name] of [
        [target, "action"],
        [submitter, "formaction"],
      ] as const) {
        const text = element instanceof Element ? element.getAttribute(name) : null;
        const url = text === null ? undefined : mapped(text);
        if (url !== undefined) (element as Element).setAttribute(name, url);
      }
    },
    true,
  );
}
