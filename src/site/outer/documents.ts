/** Documents of the site that know its cookies: each has a port, on which it hears of changes and says its own. */
import type { Cookie } from "../cookies.ts";
import type { CookieNews, CookieOrder } from "../messages.ts";

/** Documents that do not say when they go are forgotten one day. */
const MAX_DOCUMENTS = 1000;

export interface Documents {
  readonly serve: (
    port: MessagePort,
    visible: readonly Cookie[],
    /** Gives what is visible then. */
    assign: (path: string, text: string) => readonly Cookie[],
  ) => void;
  readonly tell: (visible: readonly Cookie[]) => void;
}

export function createDocuments(): Documents {
  const ports = new Set<MessagePort>();
  return {
    serve: (port, visible, assign) => {
      ports.add(port);
      for (const oldest of ports) {
        if (ports.size <= MAX_DOCUMENTS) break;
        ports.delete(oldest);
      }
      const show = (cookies: readonly Cookie[]): void => {
        port.postMessage({ type: "cookies", cookies } satisfies CookieNews);
      };
      port.onmessage = ({ data: order }: MessageEvent<CookieOrder>) => {
        const isOrder = typeof (order as Partial<CookieOrder> | null)?.type === "string";
        if (!isOrder || order.type === "close") ports.delete(port);
        else if (typeof (order.text as unknown) === "string" && /^\//.test(order.path))
          show(assign(order.path, order.text.slice(0, MAX_TEXT)));
      };
      // It may have come from before the last change.
      show(visible);
    },
    tell: (visible) => {
      for (const port of ports) port.postMessage({ type: "cookies", cookies: visible } satisfies CookieNews);
    },
  };
}

/** A cookie with its attributes is shorter. */
const MAX_TEXT = 8192;
