/** Requests that a script stops: Chromium tells no service worker, so the document does. */
import { REQUEST_ID } from "../messages.ts";

/** `pathOf`: undefined for what does not go to the TARGET. `stop`: nobody waits for the request with that number any more. */
export function numberRequests(pathOf: (url: URL) => string | undefined, stop: (id: string) => void): void {
  let count = 0;
  const isOurs = (text: string): boolean =>
    URL.canParse(text, document.baseURI) && pathOf(new URL(text, document.baseURI)) !== undefined;

  const { fetch: native } = globalThis;

  const textOf = (input: string | URL): string => String(input);
  globalThis.fetch = function fetch(input, init) {
    const request = input instanceof Request ? input : undefined;
    const signal = init?.signal === undefined ? request?.signal : init.signal;
    if (!signal || signal.aborted || !isOurs(input instanceof Request ? input.url : textOf(input)))
      return native(input, init);
    const id = String(++count);
    let headers: Headers;
    try {
      headers = new Headers(init?.headers ?? request?.headers);
      headers.set(REQUEST_ID, id);
    } catch {
      // Its own error says what is wrong.
      return native(input, init);
    }
    const tell = (): void => {
      stop(id);
    };
    signal.addEventListener("abort", tell);
    const answer = native(input, { ...init, headers });
    const over = (): void => {
      signal.removeEventListener("abort", tell);
    };
    answer.then(over, over);
    return answer;
  };

  // eslint-disable-next-line @typescript-eslint/unbound-method -- they are called with their objects.
  const { open, send, abort } = XMLHttpRequest.prototype;
  const ids = new WeakMap<XMLHttpRequest, string>();
  XMLHttpRequest.prototype.open = function (this: XMLHttpRequest, ...given: unknown[]) {
    ids.delete(this);
    if (isOurs(String(given[1]))) ids.set(this, String(++count));
    open.apply(this, given as never);
  };
  XMLHttpRequest.prototype.send = function (this: XMLHttpRequest, body) {
    const id = ids.get(this);
    if (id !== undefined) this.setRequestHeader(REQUEST_ID, id);
    send.call(this, body);
  };
  XMLHttpRequest.prototype.abort = function (this: XMLHttpRequest) {
    const id = ids.get(this);
    if (id !== undefined) stop(id);
    abort.call(this);
  };
}
