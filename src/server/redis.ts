/**
 * Mailboxes in Redis, shared by any number of processes: what one of them is told, another one's clients hear at once, and a process that
 * dies takes nothing with it. The only file that knows the package `@redis/client`.
 *
 * Two connections: one for commands, each a script (scripts.ts) and one round trip, pipelined; one on which this process' own channel
 * is subscribed. What is published while the latter is down is lost to this process, so then all seats are given up: the clients come back.
 */
import { createHash, randomBytes } from "node:crypto";
import { createClient, RESP_TYPES } from "@redis/client";
import { asDcpipeError } from "../errors.ts";
import type { Role } from "../wire/hello.ts";
import type { CloseCode } from "../wire/rendezvous.ts";
import { LIMITS, type Limits } from "./limits.ts";
import { CROWDED, sampleNameplates } from "./nameplates.ts";
import { KEY_PREFIX, SCRIPTS } from "./scripts.ts";
import {
  endingOf,
  type Admission,
  type Endings,
  type Notice,
  type Place,
  type Store,
  type StoreEvents,
  type Visitor,
} from "./store.ts";

type Argument = string | Buffer;
type ScriptName = keyof typeof SCRIPTS;

/** Between two attempts to reach Redis again, in milliseconds: soon at first, and never so often that it is a burden. */
const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 5000;
const CONNECT_TIMEOUT_MS = 5000;
/** Redis is asked for a sign of life so often; without one until the next time it counts as down. Milliseconds. */
const HEARTBEAT_MS = 5000;

/** Bytes as they are. A command has no time limit of its own, which would cost more than the command: there is the heartbeat. */
const COMMAND_OPTIONS = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer }, timeout: 0 };
const LETTER: Readonly<Record<Role, string>> = { waiting: "w", joining: "j" };

export class RedisStore implements Store {
  readonly #limits: Limits;
  readonly #where: string;
  /** Names this process; no two have the same. */
  readonly #process = randomBytes(8).toString("hex");
  readonly #commands;
  readonly #subscriber;
  readonly #digests = new Map<ScriptName, string>();
  #events: StoreEvents | undefined;
  #beating: NodeJS.Timeout | undefined;
  #started = false;
  #silent = false;
  #lost = false;

