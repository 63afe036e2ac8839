/** A few hundred connections that end in every way, through a forward and through a plain proxy: the soak has them by the thousand. */
import { expect, test } from "vitest";

interface Lab {
  playConnections(options: {
    count: number;
    seed?: number;
    parallel?: number;
  }): Promise<{ summary: string; failures: string[] }>;
}

const COUNT = 300;

test("connections look from both ends as they do through a plain proxy, and none stays behind", async () => {
  const lab = (await import(new URL("../lab/connections.js", import.meta.url).href)) as Lab;
  const { summary, failures } = await lab.playConnections({ count: COUNT, parallel: 16 });
  expect(failures, summary).toEqual([]);
  expect(summary).toContain(`${COUNT} of ${COUNT}`);
});
