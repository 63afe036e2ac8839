/**
 * Cookies as RFC 6265 has them (sections 5.2 to 5.4), for one host: the TARGET. Pure, as the outer page keeps them and documents of the
 * site read them. Domain says nothing here, for there is one host; Secure neither, for the session encrypts.
 */
export interface Cookie {
  readonly name: string;
  readonly value: string;
  readonly path: string;
  readonly httpOnly: boolean;
  /** Whether requests that another site began carry it. */
  readonly sameSite: "strict" | "lax" | "none";
  /** Milliseconds since 1970; FOREVER for as long as the tab lives. It travels as JSON, which has no infinity. */
  readonly expires: number;
}

const FOREVER = Number.MAX_SAFE_INTEGER;
/** As browsers have it (RFC 6265, section 6.1): name and value, in bytes. */
const MAX_COOKIE = 4096;
/** Attributes that are longer are ignored, as browsers do. */
const MAX_ATTRIBUTE = 1024;

/** What one Set-Cookie says of a response to `path`, or what a script assigns to document.cookie there; undefined when it is none. */
export function parseCookie(text: string, path: string, now: number): Cookie | undefined {
  if (/[\x00-\x08\x0a-\x1f\x7f]/.test(text)) return undefined;
  const [pair = "", ...attributes] = text.split(";");
  const at = pair.indexOf("=");
  const name = at < 0 ? "" : pair.slice(0, at).trim();
  const value = pair.slice(at + 1).trim();
  if ((name === "" && value === "") || name.length + value.length > MAX_COOKIE) return undefined;
  // Without a name it would be read as the cookie that its value looks like.
  if (name === "" && value.includes("=")) return undefined;
  const cookie = {
    name,
    value,
    path: defaultPath(path),
    httpOnly: false,
    sameSite: "lax" as Cookie["sameSite"],
    expires: FOREVER,
  };
  let maxAge: number | undefined;
  for (const attribute of attributes) {
    const [key = "", ...rest] = attribute.split("=");
    const said = rest.join("=").trim();
    if (said.length > MAX_ATTRIBUTE) continue;
    switch (key.trim().toLowerCase()) {
      case "path":
        cookie.path = said.startsWith("/") ? said : defaultPath(path);
        break;
      case "httponly":
        cookie.httpOnly = true;
        break;
      case "samesite":
        if (/^(strict|lax|none)$/i.test(said)) cookie.sameSite = said.toLowerCase() as Cookie["sameSite"];
        break;
      case "max-age":
        if (/^-?\d+$/.test(said)) maxAge = Number(said);
        break;
      case "expires": {
        const date = Date.parse(said);
        if (!Number.isNaN(date)) cookie.expires = date;
      }
    }
  }
  if (maxAge !== undefined) cookie.expires = maxAge <= 0 ? 0 : Math.min(now + maxAge * 1000, FOREVER);
  return cookie;
}

/** RFC 6265, section 5.1.4: the directory of the path. */
function defaultPath(path: string): string {
  const [plain = ""] = path.split(/[?#]/, 1);
  const end = plain.lastIndexOf("/");
  return !plain.startsWith("/") || end === 0 ? "/" : plain.slice(0, end);
}

function pathMatches(path: string, cookiePath: string): boolean {
  const [plain = ""] = path.split(/[?#]/, 1);
  if (!plain.startsWith(cookiePath)) return false;
  return plain.length === cookiePath.length || cookiePath.endsWith("/") || plain[cookiePath.length] === "/";
}

/** The list with this cookie in it, or with what it stands for taken away when it is over; older ones of its name and path give way. */
export function withCookie(cookies: readonly Cookie[], cookie: Cookie, now: number): Cookie[] {
  const same = (each: Cookie): boolean => each.name === cookie.name && each.path === cookie.path;
  const at = cookies.findIndex(same);
  const over = cookie.expires <= now;
  // One that is set again keeps its place.
  if (at >= 0) return cookies.flatMap((each, index) => (index !== at ? [each] : over ? [] : [cookie]));
  return over ? [...cookies] : [...cookies, cookie];
}

/** What Cookie, or document.cookie, says at that path: longer paths first (section 5.4); "" for nothing. */
export function cookieText(cookies: readonly Cookie[], path: string, now: number): string {
  return cookies
    .filter((cookie) => cookie.expires > now && pathMatches(path, cookie.path))
    .sort((a, b) => b.path.length - a.path.length)
    .map(({ name, value }) => (name === "" ? value : `${name}=${value}`))
    .join("; ");
}
