/** Paths that carry smaller packets than Ethernet, or larger ones, and do not say so. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  type Dcpipe,
  expectEqualFiles,
  makeFile,
  rootTest,
  sha256,
  start,
  succeed,
  temporaryDirectory,
} from "./dcpipe.ts";
import { createJumbo, createNarrow, type Narrow } from "./narrow.ts";
import { transfer } from "./transfer.ts";

const SIZE = 5_000_000;

async function send({ a, b }: Narrow, ...options: string[]): Promise<{ sender: Dcpipe; receiver: Dcpipe }> {
  const [source, target] = [makeFile("f", SIZE), temporaryDirectory()];
  const both = await transfer(
    [[source, ...options], { namespace: a }],
    [["-o", target], { namespace: b }],
    "receiver",
  );
  await succeed(both.sender, both.receiver);
  expectEqualFiles(join(target, "f"), source);
  return both;
}

for (const mtu of [1400, 1280, 1200, 1000, 620])
  rootTest(`a transfer through a tunnel that carries ${mtu} bytes and does not say so`, async () => {
    await send(createNarrow({ mtu }));
  });

rootTest("a transfer through a tunnel that carries 1200 bytes and says so", async () => {
  await send(createNarrow({ mtu: 1200, told: true }));
});

for (const mtu of [1400, 1280])
  rootTest(`a transfer over IPv6 through a tunnel that carries ${mtu} bytes`, async () => {
    const { sender } = await send(createNarrow({ mtu, family: 6 }));
    expect(sender.find("connected")).toMatchObject({ remote: { address: "2001:db8:3::2" } });
  });

rootTest("a transfer goes on when the path comes to carry less than the control channel takes", async () => {
  const narrow = createNarrow({ mtu: 1500 });
  const [source, target] = [makeFile("f", SIZE), temporaryDirectory()];
  const { sender, receiver } = await transfer(
    [[source, "--limit", "1M"], { namespace: narrow.a }],
    [["-o", target], { namespace: narrow.b }],
    "receiver",
  );
  await receiver.event("progress", ({ bytes = 0 }) => bytes > SIZE / 10);
  narrow.carry(1200);
  await receiver.event("reconnecting");
  await succeed(sender, receiver);
  expectEqualFiles(join(target, "f"), source);
});

/** A pipe that carries one piece after another until the joining side says that larger packets pass, and one more. */
async function expectLarge(a?: string, b?: string): Promise<void> {
  const waiting = start(["pipe"], { namespace: b });
  const joining = start(["pipe", "-v", "--to", await waiting.offer()], {
    namespace: a,
    stdin: "pipe",
    json: false,
  });
  const pieces: Buffer[] = [];
  const give = (): Buffer => {
    const piece = randomBytes(SIZE / 4);
    pieces.push(piece);
    return piece;
  };
  while (!/packets of 4144 bytes pass/.test(joining.stderr)) {
    joining.stdin.write(give());
    // It rests until that is there: a machine that is busy takes any path for a long one.
    await waiting.printed(pieces.length * (SIZE / 4));
  }
  joining.stdin.end(give());
  const [received] = await succeed(waiting, joining);
  expect(sha256(received?.stdout ?? Buffer.alloc(0))).toBe(sha256(Buffer.concat(pieces)));
}

rootTest("a cable for large frames gets large packets", async () => {
  const { a, b } = createJumbo();
  await expectLarge(a, b);
});

test("two processes on one machine use large packets", async () => {
  await expectLarge();
});
