/** Remembered peers: found by name, joined, and let in while this side waits by code. */
import {
  DcpipeError,
  isPeerName,
  joinKnown,
  looksLikeToken,
  notRemembered,
  parsePeer,
  PeerStore,
  preload,
  waitKnown,
  type CodeEvent,
  type ConnectOptions,
  type PeerRecord,
  type WaitingKnown,
} from "../index.ts";
import type { Command, Met } from "./command.ts";
import { networkOf } from "./network.ts";
import { findRendezvous, type CommonOptions } from "./options.ts";
import type { Ui } from "./ui.ts";

/** Peers that are waited for at the same time: each takes a connection to the rendezvous, and a server on the local network. */
const MAX_WAITED_FOR = 16;

/** The peers of this user; what is wrong with their files is noted. */
export function openStore(ui: Ui): PeerStore {
  return new PeerStore(undefined, (text) => {
    ui.note(text);
  });
}

/** Whether PEER can be the name of a remembered one: no token or report, however short it was cut, and never a code, which begins with a digit. */
export function isName(text: string): boolean {
  return isPeerName(text) && !looksLikeToken(text) && !/^dcr?\d/.test(text);
}

/** The peer that `text` names; undefined when it is a code, a link or a token. Throws USAGE for a name that nobody has. */
export function findRemembered(text: string, ui: Ui): PeerRecord | undefined {
  const name = text.trim();
  if (!isName(name)) return undefined;
  const peer = openStore(ui).find(name);
  // Words without their number are told what they lack.
  if (!peer && parsePeer(name).kind === "token") throw notRemembered(name);
  return peer;
}

/** The rendezvous for a remembered peer: undefined for the one of its record, false for none. */
function rendezvousFor(options: CommonOptions): string | false | undefined {
  return options.rendezvous === false ? false : findRendezvous(options);
}

export async function joinRemembered(
  peer: PeerRecord,
  network: ConnectOptions,
  command: Command,
  ui: Ui,
): Promise<Met> {
  const { options, purpose, meets } = command;
  const rendezvous = rendezvousFor(options);
  const joining = await joinKnown(
    peer,
    { own: purpose, other: meets },
    {
      ...network,
      // A forward is there to stay: it waits until the other side comes.
      timeout: network.timeout ?? (purpose === "forward" ? 0 : undefined),
      rendezvous,
      lan: options.lan,
      onevent: (event) => {
        show(event, peer.name, ui);
      },
    },
  );
  preload();
  await ui.wait(`Connecting to ${peer.name}`);
  try {
    const { session, role, verifier } = await joining.met;
    openStore(ui).seen(peer.name);
    const url = rendezvous === false ? undefined : (rendezvous ?? peer.rendezvous ?? undefined);
    return { session, role, verifier, joined: true, peer: peer.name, rendezvous: url };
  } finally {
    joining.close();
    ui.stopWaiting();
  }
}

/** Joins a remembered peer that was met before, and waits for it as long as it takes. Rejects with USAGE when it was forgotten since. */
export async function joinAgain(name: string, command: Command, ui: Ui, signal: AbortSignal): Promise<Met> {
  const peer = openStore(ui).find(name);
  if (!peer) throw notRemembered(name);
  return joinRemembered(peer, { ...networkOf(command, ui, signal), timeout: 0 }, command, ui);
}

/**
 * Waits for remembered peers beside a code, where the command takes and does not give: what `send` and `pipe` give away is meant for
 * who has the code. `onmet` is called with the first one, or with each of `many` until `close`.
 */
export function waitForRemembered({
  rendezvous,
  network,
  command,
  ui,
  only,
  many,
  onmet,
}: {
  readonly rendezvous: string | undefined;
  readonly network: ConnectOptions;
  readonly command: Command;
  readonly ui: Ui;
  /** This peer and no other. */
  readonly only?: string;
  readonly many: boolean;
  readonly onmet: (met: Met) => void;
}): { close(): void } {
  const waiting: Promise<WaitingKnown>[] = [];
  const standing: WaitingKnown[] = [];
  let over = false;
  const close = (): void => {
    over = true;
    for (const each of waiting)
      each.then(
        (known) => {
          known.close();
        },
        () => undefined,
      );
  };
  const { options, purpose } = command;
  if (options.known === false || (purpose !== "receive" && purpose !== "forward")) return { close };
  const store = openStore(ui);
  const { peers, problems } = store.list();
  for (const problem of problems) ui.note(problem.message);
  const chosen = peers.filter(({ name }) => only === undefined || name === only).slice(0, MAX_WAITED_FOR);
  for (const peer of chosen) {
    const known = waitKnown(peer, purpose, {
      ...network,
      rendezvous: options.rendezvous === false ? false : rendezvous,
      lan: options.lan,
      admits: () => {
        // Forgotten since: that is how access is taken away.
        if (!store.has(peer.name)) return "never";
        return !many && standing.some(({ busy }) => busy) ? "later" : "now";
      },
      onevent: (event) => {
        // The code's own way says what becomes of the rendezvous.
        if (event.event !== "rendezvous") show(event, peer.name, ui);
      },
      onsession: ({ session, role, verifier }) => {
        if (over) {
          void session.abort("REFUSED", "somebody else was faster");
          return;
        }
        if (!many) close();
        store.seen(peer.name);
        onmet({ session, role, verifier, joined: false, peer: peer.name, rendezvous });
      },
    });
    known.then(
      (each) => standing.push(each),
      (error: unknown) => {
        ui.note(`${peer.name} is not waited for: ${(error as DcpipeError).message}`);
      },
    );
    waiting.push(known);
  }
  if (chosen.length > 0 && only === undefined)
    ui.note(`remembered peers need no code: ${chosen.map(({ name }) => name).join(", ")} (--no-known)`);
  return { close };
}

function show(event: CodeEvent, name: string, ui: Ui): void {
  if (event.event === "code") return;
  if (event.event === "log") ui.connection({ ...event, text: `${name}: ${event.text}` });
  else ui.connection(event, name);
}
