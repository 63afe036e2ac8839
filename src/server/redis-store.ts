/**
 * Mailboxes in Redis, shared by any number of processes: what one of them is told, another one's clients hear at once, and a process that
 * dies takes nothing with it. Each operation is a script (scripts.ts). What is said to a link that is down is lost to this process, so
 * then all seats are given up: the clients come back.
 *
 * Relays have a link of their own: what goes through them holds no mailbox up.
 */
import type { Role } from "../wire/hello.ts";
import type { CloseCode } from "../wire/rendezvous.ts";
import { LIMITS, type Limits } from "./limits.ts";
import { CROWDED, sampleNameplates } from "./nameplates.ts";
import { bytes, RedisLink, type Argument } from "./redis.ts";
import { RedisRelays } from "./redis-relays.ts";
import { KEY_PREFIX, LETTER, SCRIPTS } from "./scripts.ts";
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

type ScriptName = keyof typeof SCRIPTS;

export class RedisStore implements Store {
  readonly #limits: Limits;
  readonly #link: RedisLink;
  readonly relays: RedisRelays;

  /** `url`: redis://[[user]:password@]host[:port][/database], or rediss: for TLS. */
  constructor(url: string, limits: Partial<Limits> = {}) {
    this.#limits = { ...LIMITS, ...limits };
    this.#link = new RedisLink(url);
    this.relays = new RedisRelays(new RedisLink(url), this.#limits);
  }

  get healthy(): boolean {
    return this.#link.healthy;
  }

  /** Throws IO when Redis cannot be reached. */
  async start(events: StoreEvents): Promise<void> {
    await this.#link.start({
      message: (seat, kind, argument, body) => {
        const notice = readNotice(kind, argument, body);
        if (notice) events.notice(seat, notice);
      },
      lost: () => {
        events.lost();
      },
    });
    try {
      await this.relays.start(() => {
        events.relaysLost();
      });
    } catch (cause) {
      await this.close();
      throw cause;
    }
  }

  close(): Promise<void> {
    this.#link.close();
    this.relays.close();
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

  #run(script: ScriptName, argv: readonly Argument[]): Promise<unknown> {
    return this.#link.run(SCRIPTS[script], argv);
  }

  #seat(seat: number): string {
    return this.#link.seat(seat);
  }

  #placed({ mailbox, role, seat }: Place): string[] {
    return [mailbox, LETTER[role], this.#seat(seat)];
  }

  #lifetimes(): string[] {
    const { unclaimedMs, claimedMs, usedMs } = this.#limits;
    return [unclaimedMs, claimedMs, usedMs].map(String);
  }
}

function readNotice(kind: string, argument: string, body: Buffer): Notice | undefined {
  if (kind === "JOINED") return { type: "JOINED" };
  if (kind === "CLOSE") return { type: "CLOSE", code: endingOf(Number(argument)) };
  if (kind === "MESSAGE") return { type: "MESSAGE", index: Number(argument), body };
  return undefined;
}

function codeOf(reply: unknown): CloseCode | undefined {
  return reply === 0 ? undefined : endingOf(Number(reply));
}

function nameId(name: Uint8Array): string {
  return Buffer.from(name).toString("hex");
}
