/**
 * Redis, as one part of a server process uses it (redis-store.ts, redis-relays.ts). The only file that knows the package
 * `@redis/client`.
 *
 * Two connections: one for commands, each a script or a message and one round trip, pipelined; one on which a channel of this link's own
 * is subscribed. What is published while the latter is down is lost, and then so is all that depends on it.
 */
import { createHash, randomBytes } from "node:crypto";
import { createClient, RESP_TYPES } from "@redis/client";
import { asDcpipeError } from "../errors.ts";
import { KEY_PREFIX } from "./scripts.ts";

export type Argument = string | Buffer;

export interface RedisEvents {
  /** Somebody has said `NUMBER KIND ARGUMENT BODY` to a seat of this link. */
  message(seat: number, kind: string, argument: string, body: Buffer): void;
  /** Messages may have been lost. Said once for each time that Redis goes. */
  lost(): void;
}

/** Between two attempts to reach Redis again, in milliseconds: soon at first, and never so often that it is a burden. */
const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 5000;
const CONNECT_TIMEOUT_MS = 5000;
/** Redis is asked for a sign of life so often; without one until the next time it counts as down. Milliseconds. */
const HEARTBEAT_MS = 5000;

/** Bytes as they are. A command has no time limit of its own, which would cost more than the command: there is the heartbeat. */
const COMMAND_OPTIONS = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer }, timeout: 0 };
/** Enough of a message to hold all in front of its body. */
const HEAD_BYTES = 64;

export class RedisLink {
  /** Names this link; no two have the same. */
  readonly process = randomBytes(8).toString("hex");
  readonly #where: string;
  readonly #commands;
  readonly #subscriber;
  readonly #digests = new Map<string, string>();
  #events: RedisEvents | undefined;
  #beating: NodeJS.Timeout | undefined;
  #started = false;
  #silent = false;
  #lost = false;

  /** `url`: redis://[[user]:password@]host[:port][/database], or rediss: for TLS. */
  constructor(url: string) {
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
  async start(events: RedisEvents): Promise<void> {
    this.#events = events;
    try {
      await Promise.all([this.#commands.connect(), this.#subscriber.connect()]);
      await this.#subscriber.subscribe(
        `${KEY_PREFIX}p:${this.process}`,
        (message) => {
          this.#hear(message);
        },
        true,
      );
    } catch (cause) {
      this.close();
      throw asDcpipeError(cause, "IO", `cannot use Redis at ${this.#where}`);
    }
    this.#started = true;
    this.#beat();
  }

  close(): void {
    clearTimeout(this.#beating);
    this.#events = undefined;
    for (const client of [this.#commands, this.#subscriber]) if (client.isOpen) client.destroy();
  }

  /** One round trip; another one when Redis has been restarted and does not know the script. */
  async run(script: string, argv: readonly Argument[]): Promise<unknown> {
    let digest = this.#digests.get(script);
    if (digest === undefined) {
      digest = createHash("sha1").update(script).digest("hex");
      this.#digests.set(script, digest);
    }
    try {
      return await this.#commands.sendCommand(["EVALSHA", digest, "0", ...argv], COMMAND_OPTIONS);
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith("NOSCRIPT")) throw error;
      return await this.#commands.sendCommand(["EVAL", script, "0", ...argv], COMMAND_OPTIONS);
    }
  }

  /** Says something to a seat of some link, in order with what else is sent here. Resolves with whether that link is there. */
  async say(seat: string, kind: string, argument: string, body: readonly Uint8Array[]): Promise<boolean> {
    const [process, number] = seat.split(" ");
    const message = Buffer.concat([Buffer.from(`${number} ${kind} ${argument} `), ...body]);
    const command = ["PUBLISH", `${KEY_PREFIX}p:${process}`, message];
    return Number(await this.#commands.sendCommand(command, COMMAND_OPTIONS)) > 0;
  }

  /** A seat of this link, as others call it. */
  seat(number: number): string {
    return `${this.process} ${number}`;
  }

  #hear(message: Buffer): void {
    const [seat, kind = "", argument = ""] = message.toString("latin1", 0, HEAD_BYTES).split(" ");
    const body = message.subarray(`${seat} ${kind} ${argument} `.length);
    this.#events?.message(Number(seat), kind, argument, body);
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

export function bytes(data: Uint8Array): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}
