/** Many transfers, in which the sender leaves as soon as it may: nothing may be missing. The soak does a thousand. */
import { randomInt } from "node:crypto";
import { join } from "node:path";
import { test } from "vitest";
import { expectEqualFiles, makeFile, pair, succeed, temporaryDirectory } from "./dcpipe.ts";

const KIB = 1024;
const SIZES = [
  0,
  1,
  1099,
  1100,
  1101,
  16_383,
  16_384,
  64 * KIB - 1,
  64 * KIB,
  64 * KIB + 1,
  256 * KIB,
  256 * KIB + 1,
];

for (let round = 0; round < 5; round++) {
  const sizes = [...SIZES.slice(round * 3, round * 3 + 3), randomInt(8 * KIB * KIB), randomInt(KIB * KIB)];
  test(`files of ${sizes.join(", ")} bytes, side by side`, async () => {
    await Promise.all(
      sizes.map(async (size, i) => {
        const [source, target] = [makeFile("f", size), temporaryDirectory()];
        const [send, receive] = [
          ["send", source],
          ["receive", "-o", target],
        ];
        const { waiting, joining } = await pair(
          ...(((i + round) % 2 ? [[send], [receive]] : [[receive], [send]]) as [[string[]], [string[]]]),
        );
        await succeed(waiting, joining);
        expectEqualFiles(join(target, "f"), source);
      }),
    );
  });
}
