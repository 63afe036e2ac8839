/**
 * Plain WebRTC: a connection to any RTCPeerConnection by an offer and an answer, and one data channel that is nobody's but
 * the caller's. No session, no streams, no second try.
 *
 *   offering side     makes an offer, complete with its addresses -> takes the answer -> its channel opens
 *   answering side    is given the offer -> makes an answer, as complete -> takes the first channel that comes
 */
import { DcpipeError } from "../errors.ts";
import {
  formatDescription,
  parseRawLine,
  parseRawText,
  type RawKind,
  type RawLine,
} from "../signalling/raw.ts";
import type { RawChannel } from "../transport/channel.ts";
import type { CreateRawPeer, RawPeer } from "../transport/peer.ts";
import { parseDescription, type Description } from "../transport/sdp.ts";
import type { ConnectedPath } from "./connection.ts";
import { GATHER_MS, TURN_GATHER_MS, WAIT_MS } from "./direct.ts";
import {
  DEFAULT_TIMEOUT_JOINING,
  parseNetwork,
  PROBE_MS,
  seconds,
  type ConnectOptions,
  type ParsedNetwork,
  type Platform,
} from "./options.ts";

export type RawPlatform = Pick<Platform, "createCertificate" | "findStunServer"> & {
  readonly createRawPeer: CreateRawPeer;
};

export interface RawConnection {
  /** Our offer or answer, one line of JSON, with the addresses found by then: no candidates follow it. */
  readonly description: string;
  /**
   * Takes what the other side sends: to the offering side the answer, to either one candidates, one object a line. Throws
   * TOKEN_MALFORMED, TOKEN_CUT, TOKEN_KIND; nothing is taken then, and another text may follow.
   */
  take(text: string): void;
  /** Rejects with ICE_FAILED, TIMEOUT, AUTH_FAILED, PEER_GONE, ABORTED. */
  readonly channel: Promise<RawChannel>;
  /** Resolves when the channel is no use any more. Never rejects. */
  close(): void;
}

/** ICE user name fragment and password: 48 and 144 random bits (RFC 8445, section 5.3 asks for 24 and 128). */
const UFRAG_BYTES = 6;
const PWD_BYTES = 18;
/** Of the channel that we make. */
const LABEL = "dcpipe";
/** Candidates of the other side that are kept for later tries. */
const MAX_CANDIDATES = 64;

/** Resolves when the offer is ready. Rejects with USAGE, NO_WEBRTC. */
export function offerRaw(platform: RawPlatform, options: ConnectOptions): Promise<RawConnection> {
  return Raw.open(platform, options, undefined, []);
}

/**
 * Resolves when the answer is ready. `text` is the offer, and any candidates behind it. Rejects with TOKEN_MALFORMED,
 * TOKEN_CUT, TOKEN_KIND, USAGE, NO_WEBRTC.
 */
export async function answerRaw(
  platform: RawPlatform,
  text: string,
  options: ConnectOptions,
): Promise<RawConnection> {
  const { description, candidates } = readLines(parseRawText(text), "offer");
  if (!description)
    throw new DcpipeError("TOKEN_MALFORMED", "an offer is due, and these are only candidates");
  return Raw.open(platform, options, description, candidates);
}

/** Throws USAGE. */
function parseRelays(options: ConnectOptions, answering: boolean): ParsedNetwork {
  const network = parseNetwork(options);
  // Whoever has no relay of his own would have to be called from our own address.
  if (network.relay === "only")
    throw new DcpipeError("USAGE", "relay only does not go with plain WebRTC: the other side may have none");
  // The connection that waits for an answer is not the one that takes it, and its relay would go with it.
  if (!answering && network.turn.length > 0)
    throw new DcpipeError(
      "USAGE",
      "the side that offers takes no TURN server: give it to the one that answers, one side's is enough",
    );
  return network;
}

/** What is in the lines, where a description of that kind is due. */
function readLines(
  lines: readonly RawLine[],
  due: RawKind,
): { readonly description: Description | undefined; readonly candidates: readonly string[] } {
  let description: Description | undefined;
  const candidates: string[] = [];
  for (const line of lines) {
    if (line.kind === "candidate") candidates.push(line.candidate);
    else if (line.kind !== "end") {
      if (line.kind !== due) throw wrongKind(line.kind, due);
      if (description) throw new DcpipeError("TOKEN_MALFORMED", `there are two ${due}s in it`);
      description = parseDescription(line.kind, line.sdp);
    }
  }
  return { description, candidates };
}

function wrongKind(kind: RawKind, due: RawKind): DcpipeError {
  return new DcpipeError(
    "TOKEN_KIND",
    kind === "answer"
      ? "this is an answer, but an offer is due: this side was given a PEER, and PEER is the other side's offer"
      : `this is an offer, but an ${due} is due: the other side is to take the offer shown here, and to answer it`,
  );
}

type Milliseconds = number;

class Raw implements RawConnection {
  description = "";
  readonly channel: Promise<RawChannel>;
  readonly #platform: RawPlatform;
  readonly #options: ConnectOptions;
  readonly #network: ParsedNetwork;
  readonly #offer: Description | undefined;
  readonly #candidates: string[];
  #peer: RawPeer | undefined;
  #answered = false;
  #over = false;
  #timers: NodeTimer[] = [];
  #resolve!: (channel: RawChannel) => void;
  #reject!: (error: DcpipeError) => void;

  static async open(
    platform: RawPlatform,
    options: ConnectOptions,
    offer: Description | undefined,
    candidates: readonly string[],
  ): Promise<Raw> {
    const raw = new Raw(platform, options, offer, candidates);
    try {
      await raw.#start();
    } catch (error) {
      raw.close();
      throw error;
    }
    return raw;
  }

