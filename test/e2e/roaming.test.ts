/** Machines change networks while a pipe is in use, and nothing of it is lost: a sample of npm run soak -- --roaming. */
import { expect } from "vitest";
import { needs, rootTest } from "./dcpipe.ts";

interface Roaming {
  readonly roam: (options: {
    kinds: [string, string];
    by: "code" | "token";
    moves: ["a" | "b", string][];
  }) => Promise<{ what: string; path: string; noticed: number | undefined }[]>;
}

const { roam } = (await import(new URL("../netlab/roaming.js", import.meta.url).href)) as Roaming;

rootTest(
  "by code: other addresses, a better interface, a NAT that boots, a cable pulled",
  async (context) => {
    needs(context, "nft", "turnserver");
    const moved = await roam({
      kinds: ["port-restricted", "port-restricted"],
      by: "code",
      moves: [
        ["a", "gets another address"],
        ["b", "gets a better interface"],
        ["a", "sees its NAT boot"],
        ["b", "is unplugged for 3 s"],
      ],
    });
    expect(moved).toHaveLength(4);
    for (const { path } of moved) expect(path).toMatch(/direct|relay/);
    // The path was lost by the first of these; that both noticed is why they are together again.
    expect(moved[0]?.noticed).toBeDefined();
  },
);

rootTest("by code, on the relay: other addresses", async (context) => {
  needs(context, "nft", "turnserver");
  const moved = await roam({
    kinds: ["udp-blocked", "port-restricted"],
    by: "code",
    moves: [
      ["a", "gets another address"],
      ["b", "gets another address"],
    ],
  });
  expect(moved.map(({ path }) => path)).toEqual(["relay", "relay"]);
});

rootTest("by pasting, where the waiting side can be reached: the joining one moves", async (context) => {
  needs(context, "nft", "turnserver");
  const moved = await roam({
    kinds: ["full-cone", "port-restricted"],
    by: "token",
    moves: [
      ["b", "gets another address"],
      ["b", "is unplugged for 3 s"],
    ],
  });
  expect(moved.map(({ path }) => path)).toEqual(["direct", "direct"]);
});
