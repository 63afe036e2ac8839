/**
 * Two strangers with the same code (docs/protocol.md, section 8). A **way** is one mailbox: the rendezvous' own, or one on the local
 * network. The waiting side may wait at several, and takes one guess in all; the joining side tries each way by itself.
 *
 *   waiting:  HELLO posted --ANSWER--> its tag holds? --yes--> CONFIRM, introduced --SEALED--> addresses
 *                                          |  no
 *                                          v
 *                                       burned: every way is released as `wrong`
 *
 *   joining:  --HELLO--> ANSWER, introduced --CONFIRM--> its tag holds? --yes--> confirmed --SEALED--> addresses
 *
 * The joining side is introduced before it has seen CONFIRM: that saves two round trips, and risks nothing, because a peer
 * with another password has other keys and another fingerprint, and every channel is checked against both.
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
import { Keys, type Fingerprints } from "./keys.ts";
import { Mailbox, type Place } from "./mailbox.ts";
import { Seal } from "./seal.ts";
import type { OpenSocket } from "./socket.ts";

/** Who claims a code and says nothing has probed it: the code is burned. A slow machine needs a fraction of this. */
const ANSWER_MS = 15_000;

/** What the key exchange gives. */
export interface Introduced {
  readonly keys: Keys;
  readonly fingerprints: Fingerprints;
  /** TURN servers the rendezvous lends. */
  readonly servers: readonly ServerRecord[];
}

export interface IntroductionEvents {
  /** SHA-256 of this side's certificate; asked for when it is needed, so that making it can overlap with the connection. */
  readonly fingerprint: () => Uint8Array;
  readonly onintroduced: (introduced: Introduced) => void;
  /** Addresses of the other side, more of them each time. */
  readonly oncandidates: (candidates: readonly Candidate[]) => void;
  /** Nothing will come of it. Called once. */
  readonly onfailed: (error: DcpipeError) => void;
  /** The rendezvous is out of reach, or back (undefined). */
  readonly ontrouble: (trouble: string | undefined) => void;
}

