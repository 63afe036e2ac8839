import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Clock } from "../../src/cli/clock.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance", "setTimeout"] });
});
afterEach(() => {
  vi.useRealTimers();
});

test("it counts from when it was made, or from the first beginning", () => {
  const clock = new Clock();
  vi.advanceTimersByTime(1000);
  expect(clock.seconds).toBe(1);
  clock.begin();
  expect(clock.seconds).toBe(0);
  vi.advanceTimersByTime(2000);
  clock.begin();
  expect(clock.seconds).toBe(2);
});

test("it stands still while somebody is asked, whatever comes of it", async () => {
  const clock = new Clock();
  vi.advanceTimersByTime(1000);
  const answered = clock.without(new Promise((resolve) => setTimeout(resolve, 60_000, "yes")));
  await vi.advanceTimersByTimeAsync(60_000);
  expect(await answered).toBe("yes");
  expect(clock.seconds).toBe(1);
  const failed = clock.without(Promise.reject(new Error("no")));
  await expect(failed).rejects.toThrow("no");
  vi.advanceTimersByTime(500);
  expect(clock.seconds).toBe(1.5);
});
