/** Progress on terminals of any width. */
import { describe, expect, test } from "vitest";
import type { Progress } from "../../src/apps/endpoints.ts";
import { clipMiddle, formatCount, formatSeconds, widthOf } from "../../src/cli/format.ts";
import { progressLine } from "../../src/cli/progress-line.ts";
import { progressEvent, Speedometer } from "../../src/cli/progress.ts";

const MIB = 1024 * 1024;

function progress(changes: Partial<Progress> = {}): Progress {
  return {
    name: "photos/2024/a-rather-long-name-of-a-holiday-photograph-20240501.jpg",
    bytes: 1200 * MIB,
    total: 3400 * MIB,
    files: 11,
    totalFiles: 1234,
    file: { bytes: 10 * MIB, total: 40 * MIB },
    ...changes,
  };
}

const FAST = { bytesPerSecond: 55 * MIB, stalled: false };

describe("a line", () => {
  test.each([
    [20, "35 %  1.2 GiB"],
    [40, " 35 %  1.2 GiB of 3.3 GiB  55.0 MiB/s"],
    [80, " 35 %  1.2 GiB of 3.3 GiB  55.0 MiB/s  40 s left  file 12 of 1,234  photo…1.jpg"],
    [
      200,
      " 35 %  1.2 GiB of 3.3 GiB  55.0 MiB/s  40 s left  file 12 of 1,234  photos/2024/a-rather-long-name-of-a-holiday-photograph-20240501.jpg 25 %",
    ],
  ])("of %i columns", (columns, expected) => {
    const line = progressLine(progress(), FAST, columns);
    expect(widthOf(line)).toBeLessThan(columns);
    if (columns > 20) expect(line).toBe(expected);
    else expect(line).toBe(" 35 %  55.0 MiB/s");
  });

  test("of 100 columns: the name is cut in its middle", () => {
    const line = progressLine(progress(), FAST, 100);
    expect(widthOf(line)).toBe(99);
    expect(line).toMatch(/ {2}photos\/2\S*…\S*0501\.jpg 25 %$/);
  });

  test.each([1, 5, 10, 20, 30, 40, 60, 80, 120, 200])("never takes more than %i columns", (columns) => {
    for (const name of [
      "",
      "x",
      "文件/照片/照片照片照片照片照片照片照片.jpg",
      "a\u001b[2J\u202eb",
      "e\u0301".repeat(100),
    ])
      for (const total of [undefined, 0, 3400 * MIB])
        for (const stalled of [true, false]) {
          const line = progressLine(progress({ name, total }), { bytesPerSecond: 12345, stalled }, columns);
          expect(widthOf(line)).toBeLessThan(columns);
          expect(line).not.toMatch(/[\u0000-\u001f\u202e]/);
        }
  });

  test("without a terminal nothing is cut", () => {
    expect(progressLine(progress(), FAST, Infinity)).toContain(progress().name);
  });

  test("of the only file: no count, no second percentage", () => {
    const line = progressLine(progress({ files: 0, totalFiles: 1, name: "a.iso" }), FAST, 80);
    expect(line).toBe(" 35 %  1.2 GiB of 3.3 GiB  55.0 MiB/s  40 s left  a.iso");
  });

  test("of a stream without an end that is known", () => {
    const stdin = progress({ name: "stdin", total: undefined, files: 0, totalFiles: undefined });
    expect(progressLine({ ...stdin, file: { bytes: 1, total: undefined } }, FAST, 80)).toBe(
      "1.2 GiB  55.0 MiB/s  stdin",
    );
  });

  test("that says when nothing moves", () => {
    const pace = { bytesPerSecond: 0, stalled: true };
    expect(progressLine(progress(), pace, 80)).toContain("  stalled  ");
    expect(progressLine(progress(), pace, 80)).not.toContain("left");
    expect(progressLine(progress({ bytes: 3400 * MIB }), pace, 80)).toContain("  finishing  ");
  });
});

describe("the rate", () => {
  test("is that of the last seconds", () => {
    const speed = new Speedometer();
    for (let time = 0; time <= 20_000; time += 100)
      speed.add(time, time < 10_000 ? time * 10 : 100_000 + (time - 10_000));
    expect(speed.pace(20_000).bytesPerSecond).toBeCloseTo(1000, 0);
  });

  test("is nothing after a standstill, and comes back", () => {
    const speed = new Speedometer();
    speed.add(0, 0);
    speed.add(1000, 1000);
    expect(speed.pace(1000)).toEqual({ bytesPerSecond: 1000, stalled: false });
    for (let time = 2000; time <= 5500; time += 500) speed.add(time, 1000);
    expect(speed.pace(5900).stalled).toBe(false);
    expect(speed.pace(6000)).toEqual({ bytesPerSecond: 0, stalled: true });
    speed.add(7000, 2000);
    expect(speed.pace(7000).stalled).toBe(false);
    expect(speed.pace(7000).bytesPerSecond).toBeGreaterThan(0);
  });
});

test("the event leaves out what is not known", () => {
  expect(progressEvent(progress(), FAST)).toEqual({
    event: "progress",
    bytes: 1200 * MIB,
    total: 3400 * MIB,
    bytesPerSecond: 55 * MIB,
    files: 11,
    totalFiles: 1234,
    file: progress().name,
  });
  const stream = progress({ name: "", total: undefined, totalFiles: undefined });
  expect(Object.keys(progressEvent(stream, FAST))).toEqual(["event", "bytes", "bytesPerSecond", "files"]);
});

test("figures", () => {
  expect([0, 999, 1000, 1234567].map(formatCount)).toEqual(["0", "999", "1,000", "1,234,567"]);
  expect([0.2, 59.1, 60, 119.5, 3599.5, 3600, 7260].map(formatSeconds)).toEqual([
    "1 s",
    "1 min 0 s",
    "1 min 0 s",
    "2 min 0 s",
    "1 h 0 min",
    "1 h 0 min",
    "2 h 1 min",
  ]);
  expect(clipMiddle("abcdefghij", 5)).toBe("ab…ij");
  expect(clipMiddle("文文文文文", 5)).toBe("文…文");
  expect(clipMiddle("abc", 3)).toBe("abc");
  expect(widthOf("文e\u0301🙂")).toBe(5);
});