  /** `url`: redis://[[user]:password@]host[:port][/database], or rediss: for TLS. */
  constructor(url: string, limits: Partial<Limits> = {}) {
    this.#limits = { ...LIMITS, ...limits };
    this.#where = new URL(url).host;
    const options = {
      url,
      disableOfflineQueue: true,
      socket: {
        connectTimeout: CONNECT_TIMEOUT_MS,
        reconnectStrategy: (tries: number) => this.#retry(tries),
      },
    };
    this.#commands = createClient(options);
    this.#subscriber = createClient(options);
    for (const client of [this.#commands, this.#subscriber]) {
      client.on("error", () => {
        this.#checkHealth();
      });
      client.on("ready", () => {
        this.#checkHealth();
      });
    }
  }

  get healthy(): boolean {
    return this.#commands.isReady && this.#subscriber.isReady && !this.#silent;
  }

  /** Throws IO when Redis cannot be reached. */
  async start(events: StoreEvents): Promise<void> {
    this.#events = events;
    try {
      await Promise.all([this.#commands.connect(), this.#subscriber.connect()]);
      await this.#subscriber.subscribe(
        `${KEY_PREFIX}p:${this.#process}`,
        (message) => {
          this.#hear(message);
        },
        true,
      );
    } catch (cause) {
      await this.close();
      throw asDcpipeError(cause, "IO", `cannot use Redis at ${this.#where}`);
    }
    this.#started = true;
    this.#beat();
  }

  close(): Promise<void> {
    clearTimeout(this.#beating);
    this.#events = undefined;
    for (const client of [this.#commands, this.#subscriber]) if (client.isOpen) client.destroy();
    return Promise.resolve();
  }

  allocate(visitor: Visitor, wish: number): Promise<Admission> {
    const { mailboxesPerAddress, guessMemoryMs } = this.#limits;
    return this.#admit("allocate", "waiting", visitor, [
      ...[this.#seat(visitor.seat), visitor.address, bytes(visitor.key), `${wish}`],
      ...[CROWDED, mailboxesPerAddress, guessMemoryMs].map(String),
      ...this.#lifetimes(),
      ...sampleNameplates().flatMap((sample) => [sample.length, ...sample].map(String)),
    ]);
  }

  claim(visitor: Visitor, nameplate: number, waited: boolean): Promise<Admission> {
    const { freeGuesses, firstDelayMs, maxDelayMs, maxWaitMs, guessMemoryMs } = this.#limits;
    return this.#admit("claim", "joining", visitor, [
      ...[this.#seat(visitor.seat), visitor.address, bytes(visitor.key), `${nameplate}`, waited ? "1" : "0"],
      ...[freeGuesses, firstDelayMs, maxDelayMs, maxWaitMs, guessMemoryMs].map(String),
      ...this.#lifetimes(),
    ]);
  }

  open(visitor: Visitor, role: Role, name: Uint8Array, received: number): Promise<Admission> {
    return this.#admit(
      "open",
      role,
      visitor,
      [
        ...[this.#seat(visitor.seat), visitor.address, bytes(visitor.key), LETTER[role], nameId(name)],
        ...[received, this.#limits.mailboxesPerAddress].map(String),
        ...this.#lifetimes(),
      ],
      nameId(name),
    );
  }

  resume(visitor: Visitor, role: Role, nameplate: number, received: number): Promise<Admission> {
    return this.#admit("resume", role, visitor, [
      ...[this.#seat(visitor.seat), bytes(visitor.key), LETTER[role], `${nameplate}`, `${received}`],
      ...this.#lifetimes(),
    ]);
  }

  async post(place: Place, index: number, body: Uint8Array): Promise<CloseCode | undefined> {
    return codeOf(await this.#run("post", [...this.#placed(place), `${index}`, bytes(body)]));
  }

  async renew(place: Place): Promise<CloseCode | undefined> {
    return codeOf(await this.#run("renew", [...this.#placed(place), `${this.#limits.unclaimedMs}`]));
  }

  async release(place: Place, { own, other }: Endings, wrong: boolean): Promise<boolean> {
    const { guessMemoryMs, usedMs } = this.#limits;
    const rest = [own, other, wrong ? 1 : 0, guessMemoryMs, usedMs].map(String);
    return (await this.#run("release", [...this.#placed(place), ...rest])) === 1;
  }

  async detach(place: Place): Promise<void> {
    const { detachedMs, usedMs } = this.#limits;
    await this.#run("detach", [...this.#placed(place), `${detachedMs}`, `${usedMs}`]);
  }

  async #admit(
    script: ScriptName,
    role: Role,
    { seat }: Visitor,
    argv: Argument[],
    name?: string,
  ): Promise<Admission> {
    const [kind, ...rest] = (await this.#run(script, argv)) as [Buffer, ...unknown[]];
    switch (kind.toString()) {
      case "refused":
        return { refused: endingOf(rest[0] as number) };
      case "wait":
        return { wait: rest[0] as number };
      default: {
        const [nameplate = 0, stored = 0, received = 0, joined, fresh, lifetime = 0] = rest as number[];
        return {
          mailbox: `${KEY_PREFIX}${name === undefined ? `n:${nameplate}` : `o:${name}`}`,
          role,
          seat,
          nameplate,
          stored,
          received,
          bodies: rest.slice(6) as Buffer[],
          joined: joined === 1,
          fresh: fresh === 1,
          lifetime,
        };
      }
    }
  }

  /** One round trip; another one when Redis has been restarted and does not know the script. */
  async #run(script: ScriptName, argv: readonly Argument[]): Promise<unknown> {
    let digest = this.#digests.get(script);
    if (digest === undefined) {
      digest = createHash("sha1").update(SCRIPTS[script]).digest("hex");
      this.#digests.set(script, digest);
    }
    try {
      return await this.#commands.sendCommand(["EVALSHA", digest, "0", ...argv], COMMAND_OPTIONS);
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith("NOSCRIPT")) throw error;
      return await this.#commands.sendCommand(["EVAL", SCRIPTS[script], "0", ...argv], COMMAND_OPTIONS);
    }
  }

  #seat(seat: number): string {
    return `${this.#process} ${seat}`;
  }

  #placed({ mailbox, role, seat }: Place): string[] {
    return [mailbox, LETTER[role], this.#seat(seat)];
  }

  #lifetimes(): string[] {
    const { unclaimedMs, claimedMs, usedMs } = this.#limits;
    return [unclaimedMs, claimedMs, usedMs].map(String);
  }

  /** `NUMBER KIND ARGUMENT BODY` */
  #hear(message: Buffer): void {
    const [seat, kind, argument] = message.toString("latin1", 0, HEAD_BYTES).split(" ");
    const notice = readNotice(message, kind ?? "", argument ?? "", `${seat} ${kind} ${argument} `.length);
    if (notice) this.#events?.notice(Number(seat), notice);
  }

  #beat(): void {
    let answered = false;
    this.#beating = setTimeout(() => {
      this.#silent = !answered;
      this.#checkHealth();
      this.#beat();
    }, HEARTBEAT_MS);
    const heard = (): void => {
      answered = true;
    };
    // That it failed is noticed where the connection fails.
    this.#commands.ping().then(heard, () => undefined);
  }

  #checkHealth(): void {
    if (!this.#started) return;
    if (this.healthy) this.#lost = false;
    else if (!this.#lost) {
      this.#lost = true;
      this.#events?.lost();
    }
  }

  #retry(tries: number): number | false {
    // At the start a person is told; later there is nobody to tell, and it will come back.
    if (!this.#started) return false;
    return Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** tries);
  }
}

/** Enough of a message to hold all in front of its body. */
const HEAD_BYTES = 64;

function readNotice(message: Buffer, kind: string, argument: string, head: number): Notice | undefined {
  if (kind === "JOINED") return { type: "JOINED" };
  if (kind === "CLOSE") return { type: "CLOSE", code: endingOf(Number(argument)) };
  if (kind === "MESSAGE") return { type: "MESSAGE", index: Number(argument), body: message.subarray(head) };
  return undefined;
}

function codeOf(reply: unknown): CloseCode | undefined {
  return reply === 0 ? undefined : endingOf(Number(reply));
}

function nameId(name: Uint8Array): string {
  return Buffer.from(name).toString("hex");
}

function bytes(data: Uint8Array): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}
