/** Names that a sender gives to files: they decide nothing here but the last part of a path, and not always that. */
import { DcpipeError } from "../errors.ts";

/** What common filesystems take for one name, in UTF-8 bytes. */
const MAX_NAME_BYTES = 255;
/** Names that are devices on Windows, with any extension. */
const RESERVED = /^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?$/i;

/** Throws REFUSED unless the name is one plain file name here; `windows` adds what that system forbids. */
export function checkName(name: string, windows = false): void {
  const why = objection(name) ?? (windows ? windowsObjection(name) : undefined);
  if (why !== undefined) throw new DcpipeError("REFUSED", `the file name ${why}: ${escapeText(name)}`);
}

function objection(name: string): string | undefined {
  if (name === "" || name === "." || name === "..") return "is none";
  if (/[/\\]/.test(name)) return "has a path in it";
  // Control characters, bidirectional overrides and line separators rewrite what a terminal shows.
  if (CONTROL.test(name)) return "has control characters";
  if (new TextEncoder().encode(name).length > MAX_NAME_BYTES) return "is too long";
  return undefined;
}

function windowsObjection(name: string): string | undefined {
  if (/[:*?"<>|]/.test(name)) return "has a character that Windows forbids";
  if (/[. ]$/.test(name)) return "ends with a dot or a space";
  if (RESERVED.test(name)) return "is a device on Windows";
  return undefined;
}

const CONTROL =
  /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|\p{Cs}/u;

/** Peer-supplied text, safe to show: control and formatting characters become visible escapes. */
export function escapeText(text: string): string {
  return text.replace(
    new RegExp(CONTROL.source, "gu"),
    (c) => `\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`,
  );
}