  private constructor(
    platform: RawPlatform,
    options: ConnectOptions,
    offer: Description | undefined,
    candidates: readonly string[],
  ) {
    this.#platform = platform;
    this.#options = options;
    this.#network = parseRelays(options, offer !== undefined);
    this.#offer = offer;
    this.#candidates = candidates.slice(0, MAX_CANDIDATES);
    this.channel = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.channel.catch(() => undefined);
  }

  async #start(): Promise<void> {
    const options = this.#options;
    const network = this.#network;
    const { signal } = options;
    const limit = seconds(options.timeout, this.#offer ? DEFAULT_TIMEOUT_JOINING : 0, "timeout");
    const [certificate, stun] = await Promise.all([
      this.#platform.createCertificate(),
      this.#platform.findStunServer(network.stun, PROBE_MS, options.bind),
    ]);
    const local = { ufrag: random(UFRAG_BYTES), pwd: random(PWD_BYTES), certificate };
    const open = async (ports: ConnectOptions["portRange"]): Promise<RawPeer> => {
      const peer = await this.#platform.createRawPeer({
        type: this.#offer ? "answer" : "offer",
        label: LABEL,
        remotePassword: this.#offer?.pwd,
        local,
        ports,
        bind: options.bind,
        stun,
        turn: network.turn,
        onlog: (text) => options.onevent?.({ event: "log", text }),
      });
      this.#use(peer);
      return peer;
    };
    const peer = await open(options.portRange);
    await within(peer.gathered, network.turn.length > 0 ? TURN_GATHER_MS : stun ? GATHER_MS / 2 : GATHER_MS);
    this.description = formatDescription(this.#offer ? "answer" : "offer", peer.describe());
    signal?.addEventListener("abort", () => {
      this.#fail(new DcpipeError("ABORTED", "stopped"));
    });
    if (signal?.aborted) throw new DcpipeError("ABORTED", "stopped");
    if (limit > 0 && limit < Infinity)
      this.#after(limit, () => {
        this.#fail(new DcpipeError("TIMEOUT", `the other side has not connected within ${limit / 1000} s`));
      });
    if (this.#offer)
      this.#renew(() => open(peer.port === undefined ? options.portRange : [peer.port, peer.port]));
  }

  /**
   * Whoever has an answer to carry by hand takes his time, and the library gives up after 39.5 s. So the answering side
   * begins anew before that, on the same port with the same credentials: what is on its way stays true.
   */
  #renew(open: () => Promise<RawPeer>): void {
    this.#after(WAIT_MS, () => {
      const old = this.#peer;
      if (!old || old.connected || this.#over) return;
      old.onlost = undefined;
      old.close();
      open().then(
        () => {
          this.#renew(open);
        },
        (error: unknown) => {
          this.#fail(error instanceof DcpipeError ? error : new DcpipeError("IO", String(error)));
        },
      );
    });
  }

  #use(peer: RawPeer): void {
    if (this.#over) {
      peer.close();
      return;
    }
    this.#peer = peer;
    peer.onlost = (error) => {
      this.#fail(error);
    };
    peer.onchannel = (channel) => {
      this.#stopTimers();
      const { turn } = this.#network;
      const path = peer.path();
      const kind = path?.local.type === "relay" && turn.length > 0 ? "turn" : "direct";
      const connected: ConnectedPath = {
        path: kind,
        local: path?.local,
        remote: path?.remote,
        rttMs: peer.rtt ?? 0,
      };
      this.#resolve(channel);
      this.#options.onevent?.({ event: "connected", ...connected });
    };
    if (!this.#offer) return;
    peer.accept(this.#offer);
    for (const candidate of this.#candidates) peer.addCandidate(candidate);
  }

  take(text: string): void {
    const lines = /\n/.test(text.trim()) ? parseRawText(text) : [parseRawLine(text)];
    const { description, candidates } = readLines(lines, "answer");
    if (description && (this.#offer || this.#answered))
      throw this.#offer
        ? new DcpipeError(
            "TOKEN_KIND",
            "this is an answer, but this side has made one itself: candidates may follow",
          )
        : new DcpipeError("TOKEN_KIND", "there is an answer already: candidates may follow");
    if (description) {
      this.#peer?.accept(description);
      this.#answered = true;
    }
    for (const candidate of candidates) {
      if (this.#candidates.length >= MAX_CANDIDATES) return;
      this.#candidates.push(candidate);
    }
    if (this.#offer || this.#answered)
      for (const candidate of description ? this.#candidates : candidates)
        this.#peer?.addCandidate(candidate);
  }

  close(): void {
    this.#over = true;
    this.#stopTimers();
    this.#peer?.close();
    this.#reject(new DcpipeError("ABORTED", "stopped"));
  }

  #fail(error: DcpipeError): void {
    this.#reject(error);
    this.close();
  }

  #after(ms: Milliseconds, what: () => void): void {
    this.#timers.push(setTimeout(what, ms));
  }

  #stopTimers(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers = [];
  }
}

type NodeTimer = ReturnType<typeof setTimeout>;

/** Base64 characters are those of ICE (RFC 8839, section 5.4); whole threes of bytes need no padding. */
function random(bytes: number): string {
  return btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(bytes))));
}

/** Waits for the promise, at most so long. */
async function within(promise: Promise<unknown>, ms: Milliseconds): Promise<void> {
  let timer: NodeTimer | undefined;
  await Promise.race([promise, new Promise((resolve) => (timer = setTimeout(resolve, ms)))]);
  clearTimeout(timer);
}
