/** From keys that two strangers have agreed on to a connection between them. */
import { asDcpipeError, type DcpipeError } from "../errors.ts";
import type { Session } from "../session/session.ts";
import type { Introduced } from "../signalling/introduction.ts";
import type { Certificate } from "../transport/certificate.ts";
import type { Candidate, TurnServer } from "../transport/peer.ts";
import type { Role } from "../wire/hello.ts";
import type { Outcome, ServerRecord } from "../wire/rendezvous.ts";
import { Connection } from "./connection.ts";
import { meetAgain } from "./meeting.ts";
import { PathMtu } from "./mtu.ts";
import {
  follow,
  parseNetwork,
  PROBE_MS,
  relayOnly,
  surroundings,
  type CodeOptions,
  type ParsedNetwork,
  type Platform,
} from "./options.ts";
import { parseTurnServer } from "./servers.ts";

/** Two sides that know each other's keys connect within seconds or not at all. */
const INTRODUCED_TIMEOUT = 60;
/** A probe of STUN servers that was begun before the introduction is over by now, or is not worth waiting for. */
const STUN_WAIT_MS = 30;

/** One try to become a connection. */
export class Attempt {
  connection: Connection | undefined;
  readonly certificate: Certificate;
  readonly #platform: Platform;
  readonly #options: CodeOptions;
  readonly #role: Role;
  readonly #network: ParsedNetwork;
  readonly #stun: ReturnType<Platform["findStunServer"]>;

  constructor(platform: Platform, options: CodeOptions, role: Role, certificate: Certificate) {
    this.certificate = certificate;
    this.#platform = platform;
    this.#options = options;
    this.#role = role;
    this.#network = parseNetwork(options);
    this.#stun = platform.findStunServer(this.#network.stun, PROBE_MS, options.bind);
  }

  /** What the rendezvous is told: of the session that stands, or of the error that it came to. */
  outcome(error?: DcpipeError): Outcome {
    if (!error) return this.connection?.path ?? "direct";
    return this.connection && (error.code === "ICE_FAILED" || error.code === "TIMEOUT") ? "failed" : "left";
  }

  readonly log = (text: string): void => {
    this.#options.onevent?.({ event: "log", text });
  };

  begin(
    { keys, fingerprints, servers }: Introduced,
    events: {
      readonly post: (candidates: readonly Candidate[]) => void;
      readonly onsession: (session: Session, verifier: string) => void;
      readonly onfailed: (error: DcpipeError) => void;
    },
    timeout = INTRODUCED_TIMEOUT,
  ): void {
    const options = this.#options;
    const { rendezvous } = options;
    const turn = this.#turn(servers);
    const relay =
      rendezvous === undefined || this.#network.relay === "off"
        ? undefined
        : { openSocket: this.#platform.openSocket, url: rendezvous };
    let onlyRelays: boolean;
    try {
      onlyRelays = relayOnly(this.#network.relay, turn, relay !== undefined);
    } catch (error) {
      events.onfailed(asDcpipeError(error, "USAGE"));
      return;
    }
    const connection = new Connection({
      context: {
        role: this.#role,
        keys,
        certificate: this.certificate,
        fingerprints,
        createPeer: this.#platform.createPeer,
        bind: options.bind,
        turn,
        relayOnly: onlyRelays,
        onlog: this.log,
        pathMtu: new PathMtu(),
      },
      ...surroundings(this.#platform, options, this.#network),
      stun: this.#stun,
      stunWaitMs: STUN_WAIT_MS,
      candidates: [],
      // The caller's own limit runs beside it.
      timeoutMs: timeout * 1000,
      signalling: "code",
      withoutRelay: this.#network.relay === "off" ? "off" : "none",
      relay,
      onlyRelay: onlyRelays && turn.length === 0,
      oncandidates: events.post,
      meetAgain:
        rendezvous === undefined
          ? undefined
          : (events) =>
              meetAgain({
                openSocket: this.#platform.openSocket,
                url: rendezvous,
                keys,
                role: this.#role,
                ...events,
                onlog: this.log,
              }),
    });
    this.connection = connection;
    follow(connection, options.signal);
    connection.session.then(
      (session) => {
        events.onsession(session, keys.verifier(fingerprints));
      },
      (error: unknown) => {
        events.onfailed(asDcpipeError(error, "ICE_FAILED"));
      },
    );
  }

  /** The caller's own, and what the rendezvous lends. */
  #turn(servers: readonly ServerRecord[]): readonly TurnServer[] {
    const { turn, relay } = this.#network;
    if (relay === "off") return turn;
    const lent: TurnServer[] = [];
    for (const { url, username, credential } of servers) {
      try {
        lent.push({ ...parseTurnServer(url), username, password: credential });
      } catch (error) {
        this.log(`passed over a TURN server: ${asDcpipeError(error, "USAGE").message}`);
      }
    }
    return [...turn, ...lent];
  }
}
