/**
 * Two strangers with the same code (docs/protocol.md, section 8). A **way** is one mailbox: the rendezvous' own, or one on the local
 * network. The waiting side may wait at several, and takes one guess in all; the joining side tries each way by itself.
 *
 *   joining:  HELLO, with the claim --ANSWER--> its tag holds? --yes--> CONFIRM, introduced --SEALED--> addresses
 *                                                  |  no
 *                                                  v
 *                                               burned: the way is released as `wrong`
 *
 *   waiting:  --HELLO--> ANSWER, introduced --CONFIRM--> its tag holds? --yes--> confirmed --SEALED--> addresses
 *                                               |  no, or it does not come
 *                                               v
 *                                            burned, at every way
 *
 * The waiting side is introduced before it has seen CONFIRM: that saves a round trip, and risks nothing, because a peer with another
 * password has other keys and another fingerprint, and every channel is checked against both.
 */
import { asDcpipeError, DcpipeError } from "../errors.ts";
import { sameBytes } from "../wire/bytes.ts";
import type { Candidate } from "../wire/candidate.ts";
import type { Code } from "../wire/code.ts";
import {
  decodeAddresses,
  decodeIntroduction,
  encodeAddresses,
  encodeIntroduction,
  type IntroductionMessage,
} from "../wire/introduction.ts";
import type { Role } from "../wire/hello.ts";
import type { Outcome, ServerRecord } from "../wire/rendezvous.ts";
import { codeContext, createShare, generator, sharedSecret, type Share } from "./cpace.ts";
import { Keys, type Fingerprints, type Half } from "./keys.ts";
import { Mailbox } from "./mailbox.ts";
import { Seal } from "./seal.ts";
import type { OpenSocket } from "./socket.ts";

/** Who claims a code and does not prove itself has probed it: the code is burned. Honest machines take a fraction of this. */
const CONFIRM_MS = 15_000;

/** What the key exchange gives. */
export interface Introduced {
  readonly keys: Keys;
  readonly fingerprints: Fingerprints;
  /** TURN servers the rendezvous lends. */
  readonly servers: readonly ServerRecord[];
}

export interface IntroductionEvents {
  /** SHA-256 of this side's certificate. */
  readonly fingerprint: Uint8Array;
  readonly onintroduced: (introduced: Introduced) => void;
  /** Addresses of the other side, more of them each time. */
  readonly oncandidates: (candidates: readonly Candidate[]) => void;
  /** Nothing will come of it. Called once. */
  readonly onfailed: (error: DcpipeError) => void;
  /** The rendezvous is out of reach, or back (undefined). */
  readonly ontrouble: (trouble: string | undefined) => void;
}

/** There is no session id before both have spoken, and the draft allows none: the shares are random. */
const NO_SID = new Uint8Array(0);

function shareFor(password: string, nameplate: number): Share {
  return createShare(generator(new TextEncoder().encode(password), codeContext(nameplate), NO_SID));
}

/** Throws PROTOCOL when `theirs` is no point. */
function agree({ secret }: Share, hello: Half, answer: Half, theirs: Uint8Array): Keys {
  const isk = sharedSecret({
    secret,
    theirs,
    sid: NO_SID,
    initiator: { point: hello.point, data: hello.fingerprint },
    responder: { point: answer.point, data: answer.fingerprint },
  });
  return Keys.fromCode(isk);
}

/** After the key exchange: a mailbox whose bodies only the two sides can read. */
export class SealedMailbox {
  readonly #mailbox: Mailbox;
  readonly #seal: Seal;

  constructor(mailbox: Mailbox, keys: Keys, role: Role) {
    this.#mailbox = mailbox;
    const other = role === "waiting" ? "joining" : "waiting";
    this.#seal = new Seal({ mine: keys.sealKey(role), theirs: keys.sealKey(other) });
  }

