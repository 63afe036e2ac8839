/**
 * What happens, in order. One thing at a time: beginning another ends the one before.
 *
 *   start --a code--> meeting --a session stands--> working --> over --> start
 *     |                  ^
 *     +--a job of one's own: a code is shown, and waited with
 */
import {
  asDcpipeError,
  askPurpose,
  DcpipeError,
  parsePeer,
  parseRendezvousUrl,
  type Code,
  type Purpose,
  type Sendable,
  type Session,
} from "../browser.ts";
import { stayAwake } from "./awake.ts";
import type { Verb } from "./commands.ts";
import { join, wait, type Meeting, type Met } from "./connect.ts";
import type { Place } from "./place.ts";
import type { Screen } from "./screen.ts";
import { compare, differing } from "./views/compare.ts";
import { forward } from "./views/forward.ts";
import { showConnecting, showJoin, showUnable } from "./views/join.ts";
import { showDone, showFailed, type Kept, type Outcome } from "./views/over.ts";
import { pipe } from "./views/pipe.ts";
import { receive } from "./views/receive.ts";
import { chooseItems, send, showChooser } from "./views/send.ts";
import { showStart } from "./views/start.ts";
import { showAllocating, showWaiting } from "./views/wait.ts";

/** What this page does on a session. */
type Job =
  | { readonly kind: "receive" | "pipe" | "forward" }
  | { readonly kind: "send"; readonly items: readonly Sendable[] | undefined; readonly compares: boolean };

export interface Flow {
  /** Shows what the address asks for: `text` is what stands behind its #. */
  open(text: string): void;
  /** Something is under way that leaving would end. */
  readonly busy: boolean;
}

/** What the waiting side does, and what this side does then. */
const COUNTERPART: Readonly<Record<Purpose, Job["kind"]>> = {
  send: "receive",
  receive: "send",
  pipe: "pipe",
  forward: "forward",
};
const VERBS: Readonly<Record<Job["kind"], Verb>> = COUNTERPART;

/** As in a terminal: what the other side has not heard by then, it will not hear. */
const FAREWELL_MS = 2000;

