/**
 * Which ends of relays are there (section 7.4 of docs/protocol.md), and who belongs together. A relay has a name and two ends, one of
 * each role; an end is one WebSocket, and a key says whose it is.
 *
 *   client ==> relay.ts, an end <--- Far ---> an end, relay.ts <== client
 *                    \__ Relays: who is where __/
 *
 * An end sees the other one as `Far`, which may be at another server process. A pair lives and dies together.
 */
import { sameBytes, toBase64url } from "../wire/bytes.ts";
import type { Role } from "../wire/hello.ts";
import { CLOSE, type CloseCode } from "../wire/rendezvous.ts";

/** What one end of a pair tells the other. Calls keep their order. */
export interface Far {
  /** A message for this end's client. It is not altered any more. */
  deliver(message: Uint8Array): void;
  /** Of what this end has delivered to the other one, so much (`passCost` in connection.ts) has left that one's buffers. */
  acknowledge(cost: number): void;
  /** The pair is over, and this is what this end's client is closed with. */
  finish(code: CloseCode): void;
}

/** An end as those know it who bring the two together. */
export interface End extends Far {
  /** The other end is there. Called once at most. */
  pair(far: Far): void;
  /** Idempotent. `other`: what the other end's client is closed with, when it is not what follows from `code`. */
  finish(code: CloseCode, other?: CloseCode): void;
}

export interface Registration {
  readonly role: Role;
  readonly name: Uint8Array;
  readonly key: Uint8Array;
}

export interface Relays {
  /**
   * Takes an end in, in place of an older one with the same key. Both ends are paired when both are there, maybe before this resolves:
   * with what this end must be closed with, if it must. Rejects when the store is in trouble.
   */
  enter(end: End, registration: Registration): Promise<CloseCode | undefined>;
  /** This end is over, and the other one, if there is one, has been told. Idempotent; for one that never came in, too. */
  leave(end: End): void;
}

export const OTHER_ROLE: Readonly<Record<Role, Role>> = { waiting: "joining", joining: "waiting" };

interface Seated {
  readonly end: End;
  readonly key: Uint8Array;
}

/** All ends are at this process. */
export class MemoryRelays implements Relays {
  readonly #relays = new Map<string, Partial<Record<Role, Seated>>>();
  readonly #names = new Map<End, string>();

  enter(end: End, { role, name, key }: Registration): Promise<CloseCode | undefined> {
    const id = toBase64url(name);
    const there = this.#relays.get(id)?.[role];
    if (there && !sameBytes(there.key, key)) return Promise.resolve(CLOSE.USED);
    // What was under way may be lost, so the other end begins anew as well. Both leave by this.
    there?.end.finish(CLOSE.GOING_AWAY, CLOSE.RESTART);
    const relay = this.#relays.get(id) ?? {};
    relay[role] = { end, key };
    this.#relays.set(id, relay);
    this.#names.set(end, id);
    const other = relay[OTHER_ROLE[role]]?.end;
    if (other) {
      other.pair(end);
      end.pair(other);
    }
    return Promise.resolve(undefined);
  }

  leave(end: End): void {
    const id = this.#names.get(end);
    if (id === undefined) return;
    // The other end is on its way out: who comes now does not meet it.
    const { waiting, joining } = this.#relays.get(id) ?? {};
    this.#relays.delete(id);
    for (const seated of [waiting, joining]) if (seated) this.#names.delete(seated.end);
  }
}
