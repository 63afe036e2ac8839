import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/global-setup.ts"],
    // Real processes, sockets and namespaces: a slow machine is no failure.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    retry: 0,
    // The slow ones wait, for a silence to be noticed or a link to come back, and need no processor for that.
    maxWorkers: Math.max(4, availableParallelism()),
  },
});
