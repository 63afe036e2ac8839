/** Somebody guesses at the codes of real clients, at a real server in this process. */
import { expect, onTestFinished, test } from "vitest";

const CODES = 200;

/** test/lab/guesses.js */
interface Lab {
  startRendezvous(limits: object): Promise<{
    url: string;
    metric(name: string): Promise<number>;
    close(): Promise<void>;
  }>;
  wait(url: string): Promise<{ code: string; ended: Promise<string>; leave(): Promise<void> }>;
  guess(url: string, code: string): Promise<string>;
  otherWords(code: string): string;
  attack(url: string, count: number): Promise<Record<"waiting" | "guessing", Record<string, number>>>;
}

const lab = (await import(new URL("../lab/guesses.js", import.meta.url).href)) as Lab;

async function rendezvous(limits: object): ReturnType<Lab["startRendezvous"]> {
  const server = await lab.startRendezvous(limits);
  onTestFinished(() => server.close());
  return server;
}

test(`one wrong guess at each of ${CODES} codes: none wins, and each waiting side is told`, async () => {
  // Delays like the real ones, in a thousandth of the time.
  const server = await rendezvous({ firstDelayMs: 1, maxDelayMs: 5 });
  expect(await lab.attack(server.url, CODES)).toEqual({
    waiting: { CODE_WRONG: CODES },
    guessing: { CODE_WRONG: CODES },
  });
  expect(await server.metric("dcpipe_matches_total")).toBe(CODES);
  expect(await server.metric('dcpipe_outcomes_total{outcome="wrong"}')).toBe(CODES);
  expect(await server.metric('dcpipe_outcomes_total{outcome="direct"}')).toBe(0);
});

test("whoever guesses is made to wait after the first wrong guesses, then refused", async () => {
  const HOUR = 3_600_000;
  const server = await rendezvous({
    freeGuesses: 3,
    firstDelayMs: HOUR,
    maxDelayMs: HOUR,
    maxWaitMs: 2 * HOUR,
  });
  const waiting = await Promise.all(Array.from({ length: 8 }, () => lab.wait(server.url)));
  const codes = waiting.map(({ code }) => code);
  for (const [index, code] of codes.slice(0, 3).entries()) {
    expect(await lab.guess(server.url, lab.otherWords(code))).toBe("CODE_WRONG");
    expect(await waiting[index]?.ended).toBe("CODE_WRONG");
  }
  expect(await server.metric("dcpipe_claims_delayed")).toBe(0);
  // From here on a claim waits for an hour, and the next one for its turn behind it, as far as there is room.
  const guesses = codes.slice(3).map((code) => lab.guess(server.url, lab.otherWords(code)));
  const first = await Promise.race(guesses);
  expect(first).toBe("LIMIT");
  expect(await server.metric("dcpipe_claims_delayed")).toBeGreaterThan(0);
  expect(await server.metric("dcpipe_matches_total")).toBe(3);
  await Promise.all(waiting.slice(3).map((each) => each.leave()));
});