  post(candidates: readonly Candidate[]): void {
    if (this.#mailbox.closed || candidates.length === 0) return;
    const sealed = this.#seal.seal(this.#mailbox.next, encodeAddresses(candidates));
    this.#mailbox.post(encodeIntroduction({ type: "SEALED", ...sealed }));
  }

  /** Throws AUTH_FAILED, PROTOCOL. */
  open(message: IntroductionMessage, index: number): Candidate[] {
    if (message.type !== "SEALED") throw new DcpipeError("PROTOCOL", "a message of an introduction twice");
    return decodeAddresses(this.#seal.open(index, message.nonce, message.ciphertext));
  }
}

// ---- waiting --------------------------------------------------------------------------------------------------------

export interface WaitingOptions extends IntroductionEvents {
  readonly openSocket: OpenSocket;
  readonly password: string;
  /** Somebody has claimed the code; it is not known yet whether they know the password. */
  readonly onjoined: () => void;
  /** They do. What that took: milliseconds through the rendezvous to the other side and back. */
  readonly onconfirmed: (roundTripMs: number) => void;
}

export interface WaitingWay {
  /** URL of the rendezvous. */
  readonly url: string;
  /** The one wished for, 0 for any. */
  readonly nameplate: number;
  readonly key?: Uint8Array;
  readonly direct?: boolean;
  /** Called again when the nameplate has changed. */
  readonly onallocated: (nameplate: number, link: string) => void;
}

export class WaitingIntroduction {
  readonly #options: WaitingOptions;
  readonly #ways = new Set<Mailbox>();
  /** The way on which HELLO came. */
  #taken: Mailbox | undefined;
  #sealed: SealedMailbox | undefined;
  /** What CONFIRM must say. */
  #expected: Uint8Array | undefined;
  #answered = 0;
  #patience: ReturnType<typeof setTimeout> | undefined;
  #over = false;

  constructor(options: WaitingOptions) {
    this.#options = options;
  }

  /** Waits at one more rendezvous. */
  addWay({ url, nameplate, key, direct, onallocated }: WaitingWay): void {
    let share: Share | undefined;
    let servers: readonly ServerRecord[] = [];
    const mailbox = new Mailbox({
      openSocket: this.#options.openSocket,
      url,
      place: { type: "allocate", nameplate },
      key,
      direct,
      onallocated: (given, link) => {
        share = shareFor(this.#options.password, given);
        onallocated(given, link);
      },
      onjoined: () => {
        this.#patience ??= setTimeout(() => {
          this.#burn("somebody claimed the code and did not prove to have it; it is burned");
        }, CONFIRM_MS);
        this.#options.onjoined();
      },
      onservers: (list) => {
        servers = list;
      },
      onbody: (body, index) => {
        const message = decodeIntroduction(body);
        if (this.#taken === mailbox) this.#receive(message, index);
        else if (message.type !== "HELLO" || !share) throw new DcpipeError("PROTOCOL", "no hello");
        // The other side is on two ways at once; one is enough.
        else if (this.#taken) void mailbox.release("left");
        else this.#hello(mailbox, share, message, servers);
      },
      onclosed: (error) => {
        this.#ways.delete(mailbox);
        if (!this.#taken || this.#taken === mailbox) this.#closed(error);
      },
      ontrouble: this.#options.ontrouble,
    });
    this.#ways.add(mailbox);
  }

  post(candidates: readonly Candidate[]): void {
    this.#sealed?.post(candidates);
  }

  /** Says how it went and leaves every way. Resolves when that is said. */
  async release(outcome: Outcome): Promise<void> {
    this.#over = true;
    clearTimeout(this.#patience);
    await Promise.all([...this.#ways].map((mailbox) => mailbox.release(outcome)));
  }

  /** Throws PROTOCOL for a point that is none. */
  #hello(mailbox: Mailbox, share: Share, hello: Half, servers: readonly ServerRecord[]): void {
    const own = { point: share.point, fingerprint: this.#options.fingerprint };
    const keys = agree(share, hello, own, hello.point);
    this.#taken = mailbox;
    for (const way of this.#ways) way.burn();
    this.#expected = keys.confirmation("joining", hello, own);
    mailbox.post(
      encodeIntroduction({ type: "ANSWER", ...own, tag: keys.confirmation("waiting", hello, own) }),
    );
    this.#answered = performance.now();
    this.#sealed = new SealedMailbox(mailbox, keys, "waiting");
    const fingerprints = { waiting: own.fingerprint, joining: hello.fingerprint.slice() };
    this.#options.onintroduced({ keys, fingerprints, servers });
  }

  #receive(message: IntroductionMessage, index: number): void {
    try {
      if (!this.#expected) {
        this.#options.oncandidates(this.#sealed?.open(message, index) ?? []);
      } else if (message.type !== "CONFIRM" || !sameBytes(message.tag, this.#expected)) {
        this.#burn("somebody tried this code with other words; it is burned");
      } else {
        clearTimeout(this.#patience);
        this.#expected = undefined;
        this.#options.onconfirmed(performance.now() - this.#answered);
      }
    } catch (cause) {
      this.#fail(asDcpipeError(cause, "PROTOCOL"), "failed");
    }
  }

  #burn(message: string): void {
    this.#fail(new DcpipeError("CODE_WRONG", message), "wrong");
  }

  #closed(error: DcpipeError | undefined): void {
    // Released in good order by the other side: it is connected, and so shall we be.
    if (error || !this.#taken)
      this.#fail(error ?? new DcpipeError("SIGNALLING", "the rendezvous released the code"), "left");
  }

  #fail(error: DcpipeError, outcome: Outcome): void {
    if (this.#over) return;
    void this.release(outcome);
    this.#options.onfailed(error);
  }
}

// ---- joining --------------------------------------------------------------------------------------------------------

export interface JoiningOptions extends IntroductionEvents {
  readonly openSocket: OpenSocket;
  /** URL of the rendezvous. */
  readonly url: string;
  readonly code: Code;
  readonly direct: boolean;
}

/** One way by which the joining side tries its code. */
export class JoiningIntroduction {
  readonly #options: JoiningOptions;
  readonly #mailbox: Mailbox;
  readonly #share: Share;
  readonly #own: Half;
  #servers: readonly ServerRecord[] = [];
  #sealed: SealedMailbox | undefined;
  #over = false;

  constructor(options: JoiningOptions) {
    this.#options = options;
    const { nameplate, password } = options.code;
    this.#share = shareFor(password, nameplate);
    this.#own = { point: this.#share.point, fingerprint: options.fingerprint };
    this.#mailbox = new Mailbox({
      openSocket: options.openSocket,
      url: options.url,
      direct: options.direct,
      place: { type: "claim", nameplate },
      body: encodeIntroduction({ type: "HELLO", ...this.#own }),
      onservers: (servers) => {
        this.#servers = servers;
      },
      onbody: (body, index) => {
        this.#receive(decodeIntroduction(body), index);
      },
      onclosed: (error) => {
        this.#closed(error);
      },
      ontrouble: options.ontrouble,
    });
    this.#mailbox.burn();
  }

  post(candidates: readonly Candidate[]): void {
    this.#sealed?.post(candidates);
  }

  async release(outcome: Outcome): Promise<void> {
    this.#over = true;
    await this.#mailbox.release(outcome);
  }

  #receive(message: IntroductionMessage, index: number): void {
    try {
      if (this.#sealed) this.#options.oncandidates(this.#sealed.open(message, index));
      else this.#answer(message);
    } catch (cause) {
      const error = asDcpipeError(cause, "PROTOCOL");
      this.#fail(error, error.code === "CODE_WRONG" ? "wrong" : "failed");
    }
  }

  /** Throws PROTOCOL, CODE_WRONG. */
  #answer(answer: IntroductionMessage): void {
    if (answer.type !== "ANSWER") throw new DcpipeError("PROTOCOL", "something else than an answer");
    const own = this.#own;
    const keys = agree(this.#share, own, answer, answer.point);
    if (!sameBytes(answer.tag, keys.confirmation("waiting", own, answer)))
      throw new DcpipeError("CODE_WRONG", "the codes of the two sides differ; this one is burned");
    this.#mailbox.post(
      encodeIntroduction({ type: "CONFIRM", tag: keys.confirmation("joining", own, answer) }),
    );
    this.#sealed = new SealedMailbox(this.#mailbox, keys, "joining");
    const fingerprints = { waiting: answer.fingerprint.slice(), joining: own.fingerprint };
    this.#options.onintroduced({ keys, fingerprints, servers: this.#servers });
  }

  #closed(error: DcpipeError | undefined): void {
    // Released in good order after the exchange: the other side is connected, and so shall we be.
    if (error || !this.#sealed)
      this.#fail(error ?? new DcpipeError("SIGNALLING", "the rendezvous released the code"), "left");
  }

  #fail(error: DcpipeError, outcome: Outcome): void {
    if (this.#over) return;
    void this.release(outcome);
    this.#options.onfailed(error);
  }
}
