/** The digest of content, whatever makes the SHA-256 of its blocks. */
import { createHash, randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { ContentDigest, DIGEST_BLOCK } from "../../src/apps/digest.ts";
import type { Digest } from "../../src/apps/endpoints.ts";
import { createDigest as inBrowsers } from "../../src/browser/digest.ts";
import { createDigest as inNode } from "../../src/node/digest.ts";

/** As section 6.3 of docs/protocol.md has it. */
function expected(content: Uint8Array): string {
  const hash = createHash("sha256");
  for (let at = 0; at < content.length; at += DIGEST_BLOCK)
    hash.update(
      createHash("sha256")
        .update(content.subarray(at, at + DIGEST_BLOCK))
        .digest(),
    );
  return hash.digest("hex");
}

async function digestOf(create: () => Digest, content: Uint8Array, piece: number): Promise<string> {
  const digest = new ContentDigest(create);
  const buffer = new Uint8Array(piece);
  for (let at = 0; at < content.length; at += piece) {
    // One buffer for all, as sources do it.
    const part = content.subarray(at, at + piece);
    buffer.set(part);
    digest.update(buffer.subarray(0, part.length));
  }
  return Buffer.from(await digest.digest()).toString("hex");
}

test("of nothing", async () => {
  const nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
  expect(await digestOf(inNode, new Uint8Array(), 1)).toBe(nothing);
});

describe.each([
  ["node", inNode],
  ["browsers", inBrowsers],
])("in %s", (_name, create) => {
  test.each([
    0,
    1,
    16 * 1024,
    16 * 1024 + 1,
    DIGEST_BLOCK - 1,
    DIGEST_BLOCK,
    DIGEST_BLOCK + 1,
    3 * DIGEST_BLOCK,
  ])("of %i bytes", async (size) => {
    const content = randomBytes(size);
    for (const piece of [997, 65_536, DIGEST_BLOCK, 5_000_000])
      expect(await digestOf(create, content, piece)).toBe(expected(content));
  });

  test("copies go on by themselves", async () => {
    const content = randomBytes(4 * DIGEST_BLOCK);
    const half = content.subarray(0, 2.5 * DIGEST_BLOCK);
    const digest = new ContentDigest(create);
    digest.update(half);
    const copy = digest.copy();
    digest.update(content.subarray(half.length));
    const before = digest.copy();
    expect(Buffer.from(await copy.digest()).toString("hex")).toBe(expected(half));
    expect(Buffer.from(await digest.digest()).toString("hex")).toBe(expected(content));
    expect(Buffer.from(await before.digest()).toString("hex")).toBe(expected(content));
  });
});
