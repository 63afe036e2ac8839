/** document.cookie over the cookies that the outer page keeps. */
import { cookieText, parseCookie, withCookie, type Cookie } from "../cookies.ts";
import type { CookieNews, CookieOrder, CookiesMessage } from "../messages.ts";

export function shimCookies(
  first: readonly Cookie[],
  connect: (message: CookiesMessage) => MessagePort | undefined,
): void {
  let cookies = first;
  const port = connect({ type: "cookies" });
  const say = (order: CookieOrder): void => {
    port?.postMessage(order);
  };
  if (port)
    port.onmessage = ({ data }: MessageEvent<CookieNews | { readonly type: "close" }>) => {
      if (data.type === "cookies") cookies = data.cookies;
    };
  addEventListener("pagehide", ({ persisted }) => {
    // One that is kept for going back hears what changes meanwhile.
    if (!persisted) say({ type: "close" });
  });
  Object.defineProperty(Document.prototype, "cookie", {
    configurable: true,
    enumerable: true,
    get: () => cookieText(cookies, location.pathname, Date.now()),
    set: (value: unknown) => {
      const [text, path] = [String(value), location.pathname];
      const cookie = parseCookie(text, path, Date.now());
      if (!cookie || cookie.httpOnly) return;
      // It can be read at once; whether it may be so is for the outer page to say.
      cookies = withCookie(cookies, cookie, Date.now());
      say({ type: "set", text, path });
    },
  });
  // What it would show are this origin's own.
  if ("cookieStore" in globalThis)
    Object.defineProperty(globalThis, "cookieStore", { value: undefined, configurable: true });
}
