/** Header fields on their way between HTTP and a stream. */
import type { Target } from "../../wire/header.ts";
import { MAX_FIELDS, mayTravel, type HttpField, type HttpRecord } from "../../wire/http.ts";
import { DcpipeError } from "../../errors.ts";
import { formatHostPort } from "../forward/host.ts";

/** HTTP's own port, which stands in no Host and no origin. */
const HTTP_PORT = 80;

/**
 * What may travel: names in lower case, without what is about one connection, which its Connection field may name too (RFC 9110, section
 * 7.6.1). Throws LIMIT for too many.
 */
export function travelling(type: HttpRecord["type"], fields: Iterable<HttpField>): HttpField[] {
  const lower = Array.from(fields, ([name, value]): HttpField => [name.toLowerCase(), value]);
  const named = new Set(
    lower
      .filter(([name]) => name === "connection")
      .flatMap(([, value]) => value.split(",").map((option) => option.trim().toLowerCase())),
  );
  // What many a client would take for a connection's own although it says how long the answer is.
  named.delete("content-length");
  const left = lower.filter(([name]) => mayTravel(type, name) && !named.has(name));
  if (left.length > MAX_FIELDS)
    throw new DcpipeError("LIMIT", `a head with ${left.length} fields, at most ${MAX_FIELDS}`);
  return left;
}

/** The first value of this name. */
export function fieldOf(fields: readonly HttpField[], name: string): string | undefined {
  return fields.find(([each]) => each === name)?.[1];
}

/** `localhost:3000`, as a browser on the target's machine would say it in Host. */
export function hostOf(target: Target): string {
  if (target.type !== "host") return "localhost";
  return formatHostPort(target.host, target.port).replace(new RegExp(`:${HTTP_PORT}$`), "");
}
