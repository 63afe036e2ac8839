/**
 * One try at one channel: a peer connection, then HELLO both ways (docs/protocol.md, section 3.2).
 *
 *   create -> ICE -> DTLS -> SCTP open -> HELLO sent and received -> [READY] -> stands
 *               \______/ 3 s           \_________________________________/ 3 s
 *
 * HELLO is as long as the largest packet will be, so one that does not pass is noticed here (mtu.ts). READY is exchanged on added
 * channels only, where each side must know that its own packets pass. The datagram channel of a peer connection opens beside the one
 * that carries HELLO and READY, and is what such a link is made for.
 */
import { asDcpipeError, DcpipeError } from "../errors.ts";
import type { Fingerprints, Keys } from "../signalling/keys.ts";
import type { Certificate } from "../transport/certificate.ts";
import type { Channel } from "../transport/channel.ts";
import type { Candidate, CreatePeer, Peer, TurnServer } from "../transport/peer.ts";
import { sameBytes } from "../wire/bytes.ts";
import {
  decodeHello,
  decodeReady,
  encodeHello,
  encodeReady,
  isReady,
  PROTOCOL_VERSION,
  type Role,
} from "../wire/hello.ts";
import type { PathMtu } from "./mtu.ts";

/** ICE is through but DTLS is not: a lost first flight waits a second, a lost cause for ever. Try again after this. */
const STALL_MS = 3000;
/** A peer that opens a channel and says nothing is none of ours, or what it says is too large for the path. A few repetitions must fit. */
const HELLO_MS = 3000;
/** A full-size HELLO and its READY: four round trips of half a second. */
const PROBE_MS = 2000;
/** A side that misses our HELLO hangs up HELLO_MS after it opened, which is not the moment when we did. */
const HANG_UP_MS = HELLO_MS + 1000;

/** What all links of one session share. */
export interface LinkContext {
  readonly role: Role;
  readonly keys: Keys;
  readonly certificate: Certificate;
  readonly fingerprints: Fingerprints;
  readonly createPeer: CreatePeer;
  readonly bind: string | undefined;
  readonly turn: readonly TurnServer[];
  readonly relayOnly: boolean;
  readonly onlog?: ((text: string) => void) | undefined;
  readonly pathMtu: PathMtu;
}

export interface LinkTarget {
  readonly epoch: number;
  readonly index: number;
  /** The control channel may have less. */
  readonly mtu: number;
  /** A datagram channel is wanted. */
  readonly datagrams: boolean;
  readonly ports: readonly [number, number] | undefined;
  readonly stun: { readonly host: string; readonly port: number } | undefined;
  /** Addresses of the other side known now; more may be added to the peer. */
  readonly candidates: readonly Candidate[];
}

export interface Link {
  readonly peer: Peer;
  /** Resolves with the wanted channel when the other side has proved itself; rejects with a DcpipeError. */
  readonly established: Promise<Channel>;
  close(): void;
}

