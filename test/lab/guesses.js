/**
 * Guesses at codes: waiting clients at a rendezvous in this process, over real WebSockets, each attacked with one wrong guess.
 */
import { formatCode } from "../../dist/index.js";
import { openSocket } from "../../dist/node/websocket.js";
import { MemoryStore } from "../../dist/server/memory.js";
import { Rendezvous } from "../../dist/server/rendezvous.js";
import { JoiningIntroduction, WaitingIntroduction } from "../../dist/signalling/introduction.js";
import { Mailbox } from "../../dist/signalling/mailbox.js";
import { encodeIntroduction } from "../../dist/wire/introduction.js";
import { parseCode, passwordFrom } from "../../dist/wire/code.js";

/** All of them come from one address, so the limits that would send most of them away are lifted. */
const CROWD = { mailboxesPerAddress: 1e6, connectionsPerAddress: 1e6 };

/** A rendezvous on loopback. `limits` as in src/server/limits.ts. */
export async function startRendezvous(limits) {
  const all = { ...CROWD, ...limits };
  const server = new Rendezvous({ store: new MemoryStore(all), limits: all });
  const { port } = await server.listen(0, "127.0.0.1");
  const url = `http://127.0.0.1:${port}/`;
  return {
    url,
    metric: async (name) => {
      const text = await (await fetch(`${url}metrics`)).text();
      return Number(
        text
          .split("\n")
          .find((line) => line.startsWith(`${name} `))
          ?.split(" ")[1],
      );
    },
    close: () => server.close(),
  };
}

const fingerprint = () => crypto.getRandomValues(new Uint8Array(32));

/** Somebody who waits; resolves when there is a code. `ended` resolves with what became of it. */
export async function wait(url) {
  const password = passwordFrom(crypto.getRandomValues(new Uint8Array(2)));
  let introduction;
  let settle;
  const ended = new Promise((resolve) => (settle = resolve));
  let confirmed = false;
  const nameplate = await new Promise((resolve, reject) => {
    introduction = new WaitingIntroduction({
      openSocket,
      password,
      fingerprint: fingerprint(),
      onjoined: () => {},
      onintroduced: () => {},
      // Only who has the password can seal addresses.
      oncandidates: () => (confirmed = true),
      onfailed: (error) => {
        settle(error.code);
        reject(error);
      },
      ontrouble: () => {},
    });
    introduction.addWay({ url, nameplate: 0, onallocated: resolve });
  });
  return {
    code: formatCode({ nameplate, password }),
    ended,
    wasFooled: () => confirmed,
    leave: () => introduction.release("left"),
  };
}

/** One guess as this program makes it; resolves with "won" or the code of the error. */
export function guess(url, code) {
  return new Promise((resolve) => {
    const introduction = new JoiningIntroduction({
      openSocket,
      url,
      code: parseCode(code),
      direct: false,
      fingerprint: fingerprint(),
      onintroduced: () => {
        introduction.post([]);
        resolve("won");
      },
      oncandidates: () => {},
      onfailed: ({ code }) => resolve(code),
      ontrouble: () => {},
    });
  });
}

/** One guess that pays no attention to what it is answered, and pretends to have the password. */
export function bluff(url, code) {
  return new Promise((resolve) => {
    const { nameplate } = parseCode(code);
    // The base point: a share that anybody can have.
    const point = Buffer.from("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76", "hex");
    const mailbox = new Mailbox({
      openSocket,
      url,
      place: { type: "claim", nameplate },
      body: encodeIntroduction({ type: "HELLO", point, fingerprint: fingerprint() }),
      onbody: (_, index) => {
        if (index === 0) mailbox.post(encodeIntroduction({ type: "CONFIRM", tag: fingerprint() }));
      },
      onclosed: (error) => resolve(error?.code ?? "won"),
    });
  });
}

/** A code with the same nameplate and other words. */
export function otherWords(code) {
  const [nameplate, ...words] = code.split("-");
  return [nameplate, ...words.map((word) => (word === "acorn" ? "zebra" : "acorn"))].join("-");
}

/** Holds `count` live codes and attacks each once; counts what the two ends of each were told. */
export async function attack(url, count) {
  const waiting = await Promise.all(Array.from({ length: count }, () => wait(url)));
  const told = { waiting: {}, guessing: {} };
  const note = (side, what) => (told[side][what] = (told[side][what] ?? 0) + 1);
  await Promise.all(
    waiting.map(async ({ code, ended, wasFooled }, index) => {
      const attempt = index % 2 ? bluff : guess;
      note("guessing", await attempt(url, otherWords(code)));
      note("waiting", wasFooled() ? "fooled" : await ended);
    }),
  );
  return told;
}
