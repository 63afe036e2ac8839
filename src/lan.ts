/** The local network in place of a server: the waiting side holds the mailbox itself, and multicast DNS leads the other one there. */
import { announce, find, isTaken } from "./node/lan.ts";
import { MemoryStore } from "./server/memory.ts";
import { Rendezvous } from "./server/rendezvous.ts";
import type { Lan } from "./connect/options.ts";

/** Numbers a person can keep in mind; more than anybody waits with on one network. */
const NAMEPLATES = 99;
/** Answers on the local network take a few milliseconds; two queries fit in. */
const TAKEN_MS = 300;
/** Nameplates tried before one is used all the same: whoever joins finds both, and the wrong one is refused by its words. */
const TRIES = 5;

export const lan: Lan = {
  hold: async ({ nameplate: wished, key, bind, onlog }) => {
    const nameplate = wished === 0 ? await freeNameplate(bind) : wished;
    const server = new Rendezvous({ store: new MemoryStore(), onlyKey: key });
    const { port } = await server.listen(0, bind ?? "0.0.0.0");
    const announced = await announce({ nameplate, port, bind, onlog });
    return {
      url: `ws://${bind ?? "127.0.0.1"}:${port}`,
      nameplate,
      close: () => {
        announced.close();
        void server.close();
      },
    };
  },
  find,
};

async function freeNameplate(bind: string | undefined): Promise<number> {
  let nameplate = 0;
  for (let i = 0; i < TRIES; i++) {
    nameplate = 1 + Math.floor(Math.random() * NAMEPLATES);
    if (!(await isTaken({ nameplate, bind, timeoutMs: TAKEN_MS }))) break;
  }
  return nameplate;
}
