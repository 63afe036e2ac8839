/** What the verbs share: a command as it was given, and what comes of meeting the other side. */
import type { Purpose, Role, Session } from "../index.ts";
import type { CommonOptions } from "./options.ts";
import type { Hints } from "./status.ts";

export interface Command {
  readonly argument: string | undefined;
  readonly options: CommonOptions;
  /** What this side runs, and what the other one does: remembered peers find each other by it. */
  readonly purpose: Purpose;
  readonly meets: Purpose;
  /** stdin carries payload, so tokens are read elsewhere. */
  readonly stdinIsPayload: boolean;
  /** The other side's command around its token or code, e.g. `dcpipe receive TOKEN`. */
  readonly counterpart: (peer: string) => string;
  /** The link that is shown opens what is offered in a browser. */
  readonly web?: boolean;
  /** Said before anything else. */
  readonly notes?: readonly string[];
  /** What to do about an error, where the command knows better than the common table. */
  readonly hints?: Hints;
}

export interface Met {
  readonly session: Session;
  readonly role: Role;
  /** The short authentication string. */
  readonly verifier: string;
  /** This side was given a PEER, or found an offer. */
  readonly joined: boolean;
  /** The remembered peer at the other end: known by then, or remembered in this session. */
  peer?: string | undefined;
  /** It has become one. */
  onremembered?: (() => void) | undefined;
  /** Where the two have met, when there was a rendezvous. */
  readonly rendezvous?: string | undefined;
}
