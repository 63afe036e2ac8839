/**
 * One session of a forward: what the other side asks of us is served, what we ask of it is asked.
 *
 *   joining side opens the control stream --> both: OFFER ..., OFFERED, LISTEN ...  <--> LISTENING | FAILED
 *   either side opens `connect`, `flow` and `http` streams to targets of the other
 *
 * A peer without a control stream (dcpipe pipe --target) is served all the same.
 */
import { asDcpipeError, DcpipeError } from "../../errors.ts";
import type { Session } from "../../session/session.ts";
import type { Stream } from "../../session/stream.ts";
import { MAX_OFFERS, type ForwardRecord, type Place } from "../../wire/forward.ts";
import { REASONS } from "../../wire/frame.ts";
import { decodeHeader, encodeHeader, type StreamHeader, type Target } from "../../wire/header.ts";
import type { Role } from "../../wire/hello.ts";
import { isReason } from "../endpoints.ts";
import type { HttpClient } from "../http/client.ts";
import { acceptHttp, type HttpAcceptor } from "../http/serving.ts";
import { answerAsk } from "../meet.ts";
import { acceptConnection, acceptFlow, type Acceptor } from "./accepting.ts";
import { Control } from "./control.ts";
import type { Listening } from "./listening.ts";
import { formatPlace, formatTarget, type Forward, type Offer } from "./spec.ts";

/** What a session needs of the forward it belongs to. */
export interface Home extends Omit<Acceptor, "permit"> {
  /** What may be reached here, and what we ask the other side to listen for. */
  readonly offers: readonly Offer[];
  readonly remotes: readonly Forward[];
  readonly permit: Acceptor["permit"];
  /** Listens here for the other side. Rejects with REFUSED, USAGE. */
  readonly listenFor: (request: ForwardRecord & { type: "LISTEN" }, session: Session) => Promise<Listening>;
  /** The other side offers these. */
  readonly offered: (offers: readonly Offer[]) => void;
  /** Datagrams are to be expected. */
  readonly datagrams: boolean;
}

export class ForwardSession {
  readonly #session: Session;
  readonly #role: Role;
  readonly #home: Home;
  readonly #asked = new Map<number, Forward>();
  readonly #listening = new Set<Listening>();
  #control: Control | undefined;
  #client: Promise<HttpClient> | undefined;
  #requests = 0;
  #offers: Offer[] = [];
  /** Rejects when a listener that we asked for cannot be had. */
  readonly ready: Promise<void>;
  #resolveReady!: () => void;
  #rejectReady!: (error: Error) => void;
  /** Which listeners that we asked for the other side has said nothing of. */
  readonly #unanswered = new Set<number>();
  /** Settles when no more records come on the control stream; it never rejects. */
  #heardAll: Promise<void> = Promise.resolve();
  /** Why the other side will have no forward with us: it runs something else. */
  #refusal: DcpipeError | undefined;

  constructor(session: Session, role: Role, home: Home) {
    this.#session = session;
    this.#role = role;
    this.#home = home;
    this.ready = new Promise((resolve, reject) => {
      this.#resolveReady = resolve;
      this.#rejectReady = reject;
    });
    this.ready.catch(() => undefined);
  }

  /** Runs until the session ends, and rejects with the reason: CLOSED or INTERRUPTED when the other side has left in good order. */
  async run(): Promise<never> {
    try {
      if (this.#role === "joining") this.#begin(this.#session.open(encodeHeader({ kind: "forward" })));
      if (this.#home.datagrams) this.#session.wantDatagrams();
      return await this.#accept();
    } catch (cause) {
      await this.#heardAll;
      const reason = this.#refusal ?? asDcpipeError(cause, "IO");
      this.#rejectReady(reason);
      throw reason;
    } finally {
      for (const listening of this.#listening) void listening.close();
      void this.#client?.then((client) => {
        client.close();
      });
    }
  }

  /** Asks and answers nothing more: the session can be closed when its connections are over. */
  leave(): void {
    this.#control?.end();
  }

  async #accept(): Promise<never> {
    for (;;) {
      let stream: Stream;
      try {
        stream = await this.#session.accept();
      } catch (cause) {
        // "No more streams" comes before the session's own end, which tells why.
        void this.#session.close();
        await this.#session.closed;
        throw cause;
      }
      this.#serve(stream);
    }
  }

