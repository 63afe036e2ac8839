/** The cookies of the site, in the outer page: scripts of the site see those that are not HttpOnly, and the rendezvous none. */
import { cookieText, parseCookie, withCookie, type Cookie } from "../cookies.ts";

/** As browsers keep for a host; those set first go first. */
const MAX_COOKIES = 180;
/** All together, in characters: a request with more would be refused by most servers. */
const MAX_TOTAL = 16 * 1024;

export interface Jar {
  /** What Cookie says in a request; "" for nothing. `crossSite`: another site began it, and it is more than a look. */
  readonly text: (path: string, crossSite: boolean) => string;
  /** Values of Set-Cookie in an answer. */
  readonly store: (path: string, values: readonly string[]) => void;
  /** What a script at that path assigns to document.cookie: it can neither make nor change one that is HttpOnly. Gives what scripts see then. */
  readonly assign: (path: string, text: string) => readonly Cookie[];
  /** Those that scripts may see. */
  readonly visible: () => readonly Cookie[];
}

/** `onchange` is called when what scripts may see has changed. */
export function createJar(onchange: (visible: readonly Cookie[]) => void): Jar {
  let cookies: readonly Cookie[] = [];
  const visible = (): Cookie[] => cookies.filter(({ httpOnly }) => !httpOnly);
  const put = (given: readonly (Cookie | undefined)[]): void => {
    const before = JSON.stringify(visible());
    const now = Date.now();
    for (const cookie of given) if (cookie) cookies = withCookie(cookies, cookie, now);
    cookies = fitting(cookies.filter(({ expires }) => expires > now));
    if (JSON.stringify(visible()) !== before) onchange(visible());
  };
  return {
    text: (path, crossSite) =>
      cookieText(
        crossSite ? cookies.filter(({ sameSite }) => sameSite === "none") : cookies,
        path,
        Date.now(),
      ),
    store: (path, values) => {
      put(values.map((text) => parseCookie(text, path, Date.now())));
    },
    assign: (path, text) => {
      const cookie = parseCookie(text, path, Date.now());
      const hidden = cookies.some(
        (each) => each.httpOnly && each.name === cookie?.name && each.path === cookie.path,
      );
      if (cookie && !cookie.httpOnly && !hidden) put([cookie]);
      return visible();
    },
    visible,
  };
}

function fitting(cookies: readonly Cookie[]): readonly Cookie[] {
  let kept = cookies.slice(-MAX_COOKIES);
  while (kept.reduce((sum, { name, value }) => sum + name.length + value.length + 3, 0) > MAX_TOTAL)
    kept = kept.slice(1);
  return kept;
}
