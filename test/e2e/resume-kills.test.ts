/** Transfers of trees are killed at random moments and gone on with: a sample of what `npm run soak -- --resumes N` does. */
import { expect } from "vitest";
import { rootTest, temporaryDirectory } from "./dcpipe.ts";

interface Round {
  readonly shape: "large" | "small" | "medium" | "mixed";
  readonly kills: number;
  /** MiB a second. */
  readonly limit?: number;
  readonly compress?: boolean;
  /** The receiver has no right to pass over file permissions. */
  readonly confined?: boolean;
}

interface Lab {
  /** Throws when anything is not as it should be: statuses, trees, partial files, bytes on the wire. */
  killAndResume: (room: string, round: Round) => Promise<{ readonly kills: readonly unknown[] }>;
}

for (const round of [
  { shape: "mixed", kills: 3, limit: 6, confined: true },
  { shape: "medium", kills: 3, compress: true },
] satisfies Round[]) {
  rootTest(
    `${round.kills} kills at random moments: ${round.shape}, ${round.limit ? `${round.limit} MiB/s` : "full speed"}`,
    async () => {
      const { killAndResume } = (await import(new URL("../lab/resumes.js", import.meta.url).href)) as Lab;
      const { kills } = await killAndResume(temporaryDirectory(), round);
      expect(kills.length).toBeGreaterThan(0);
    },
    600_000,
  );
}
