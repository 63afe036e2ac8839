/**
 * What little is read of a router's XML: the content of elements by their name. No parser, since routers write what no parser takes,
 * and nothing in it is evaluated: no entities but the five of XML itself, no DTD, no includes. Takes time in proportion to the text.
 */

/** Contents of the first `most` elements with this name, whatever their namespace prefix; nested ones of the same name are not told apart. */
export function elementsOf(xml: string, name: string, most: number): string[] {
  const open = new RegExp(`<(?:[\\w.-]+:)?${name}(?:\\s[^<>]*)?/?>`, "g");
  const close = new RegExp(`</(?:[\\w.-]+:)?${name}\\s*>`, "g");
  const found: string[] = [];
  while (found.length < most) {
    const start = open.exec(xml);
    if (!start) break;
    if (start[0].endsWith("/>")) {
      found.push("");
      continue;
    }
    close.lastIndex = open.lastIndex;
    const end = close.exec(xml);
    if (!end) break;
    found.push(xml.slice(open.lastIndex, end.index));
    open.lastIndex = close.lastIndex;
  }
  return found;
}

const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

/** The text of the first element with this name, undefined when there is none. */
export function textOf(xml: string, name: string): string | undefined {
  const [content] = elementsOf(xml, name, 1);
  return content?.trim().replace(/&(amp|lt|gt|quot|apos);/g, (_, entity: string) => ENTITIES[entity] ?? "");
}