/** What one side says in the key exchange. */
interface Half {
  readonly point: Uint8Array;
  readonly fingerprint: Uint8Array;
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
    if (this.#mailbox.closed) return;
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
  /** The way on which ANSWER came, and what is sealed there. */
  #taken: { mailbox: Mailbox; sealed: SealedMailbox } | undefined;
  #over = false;

  constructor(options: WaitingOptions) {
    this.#options = options;
  }

  /** Waits at one more rendezvous. */
  addWay({ url, nameplate, key, direct, onallocated }: WaitingWay): Mailbox {
    const { openSocket } = this.#options;
    let share: Share | undefined;
    let own: Half | undefined;
    let servers: readonly ServerRecord[] = [];
    let patience: ReturnType<typeof setTimeout> | undefined;
    const mailbox = new Mailbox({
      openSocket,
      url,
      place: { type: "allocate", nameplate },
      key,
      direct,
      onallocated: (given, link) => {
        share = shareFor(this.#options.password, given);
        own = { point: share.point, fingerprint: this.#options.fingerprint() };
        mailbox.post(encodeIntroduction({ type: "HELLO", ...own }));
        onallocated(given, link);
      },
      onjoined: () => {
        clearTimeout(patience);
        patience = setTimeout(() => {
          if (!this.#taken) this.#burn("somebody claimed the code and said nothing; it is burned");
        }, ANSWER_MS);
        this.#options.onjoined();
      },
      onservers: (list) => {
        servers = list;
      },
      onbody: (body, index) => {
        const message = decodeIntroduction(body);
        clearTimeout(patience);
        if (this.#taken?.mailbox === mailbox) {
          this.#take(() => this.#taken?.sealed.open(message, index) ?? []);
        } else if (message.type !== "ANSWER" || !share || !own) {
          throw new DcpipeError("PROTOCOL", "something else than an answer");
        } else if (this.#taken) {
          // The other side is on two ways at once; one is enough.
          void mailbox.release("left");
        } else {
          this.#answer(mailbox, share, own, message, servers);
        }
      },
      onclosed: (error) => {
        clearTimeout(patience);
        this.#ways.delete(mailbox);
        if (this.#taken ? this.#taken.mailbox === mailbox : true) this.#closed(error);
      },
      ontrouble: this.#options.ontrouble,
    });
    this.#ways.add(mailbox);
    return mailbox;
  }

  post(candidates: readonly Candidate[]): void {
    this.#taken?.sealed.post(candidates);
  }

  /** Says how it went and leaves every way. Resolves when that is said. */
  async release(outcome: Outcome): Promise<void> {
    this.#over = true;
    await Promise.all([...this.#ways].map((mailbox) => mailbox.release(outcome)));
  }

  #answer(
    mailbox: Mailbox,
    share: Share,
    own: Half,
    answer: IntroductionMessage & { type: "ANSWER" },
    servers: readonly ServerRecord[],
  ): void {
    const fingerprints = { waiting: own.fingerprint, joining: answer.fingerprint.slice() };
    let keys: Keys;
    try {
      keys = agree(share, own, answer, answer.point);
      if (!sameBytes(answer.tag, keys.confirmation("joining", own, answer)))
        throw new DcpipeError("CODE_WRONG", "wrong tag");
    } catch {
      this.#burn("somebody tried this code with other words; it is burned");
      return;
    }
    this.#taken = { mailbox, sealed: new SealedMailbox(mailbox, keys, "waiting") };
    for (const way of this.#ways) way.burn();
    mailbox.post(encodeIntroduction({ type: "CONFIRM", tag: keys.confirmation("waiting", own, answer) }));
    this.#options.onintroduced({ keys, fingerprints, servers });
  }

  #burn(message: string): void {
    this.#fail(new DcpipeError("CODE_WRONG", message), "wrong");
  }

  #take(read: () => readonly Candidate[]): void {
    try {
      this.#options.oncandidates(read());
    } catch (cause) {
      this.#fail(asDcpipeError(cause, "PROTOCOL"), "failed");
    }
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
  #servers: readonly ServerRecord[] = [];
  #keys: Keys | undefined;
  /** What CONFIRM must say. */
  #expected: Uint8Array | undefined;
  #sealed: SealedMailbox | undefined;
  #over = false;

  constructor(options: JoiningOptions) {
    this.#options = options;
    const { nameplate, password } = options.code;
    const place: Place = { type: "claim", nameplate };
    this.#mailbox = new Mailbox({
      openSocket: options.openSocket,
      url: options.url,
      direct: options.direct,
      place,
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
    // While the connection is on its way.
    this.#share = shareFor(password, nameplate);
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
      if (!this.#keys) this.#hello(message);
      else if (this.#expected) this.#confirm(message);
      else this.#options.oncandidates(this.#sealed?.open(message, index) ?? []);
    } catch (cause) {
      const error = asDcpipeError(cause, "PROTOCOL");
      this.#fail(error, error.code === "CODE_WRONG" ? "wrong" : "failed");
    }
  }

  #hello(hello: IntroductionMessage): void {
    if (hello.type !== "HELLO") throw new DcpipeError("PROTOCOL", "something else than a hello");
    const own = { point: this.#share.point, fingerprint: this.#options.fingerprint() };
    const fingerprints = { waiting: hello.fingerprint.slice(), joining: own.fingerprint };
    const keys = agree(this.#share, hello, own, hello.point);
    this.#keys = keys;
    this.#expected = keys.confirmation("waiting", hello, own);
    this.#mailbox.burn();
    this.#mailbox.post(
      encodeIntroduction({ type: "ANSWER", ...own, tag: keys.confirmation("joining", hello, own) }),
    );
    this.#sealed = new SealedMailbox(this.#mailbox, keys, "joining");
    this.#options.onintroduced({ keys, fingerprints, servers: this.#servers });
  }

  #confirm(message: IntroductionMessage): void {
    if (message.type !== "CONFIRM" || !this.#expected || !sameBytes(message.tag, this.#expected))
      throw new DcpipeError("CODE_WRONG", "the codes of the two sides differ; this one is burned");
    this.#expected = undefined;
  }

  #closed(error: DcpipeError | undefined): void {
    if (error || this.#expected || !this.#keys)
      this.#fail(error ?? new DcpipeError("SIGNALLING", "the rendezvous released the code"), "left");
  }

  #fail(error: DcpipeError, outcome: Outcome): void {
    if (this.#over) return;
    void this.release(outcome);
    this.#options.onfailed(error);
  }
}