export function createFlow(screen: Screen, place: Place): Flow {
  let rendezvous = place.rendezvous ?? "";
  let stop: AbortController | undefined;
  let session: Session | undefined;

  const start = (problem?: string, text?: string): void => {
    showStart(
      screen,
      {
        rendezvous:
          place.rendezvous === undefined
            ? { value: rendezvous, set: (url) => (rendezvous = url) }
            : undefined,
        join: (typed) => {
          const found = read(typed);
          if (typeof found === "string") return found;
          void run((meeting) => joinWith(found.code, { ...meeting, rendezvous: found.rendezvous }));
          return undefined;
        },
        send: () => {
          begin(() => {
            showChooser(
              screen,
              "Get a code",
              (items, compares) => void run((meeting) => waitFor({ kind: "send", items, compares }, meeting)),
              start,
            );
          });
        },
        receive: () => {
          begin(() => void run((meeting) => waitFor({ kind: "receive" }, meeting)));
        },
        pipe: () => {
          begin(() => void run((meeting) => waitFor({ kind: "pipe" }, meeting)));
        },
      },
      problem,
      text,
    );
  };

  /** With a rendezvous that can be one. */
  const begin = (next: () => void): void => {
    const what = checkRendezvous(rendezvous);
    if (what === undefined) next();
    else start(what);
  };

  /** A code and where to go with it, or what is wrong. */
  const read = (text: string): { code: Code; rendezvous: string } | string => {
    try {
      const peer = parsePeer(text);
      if (peer.kind === "token")
        return /^\s*dc1/i.test(text)
          ? "That is a token: it works in a terminal only. This page needs a code, as in 7-guitar-sandwich."
          : "That is no code: a code looks like 7-guitar-sandwich.";
      const url = peer.kind === "link" ? parseRendezvousUrl(peer.rendezvous) : rendezvous;
      const what = checkRendezvous(url);
      if (what !== undefined) return what;
      if (place.hosted && parseRendezvousUrl(url) !== parseRendezvousUrl(rendezvous))
        return "That link is one of another server. Open the link itself.";
      return { code: peer.code, rendezvous: url };
    } catch (error) {
      return sentence(asDcpipeError(error, "CODE_MALFORMED").message);
    }
  };

  const joinWith = async (code: Code, meeting: Meeting): Promise<[Met, Job]> => {
    showConnecting(screen, `${code.nameplate}-${code.password}`);
    const met = await join(code, meeting);
    session = met.session;
    screen.line.verifier(met.verifier);
    const kind = COUNTERPART[await askPurpose(met.session)];
    return [met, kind === "send" ? { kind, items: undefined, compares: false } : { kind }];
  };

  const waitFor = async (job: Job, meeting: Meeting): Promise<[Met, Job]> => {
    showAllocating(screen);
    const met = await wait(meeting, (code) => {
      showWaiting(screen, code, parseRendezvousUrl(meeting.rendezvous), VERBS[job.kind]);
    });
    session = met.session;
    screen.line.verifier(met.verifier);
    return [met, job];
  };

  const work = async (met: Met, job: Job, kept: Kept): Promise<Outcome> => {
    switch (job.kind) {
      case "receive":
        return receive(screen, met, kept);
      case "pipe":
        return pipe(screen, met, kept);
      case "forward":
        return forward(screen, met);
      case "send":
        if (job.compares) await compare(screen, met);
        return send(screen, met, job.items ?? (await chooseItems(screen, met)));
    }
  };

  /** From the first packet to the last word. */
  const run = async (meet: (meeting: Meeting) => Promise<[Met, Job]>): Promise<void> => {
    const own = new AbortController();
    stop = own;
    const kept: Kept = { texts: [], log: undefined };
    const sleep = stayAwake();
    screen.line.begin({
      oncancel: cancel,
      ondiffer: () => {
        if (session) differing(session);
      },
    });
    try {
      const [met, job] = await meet({
        rendezvous,
        signal: own.signal,
        onnews: (news) => {
          if (stop === own) screen.line.news(news);
        },
      });
      const outcome = await work(met, job, kept);
      await met.session.close();
      if (stop === own) showDone(screen, outcome, kept, over);
    } catch (cause) {
      const error = asDcpipeError(cause, "IO");
      void farewell(session).then(() => {
        own.abort();
      });
      if (stop === own) showFailed(screen, error, kept, over);
    } finally {
      sleep();
      if (stop === own) stop = session = undefined;
    }
  };

  const cancel = (): void => {
    const ended = session?.abort("INTERRUPTED", "", new DcpipeError("ABORTED", "you cancelled it"));
    // The last word goes first: ending the connection under it would leave it unsaid.
    if (ended) void ended.then(() => stop?.abort());
    else stop?.abort();
  };

  /** Back to the beginning; a code that was used is no longer in the address. */
  const over = (): void => {
    if (location.hash !== "") history.replaceState(null, "", location.pathname + location.search);
    start();
  };

  return {
    open: (text) => {
      if (stop) return;
      if (place.unable !== undefined) {
        showUnable(screen, place.unable, text, rendezvous);
        return;
      }
      if (text.trim() === "") {
        start();
        return;
      }
      const found = place.rendezvous === undefined ? undefined : read(text);
      if (found === undefined) start(undefined, text);
      else if (typeof found === "string") start(found, text);
      else {
        showJoin(
          screen,
          `${found.code.nameplate}-${found.code.password}`,
          parseRendezvousUrl(found.rendezvous),
          {
            connect: () =>
              void run((meeting) => joinWith(found.code, { ...meeting, rendezvous: found.rendezvous })),
            leave: over,
          },
        );
      }
    },
    get busy() {
      return session !== undefined;
    },
  };
}

/** The stream is gone, the session may stand: the other side is told that all is over, and why it was, before it is ended. */
async function farewell(session: Session | undefined): Promise<void> {
  const late = new Promise((resolve) => setTimeout(resolve, FAREWELL_MS));
  await Promise.race([session?.close().catch(() => undefined), late]);
}

function checkRendezvous(url: string): string | undefined {
  if (url.trim() === "") return "Which rendezvous? Give its address, or paste a whole link.";
  try {
    parseRendezvousUrl(url);
    return undefined;
  } catch (error) {
    return sentence(asDcpipeError(error, "USAGE").message);
  }
}

/** Messages are written for the end of a line of a terminal. */
function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? "" : "."}`;
}
