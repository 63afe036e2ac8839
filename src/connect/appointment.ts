/** From a knock that was taken to a session: both sides exchange addresses in the mailbox that its nonce names. */
import { DcpipeError } from "../errors.ts";
import type { Session } from "../session/session.ts";
import type { PeerKeys, PeerSide } from "../signalling/known.ts";
import type { Certificate } from "../transport/certificate.ts";
import type { Role } from "../wire/hello.ts";
import { Attempt } from "./attempt.ts";
import type { Knock } from "./door.ts";
import { Lead } from "./lead.ts";
import { meetAgain } from "./meeting.ts";
import type { CodeOptions, Platform } from "./options.ts";

/** Two sides that were both there a moment ago connect within seconds; what takes longer is tried again, or was no knock of today. */
const APPOINTMENT_TIMEOUT = 30;

/** What this machine keeps of one that it remembers. */
export interface KnownPeer {
  /** Which of the two this machine is: `a` waited when they were paired. */
  readonly side: PeerSide;
  /** Shared by both, 32 bytes. */
  readonly secret: Uint8Array;
  /** This machine's own, for this peer alone. */
  readonly certificate: Certificate;
  /** SHA-256 of the peer's certificate, 32 bytes. */
  readonly fingerprint: Uint8Array;
  /** Where the two have met. */
  readonly rendezvous: string | null;
}

export interface AppointmentOptions {
  readonly platform: Platform;
  readonly peer: KnownPeer;
  readonly keys: PeerKeys;
  readonly role: Role;
  readonly knock: Omit<Knock, "roundTripMs"> & Partial<Pick<Knock, "roundTripMs">>;
  readonly options: CodeOptions;
  readonly onsession: (session: Session, verifier: string) => void;
  readonly onfailed: (error: DcpipeError) => void;
}

/** `drop` ends it, also a session that stands. */
export function keepAppointment(appointment: AppointmentOptions): { drop(error: DcpipeError): void } {
  const { platform, peer, role, knock, options, onsession, onfailed } = appointment;
  const { certificate, fingerprint } = peer;
  const keys = appointment.keys.session(knock.nonce);
  const attempt = new Attempt(platform, options, role, certificate);
  const lead = new Lead((candidates) => {
    attempt.connection?.addCandidates(candidates);
  });
  void knock.roundTripMs?.then((milliseconds) => {
    // The server is about as far from the other side as from this one.
    lead.wayMs = milliseconds;
  });
  const meeting = meetAgain({
    openSocket: platform.openSocket,
    url: knock.place.url,
    direct: knock.place.direct,
    key: knock.place.key,
    keys,
    role,
    oncandidates: (candidates) => {
      if (role === "waiting") lead.take(candidates);
      else attempt.connection?.addCandidates(candidates);
    },
    onlog: attempt.log,
    onleft: () => {
      attempt.connection?.fail(new DcpipeError("INTERRUPTED", "the other side gave up"));
    },
  });
  const fingerprints =
    role === "waiting"
      ? { waiting: certificate.fingerprint, joining: fingerprint }
      : { waiting: fingerprint, joining: certificate.fingerprint };
  attempt.begin(
    { keys, fingerprints, servers: knock.servers },
    {
      post: (candidates) => {
        meeting.post(candidates);
        lead.tell(candidates);
      },
      onsession: (session, verifier) => {
        meeting.close(true);
        onsession(session, verifier);
      },
      onfailed: (error) => {
        meeting.close(false);
        // It may fail before the caller has got what it could drop.
        queueMicrotask(() => {
          onfailed(error);
        });
      },
    },
    APPOINTMENT_TIMEOUT,
  );
  return {
    drop: (error) => {
      attempt.connection?.abort(error);
    },
  };
}
