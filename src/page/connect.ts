/** The two ways into a session, and what becomes of it. */
import {
  connectByCode,
  formatCode,
  listenByCode,
  parseRendezvousUrl,
  type Code,
  type CodeEvent,
  type ConnectedPath,
  type Role,
  type Session,
} from "../browser.ts";
import { isLoopback } from "./place.ts";

/** A session that stands. */
export interface Met {
  readonly session: Session;
  readonly role: Role;
  /** The short authentication string. */
  readonly verifier: string;
}

/** What is told on the way: for the line that shows how the two are connected. */
export type News =
  | { readonly state: "connecting"; readonly role: Role }
  | { readonly state: "connected"; readonly path: ConnectedPath }
  | { readonly state: "reconnecting" }
  /** The rendezvous is out of reach (`trouble`), or back. */
  | { readonly state: "rendezvous"; readonly trouble: string | undefined };

export interface Meeting {
  readonly rendezvous: string;
  readonly signal: AbortSignal;
  readonly onnews: (news: News) => void;
}

/** Joins whoever waits with this code: uses it up. */
export async function join(code: Code, meeting: Meeting): Promise<Met> {
  const joining = await connectByCode(
    code,
    optionsOf("joining", meeting, () => undefined),
  );
  const session = await joining.session;
  return { session, role: "joining", verifier: await joining.verifier };
}

/** Waits; tells the code, again when it had to change. */
export async function wait(meeting: Meeting, oncode: (code: string) => void): Promise<Met> {
  const waiting = await listenByCode(optionsOf("waiting", meeting, oncode));
  const session = await waiting.session;
  return { session, role: "waiting", verifier: await waiting.verifier };
}

function optionsOf(
  role: Role,
  { rendezvous, signal, onnews }: Meeting,
  oncode: (code: string) => void,
): Parameters<typeof connectByCode>[1] {
  onnews({ state: "connecting", role });
  const url = parseRendezvousUrl(rendezvous);
  return {
    rendezvous: url,
    signal,
    ...(isLoopback(url) ? { stun: [] } : {}),
    onevent: (event: CodeEvent) => {
      if (event.event === "code") oncode(formatCode(event.code));
      else if (event.event === "connected" || event.event === "path")
        onnews({ state: "connected", path: event });
      else if (event.event === "reconnecting") onnews({ state: "reconnecting" });
      else if (event.event === "rendezvous") onnews({ state: "rendezvous", trouble: event.trouble });
    },
  };
}
