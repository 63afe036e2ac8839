/** What --exclude and --only match. */
import { expect, test } from "vitest";
import { chooser, excluder } from "../../src/cli/globs.ts";

test.each([
  ["*.tmp", "a.tmp", true],
  ["*.tmp", "deep/down/a.tmp", true],
  ["*.tmp", "deep/down/.a.tmp", true],
  ["*.tmp", "a.tmp.txt", false],
  ["node_modules", "x/node_modules", true],
  ["node_modules/", "x/node_modules", true],
  ["/build", "build", true],
  ["/build", "src/build", false],
  ["./build", "build", true],
  ["raw/*.cr2", "raw/1.cr2", true],
  ["raw/*.cr2", "2024/raw/1.cr2", false],
  ["raw/*.cr2", "raw/deep/1.cr2", false],
  ["**/raw/*.cr2", "2024/raw/1.cr2", true],
  ["*.{jpg,png}", "x/a.png", true],
  ["[ab]", "b", true],
  ["!a", "b", false],
  ["!a", "!a", true],
  ["*", ".hidden", true],
])("--exclude %s and %s: %s", (pattern, path, expected) => {
  const name = path.split("/").at(-1) ?? "";
  expect(excluder([pattern])(`sent/${path}`, name)).toBe(expected);
});

test("a PATH itself is left out by its name, and by no path", () => {
  expect(excluder(["build"])("build", "build")).toBe(true);
  expect(excluder(["/build", "*/*"])("build", "build")).toBe(false);
});

test.each([
  ["*.jpg", "photos/a.jpg", true],
  ["*.jpg", "photos/a.png", false],
  ["2024", "photos/2024/a.png", true],
  ["photos/2024", "photos/2024/a.png", true],
  ["2024/*.png", "photos/2024/a.png", false],
  ["photos/*/a.png", "photos/2024/a.png", true],
  ["photos/*", "photos/2024/deep/a.png", true],
  ["photos/**/*.png", "photos/2024/deep/a.png", true],
  ["photos/", "photos/a.png", true],
  ["*", "a", true],
])("--only %s and %s: %s", (pattern, path, expected) => {
  expect(chooser([pattern])(path)).toBe(expected);
});

test("several patterns add up; none takes everything, or leaves out nothing", () => {
  const both = chooser(["*.jpg", "*.png"]);
  expect(["a.jpg", "b.png", "c.gif"].filter(both)).toEqual(["a.jpg", "b.png"]);
  expect(chooser([])("x")).toBe(true);
  expect(excluder([])("x", "x")).toBe(false);
});

test.each(["", "/", "./"])("a pattern that says nothing (%j) is wrong usage", (pattern) => {
  expect(() => excluder([pattern])).toThrow(/--exclude/);
  expect(() => chooser([pattern])).toThrow(/--only/);
});

test("a name made to be slow to compare is not", () => {
  const only = chooser(["*a*a*b"]);
  const start = performance.now();
  expect(only("a".repeat(255))).toBe(false);
  expect(performance.now() - start).toBeLessThan(5000);
});
