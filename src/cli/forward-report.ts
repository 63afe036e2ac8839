/** What a forward says: to scripts as events, to people in lines. */
import {
  escapeText,
  type ErrorCode,
  type ForwardEvent,
  type Forwarding,
  type Place,
  type Session,
} from "../index.ts";
import { formatBytes } from "./format.ts";
import { VERDICTS } from "./status.ts";
import type { Ui } from "./ui.ts";

/** Ends that are no failures to tell people of: refusals have their own event, resets and an ssh that ends its pipe are daily bread. */
const QUIET: readonly ErrorCode[] = ["REFUSED", "CONNECTION_RESET", "INTERRUPTED"];
/** Failures of connections are told up to so many a second. */
const FAILURES_A_SECOND = 10;

export class ForwardReport {
  readonly #ui: Ui;
  readonly #forwarding: Forwarding;
  #session: Session | undefined;
  #bytes = 0;
  #connections = 0;
  #failures = { second: 0, count: 0 };
  #last = { time: performance.now(), bytes: 0 };

  constructor(ui: Ui, forwarding: Forwarding) {
    this.#ui = ui;
    this.#forwarding = forwarding;
  }

  /** The session whose path and round trip the status tells. */
  session(session: Session): void {
    this.#session = session;
  }

  /** SIGUSR1 shows the status, where there is such a signal. */
  watch(signal: AbortSignal): void {
    if (process.platform === "win32") return;
    const show = (): void => {
      this.status();
    };
    process.on("SIGUSR1", show);
    signal.addEventListener("abort", () => {
      process.off("SIGUSR1", show);
    });
  }

  take(event: ForwardEvent): void {
    switch (event.event) {
      case "listening":
        this.#listening(event);
        break;
      case "unheard":
        this.#ui.warning(
          { event: "unheard", place: event.place, code: event.error.code, message: event.error.message },
          event.error.message,
        );
        break;
      case "opened": {
        const { id, protocol, target, from } = event;
        this.#connections++;
        this.#ui.detail(
          { event: "opened", id, protocol, target, from },
          `${from ?? "the other side"} -> ${target}`,
        );
        break;
      }
      case "closed":
        this.#closed(event);
        break;
      case "refused": {
        const { by, target, text } = event;
        // What the other side said begins with who said no.
        const line =
          by === "us"
            ? `Refused to the other side: ${text}`
            : `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
        this.#ui.warning({ event: "refused", by, target, message: text }, line);
      }
    }
  }

  /** Path, round trip, rate and what is open. */
  status(): void {
    const { open } = this.#forwarding;
    const session = this.#session;
    const now = performance.now();
    const bytes = this.#bytes + open.reduce((sum, { carried }) => sum + carried.sent + carried.received, 0);
    const rate = ((bytes - this.#last.bytes) / Math.max(1, now - this.#last.time)) * 1000;
    this.#last = { time: now, bytes };
    const connections = open.map(({ id, protocol, target, from, carried, since }) => ({
      id,
      protocol,
      target,
      from,
      sent: carried.sent,
      received: carried.received,
      seconds: Math.round((now - since) / 100) / 10,
    }));
    const state = session?.state ?? "waiting";
    const rttMs = Math.round((session?.rtt ?? 0) * 10) / 10;
    const event = {
      event: "status",
      state,
      path: this.#ui.path,
      rttMs,
      bytes,
      bytesPerSecond: Math.round(rate),
      // One more than connections: what each offers and asks for. Any other would be a leak.
      streams: session?.streams ?? 0,
      connections,
    };
    const how = state === "running" ? `${this.#ui.path ?? "?"}, ${rttMs} ms round trip` : state;
    const lines = connections.map(
      ({ id, target, from, sent, received, seconds }) =>
        `  #${id} ${from ?? "other side"} -> ${escapeText(target)}: ${formatBytes(sent)} out, ${formatBytes(received)} in, ${seconds} s`,
    );
    this.#ui.report(event, [
      `${how}; ${formatBytes(rate)}/s since the last look; ${connections.length} open, ${this.#connections} in all`,
      ...lines,
    ]);
  }

  /** The other side has left, and so all is over. */
  done(): void {
    const connections = this.#connections;
    this.#ui.done(
      { bytes: this.#bytes, files: 0, connections },
      `Done: the other side has left; ${connections} ${connections === 1 ? "connection" : "connections"}, ${formatBytes(this.#bytes)}`,
    );
  }

  #listening({ of, protocol, place, target, instead }: ForwardEvent & { event: "listening" }): void {
    const where = place.type === "host" ? { address: place.address, port: place.port } : { path: place.path };
    const event = {
      event: "listening",
      protocol,
      ...where,
      ...(target === undefined ? {} : { target }),
      ...(of === "them" ? { peer: true } : {}),
      ...(instead === undefined ? {} : { instead }),
    };
    const at = `${escapeText(text(place))}${protocol === "udp" ? "/udp" : ""}`;
    const to = target === undefined ? "whatever a client asks for" : escapeText(target);
    const line =
      of === "them"
        ? `The other side listens on ${at} -> ${to} here`
        : protocol === "socks"
          ? `SOCKS and HTTP proxy on ${at} -> ${to}, from the other side`
          : `Listening on ${at} -> ${to} at the other side`;
    const why = instead === undefined ? "" : ` (${escapeText(instead)})`;
    this.#ui.said(event, `${line}${why}`);
  }

  #closed({ id, protocol, target, from, carried, seconds, error }: ForwardEvent & { event: "closed" }): void {
    this.#bytes += carried.sent + carried.received;
    const event = {
      event: "closed",
      id,
      protocol,
      target,
      from,
      sent: carried.sent,
      received: carried.received,
      seconds: Math.round(seconds * 1000) / 1000,
      ...(error ? { reason: error.code, ...(error.message === "" ? {} : { message: error.message }) } : {}),
    };
    const failed = error && !QUIET.includes(error.code) && this.#tells();
    if (failed) this.#ui.warning(event, `${target}: ${error.message}${hintOf(error.code)}`);
    else {
      const how = error ? `ended (${error.message || error.code})` : "ended";
      const sum = `${formatBytes(carried.sent)} out, ${formatBytes(carried.received)} in`;
      this.#ui.detail(event, `${from ?? "the other side"} -> ${target} ${how}: ${sum}`);
    }
  }

  #tells(): boolean {
    const second = Math.floor(performance.now() / 1000);
    if (this.#failures.second !== second) this.#failures = { second, count: 0 };
    return ++this.#failures.count <= FAILURES_A_SECOND;
  }
}

function hintOf(code: keyof typeof VERDICTS): string {
  const { hint } = VERDICTS[code];
  return hint === undefined || code !== "CONNECTION_REFUSED" ? "" : ` (${hint})`;
}

function text(place: Place): string {
  if (place.type === "unix") return place.path;
  return place.address.includes(":") ? `[${place.address}]:${place.port}` : `${place.address}:${place.port}`;
}
