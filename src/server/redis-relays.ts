/**
 * Relays whose ends may be at different processes. Redis knows where they are (relay-scripts.ts), and carries what goes through between
 * processes, which say to each other's seats:
 *
 *   PAIRED PROCESS NUMBER   the other end has come, and sits there
 *   DATA COST MESSAGES      messages for the client, each behind its length (u32); so much has been acknowledged (Far)
 *   REPLACED                an end with the same key has come
 *   CLOSE CODE
 *
 * Ends at the same process need Redis to find each other, and no further.
 */
import type { CloseCode } from "../wire/rendezvous.ts";
import { CLOSE } from "../wire/rendezvous.ts";
import type { Limits } from "./limits.ts";
import { bytes, type RedisLink } from "./redis.ts";
import { RELAY_SCRIPTS } from "./relay-scripts.ts";
import type { End, Far, Registration, Relays } from "./relays.ts";
import { KEY_PREFIX, LETTER } from "./scripts.ts";
import { endingOf } from "./store.ts";

interface Seated {
  readonly end: End;
  readonly seat: number;
  /** The relay, the role and the seat, as scripts take them. */
  readonly argv: readonly string[];
}

const LENGTH_SIZE = 4;

export class RedisRelays implements Relays {
  readonly #link: RedisLink;
  readonly #limits: Limits;
  readonly #seats = new Map<number, Seated>();
  readonly #ends = new Map<End, Seated>();
  #count = 0;
  #keeping: NodeJS.Timeout | undefined;

  constructor(link: RedisLink, limits: Limits) {
    this.#link = link;
    this.#limits = limits;
  }

  /** Throws IO when Redis cannot be reached. */
  async start(lost: () => void): Promise<void> {
    await this.#link.start({
      message: (seat, kind, argument, body) => {
        const seated = this.#seats.get(seat);
        if (seated) this.#hear(seated, kind, argument, body);
      },
      lost,
    });
    this.#keeping = setInterval(() => {
      for (const seated of this.#seats.values()) this.#keep(seated);
    }, this.#limits.relayKeepMs / 3);
  }

  close(): void {
    clearInterval(this.#keeping);
    this.#link.close();
  }

  async enter(end: End, { role, name, key }: Registration): Promise<CloseCode | undefined> {
    const seat = ++this.#count;
    const relay = `${KEY_PREFIX}r:${Buffer.from(name).toString("hex")}`;
    const seated = { end, seat, argv: [relay, LETTER[role], this.#link.seat(seat)] };
    this.#seats.set(seat, seated);
    this.#ends.set(end, seated);
    const argv = [...seated.argv, bytes(key), `${this.#limits.relayKeepMs}`];
    const reply = await this.#link.run(RELAY_SCRIPTS.enter, argv);
    if (typeof reply === "number") return endingOf(reply);
    const other = (reply as Buffer).toString();
    if (other !== "") this.#pair(seated, other);
    return undefined;
  }

  leave(end: End): void {
    const seated = this.#ends.get(end);
    if (!seated) return;
    this.#ends.delete(end);
    this.#seats.delete(seated.seat);
    // Without Redis the end counts as gone in time.
    this.#link.run(RELAY_SCRIPTS.leave, seated.argv).catch(() => undefined);
  }

  #hear(seated: Seated, kind: string, argument: string, body: Buffer): void {
    const { end } = seated;
    switch (kind) {
      case "PAIRED":
        this.#pair(seated, `${argument} ${body.toString()}`);
        break;
      case "DATA":
        if (argument !== "0") end.acknowledge(Number(argument));
        for (const message of split(body)) end.deliver(message);
        break;
      case "REPLACED":
        end.finish(CLOSE.GOING_AWAY, CLOSE.RESTART);
        break;
      case "CLOSE":
        end.finish(endingOf(Number(argument)));
    }
  }

  #pair({ end }: Seated, other: string): void {
    const [process, number] = other.split(" ");
    const here = process === this.#link.process ? this.#seats.get(Number(number)) : undefined;
    end.pair(here?.end ?? this.#remote(end, other));
  }

  /** The other end, at another process. */
  #remote(end: End, seat: string): Far {
    let messages: Uint8Array[] = [];
    let acknowledged = 0;
    let soon: NodeJS.Immediate | undefined;
    const say = (kind: string, argument: string, body: readonly Uint8Array[]): void => {
      const said = this.#link.say(seat, kind, argument, body);
      said.then(
        (heard) => {
          // That process has died. Its client will come back to another one.
          if (!heard) end.finish(CLOSE.RESTART);
        },
        // All ends hear of it when Redis is lost.
        () => undefined,
      );
    };
    const flush = (): void => {
      clearImmediate(soon);
      soon = undefined;
      if (messages.length === 0 && acknowledged === 0) return;
      say("DATA", `${acknowledged}`, messages);
      messages = [];
      acknowledged = 0;
    };
    return {
      deliver: (message) => {
        const length = Buffer.allocUnsafe(LENGTH_SIZE);
        length.writeUInt32BE(message.length);
        messages.push(length, message);
        soon ??= setImmediate(flush);
      },
      acknowledge: (cost) => {
        acknowledged += cost;
        soon ??= setImmediate(flush);
      },
      finish: (code) => {
        flush();
        // This process goes away, and its client comes back; the other process stays, and only its client must begin anew.
        say("CLOSE", `${code === CLOSE.GOING_AWAY ? CLOSE.RESTART : code}`, []);
      },
    };
  }

  #keep({ end, argv }: Seated): void {
    this.#link.run(RELAY_SCRIPTS.keep, [...argv, `${this.#limits.relayKeepMs}`]).then(
      (code) => {
        if (code !== 0 && this.#ends.has(end)) end.finish(endingOf(Number(code)));
      },
      () => undefined,
    );
  }
}

function* split(body: Buffer): Generator<Uint8Array> {
  for (let at = 0; at < body.length;) {
    const start = at + LENGTH_SIZE;
    at = start + body.readUInt32BE(at);
    yield body.subarray(start, at);
  }
}