  #serve(stream: Stream): void {
    let header: StreamHeader;
    try {
      header = decodeHeader(stream.header);
    } catch (cause) {
      stream.reset("PROTOCOL", "unknown kind of stream");
      void this.#session.abort("PROTOCOL", asDcpipeError(cause, "PROTOCOL").message);
      return;
    }
    if (header.kind === "connect") void acceptConnection(stream, header.target, this.#acceptor);
    else if (header.kind === "flow") void acceptFlow(stream, header.target, this.#acceptor);
    else if (header.kind === "http") void acceptHttp(stream, header.target, this.#acceptor);
    else if (header.kind === "ask") answerAsk(stream, "forward");
    else if (header.kind === "forward") {
      if (this.#role === "waiting" && !this.#control) this.#begin(stream);
      else void this.#session.abort("PROTOCOL", "a second stream of what is offered and asked for");
    } else {
      const instead = header.kind === "pipe" ? "; dcpipe pipe --target HOST:PORT does" : "";
      const text = `it runs "dcpipe forward", which does not go with "dcpipe ${header.kind}"${instead}`;
      stream.reset("REFUSED", text);
      const error = `the other side runs "dcpipe ${header.kind}", which does not go with "dcpipe forward"`;
      void this.#session.abort("REFUSED", text, new DcpipeError("REFUSED", error));
    }
  }

  /** Targets are what the rules name, and what the listeners lead to that we asked for. */
  get #acceptor(): HttpAcceptor {
    const { network, ledger, pacer, permit } = this.#home;
    return {
      network,
      ledger,
      pacer,
      client: () => this.#http(),
      permit: async (protocol, target) => {
        if (target.type !== "listener") return permit(protocol, target);
        const forward = this.#asked.get(target.id);
        if (forward?.protocol !== protocol)
          throw new DcpipeError("PROTOCOL", "a connection from a listener that was not asked for");
        const name = formatTarget(forward.target, protocol);
        return { addresses: await addressesOf(forward.target, network.resolve.bind(network)), name };
      },
    };
  }

  /** One for the session, made for the first request. */
  async #http(): Promise<HttpClient> {
    const { network } = this.#home;
    if (!network.createHttpClient) throw new DcpipeError("REFUSED", "no HTTP is served here");
    const client = await (this.#client ??= network.createHttpClient());
    if (this.#session.state === "closed") client.close();
    return client;
  }

  #begin(stream: Stream): void {
    const control = new Control(stream);
    this.#control = control;
    for (const { protocol, target } of this.#home.offers) control.send({ type: "OFFER", protocol, target });
    control.send({ type: "OFFERED" });
    for (const [id, forward] of this.#home.remotes.entries()) {
      this.#asked.set(id, forward);
      this.#unanswered.add(id);
      const target = formatTarget(forward.target, forward.protocol);
      control.send({ type: "LISTEN", id, protocol: forward.protocol, place: forward.place, target });
    }
    if (this.#unanswered.size === 0) this.#resolveReady();
    this.#heardAll = control
      .read((record) => {
        this.#take(record);
      })
      .then(
        () => {
          control.end();
        },
        (cause: unknown) => {
          const error = asDcpipeError(cause, "PROTOCOL");
          if (error.code === "PROTOCOL") void this.#session.abort("PROTOCOL", error.message, error);
          if (error.code !== "REFUSED") return;
          this.#refusal = error;
          void this.#session.abort("REFUSED", "", error);
        },
      );
  }

  #take(record: ForwardRecord): void {
    switch (record.type) {
      case "OFFER":
        if (record.target.type === "listener") throw new DcpipeError("PROTOCOL", "an offer of a listener");
        if (this.#offers.length >= MAX_OFFERS) throw new DcpipeError("PROTOCOL", "too many offers");
        this.#offers.push({ protocol: record.protocol, target: record.target });
        break;
      case "OFFERED":
        this.#home.offered(this.#offers);
        break;
      case "LISTEN":
        if (++this.#requests > MAX_OFFERS) throw new DcpipeError("PROTOCOL", "too many listeners asked for");
        void this.#listen(record);
        break;
      case "LISTENING":
        this.#heard(record.id, record.place);
        break;
      case "FAILED":
        this.#unheard(record);
    }
  }

  async #listen(request: ForwardRecord & { type: "LISTEN" }): Promise<void> {
    const { id } = request;
    try {
      const listening = await this.#home.listenFor(request, this.#session);
      if (this.#session.state === "closed") {
        await listening.close();
        return;
      }
      this.#listening.add(listening);
      if (request.protocol === "udp") this.#session.wantDatagrams();
      this.#control?.send({ type: "LISTENING", id, place: listening.place });
    } catch (cause) {
      const { code, message } = asDcpipeError(cause, "IO");
      this.#control?.send({
        type: "FAILED",
        id,
        reason: isReason(code, REASONS) ? code : "IO",
        text: message,
      });
    }
  }

  #heard(id: number, place: Place): void {
    const forward = this.#answered(id);
    const { protocol } = forward;
    if (protocol === "udp") this.#session.wantDatagrams();
    const target = formatTarget(forward.target, protocol);
    this.#home.ledger.tell({ event: "listening", of: "them", protocol, place, target });
    if (this.#unanswered.size === 0) this.#resolveReady();
  }

  #unheard({ id, reason, text }: ForwardRecord & { type: "FAILED" }): void {
    const place = formatPlace(this.#answered(id).place);
    const code = reason === "REFUSED" ? "REFUSED" : "IO";
    const error = new DcpipeError(code, `the other side does not listen at ${place}: ${text}`);
    this.#home.ledger.tell({ event: "unheard", place, error });
    this.#rejectReady(error);
  }

  #answered(id: number): Forward {
    const forward = this.#asked.get(id);
    if (!forward || !this.#unanswered.delete(id))
      throw new DcpipeError("PROTOCOL", "an answer to nothing that was asked");
    return forward;
  }
}

/** Where our own target is: whoever named it wants it dialled, whatever it is. */
async function addressesOf(
  target: Target,
  resolve: (host: string) => Promise<readonly string[]>,
): Promise<Awaited<ReturnType<Acceptor["permit"]>>["addresses"]> {
  if (target.type === "unix") return [{ type: "unix", path: target.path }];
  if (target.type === "listener") throw new DcpipeError("PROTOCOL", "a listener that leads to a listener");
  const addresses = await resolve(target.host);
  return addresses.map((address) => ({ type: "host", address, port: target.port }));
}