/** Starts a try. Throws USAGE when the wanted port cannot be had. */
export async function openLink(context: LinkContext, target: LinkTarget): Promise<Link> {
  const { role, keys, fingerprints, pathMtu } = context;
  const { epoch, index } = target;
  const mtu = index === 0 ? Math.min(target.mtu, pathMtu.control) : target.mtu;
  const other: Role = role === "waiting" ? "joining" : "waiting";
  let unwanted = false;
  const peer = await context.createPeer({
    type: role === "waiting" ? "offer" : "answer",
    local: { ...keys.ice(role, epoch, index), certificate: context.certificate },
    remote: {
      ...keys.ice(other, epoch, index),
      fingerprint: fingerprints[other],
      candidates: target.candidates,
    },
    ports: target.ports,
    bind: context.bind,
    stun: target.stun,
    turn: context.turn,
    relayOnly: context.relayOnly,
    mtu,
    datagrams: target.datagrams,
    onlog: context.onlog,
  });
  const established = new Promise<Channel>((resolve, reject) => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let greeted = false;
    let openedAt = 0;
    const fail = (error: DcpipeError): void => {
      unwanted = true;
      clearTimeout(timer);
      reject(error);
      peer.close();
    };
    // A HELLO was missed here or, when the channel closes soon, there: whatever is to blame, smaller packets are worth a try.
    const miss = (error: DcpipeError): void => {
      const missed = peer.channel && (!greeted || performance.now() - openedAt < HANG_UP_MS);
      if (index === 0 && missed && !unwanted) pathMtu.controlFailed(mtu);
      fail(error);
    };
    const within = (milliseconds: number, what: string): void => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        miss(new DcpipeError("TIMEOUT", what));
      }, milliseconds);
    };
    peer.onstate = (state) => {
      if (state === "connected") within(STALL_MS, "addresses found, but no secure channel came up");
      if (state === "failed" || state === "closed")
        miss(new DcpipeError("ICE_FAILED", "no path to the other side"));
      if (state !== "open" || !peer.channel) return;
      within(index === 0 ? HELLO_MS : PROBE_MS, "the other side opened a channel and said nothing");
      openedAt = performance.now();
      const channel = peer.channel;
      greet(context, target, channel).then(
        () => {
          greeted = true;
          clearTimeout(timer);
          const { datagrams } = peer;
          if (datagrams) {
            // Nobody speaks here any more, and what nobody listens to would pile up.
            channel.onmessage = () => {
              peer.close();
            };
          }
          resolve(datagrams ?? channel);
        },
        (error: unknown) => {
          fail(asDcpipeError(error, "PROTOCOL"));
        },
      );
    };
  });
  established.catch(() => undefined);
  return {
    peer,
    established,
    close: () => {
      unwanted = true;
      peer.close();
    },
  };
}

/** Exchanges HELLO, and READY on an added channel. Rejects with AUTH_FAILED, VERSION or PROTOCOL. */
function greet(context: LinkContext, target: LinkTarget, channel: Channel): Promise<void> {
  const { role, keys, fingerprints } = context;
  const { epoch, index } = target;
  const other: Role = role === "waiting" ? "joining" : "waiting";
  const mine = encodeHello(
    { version: PROTOCOL_VERSION, role, epoch, index, proof: keys.proof(role, epoch, index, fingerprints) },
    channel.packet,
  );
  return new Promise((resolve, reject) => {
    let greeted = false;
    let ready = index === 0;
    // Ours first: theirs may lie there already, and READY must not overtake it.
    channel.send(mine);
    channel.onmessage = (message) => {
      try {
        if (greeted && !ready && isReady(message)) {
          if (decodeReady(message) !== mine.length)
            throw new DcpipeError("PROTOCOL", "READY for another HELLO");
          ready = true;
        } else if (!greeted) {
          const hello = decodeHello(message);
          if (hello.version !== PROTOCOL_VERSION) {
            throw new DcpipeError(
              "VERSION",
              `the other side speaks version ${hello.version}, this one ${PROTOCOL_VERSION}`,
            );
          }
          if (hello.role !== other || hello.epoch !== epoch || hello.index !== index) {
            throw new DcpipeError("PROTOCOL", "a HELLO for another channel");
          }
          if (!sameBytes(hello.proof, keys.proof(other, epoch, index, fingerprints))) {
            throw new DcpipeError("AUTH_FAILED", "the other side could not prove that it holds the token");
          }
          greeted = true;
          if (index !== 0) channel.send(encodeReady(message.length));
        } else {
          throw new DcpipeError("PROTOCOL", "a message before READY");
        }
      } catch (error) {
        reject(asDcpipeError(error, "PROTOCOL"));
        return;
      }
      if (!ready) return;
      // Later messages wait in the channel until the session listens.
      channel.onmessage = undefined;
      resolve();
    };
  });
}
