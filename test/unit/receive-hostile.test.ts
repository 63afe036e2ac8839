/**
 * What a hostile sender can try against a receiver, and that nothing comes of it: nothing outside the target changes, nothing
 * stands under its name that is not whole and right, the receiver comes to an end and its words are safe to show.
 */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { deflateRawSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import type { TargetDirectory, TransferResult } from "../../src/apps/endpoints.ts";
import { escapeText } from "../../src/apps/names.ts";
import type { ReceiveOptions } from "../../src/apps/receive.ts";
import { DcpipeError, type ErrorCode } from "../../src/errors.ts";
import { codec, createDigest, diskTarget } from "../../src/index.ts";
import { Writer } from "../../src/wire/bytes.ts";
import { encodeRecord, ENTRY_WINDOW, MAX_CHUNK, MAX_DEPTH, MAX_PACKED } from "../../src/wire/file.ts";
import { REASONS, type Reason } from "../../src/wire/frame.ts";
import {
  broken,
  bytes,
  chunk,
  directory,
  DONE,
  end,
  file,
  HostileSender,
  joined,
  link,
  LISTED,
  raw,
  digestOf,
  start,
  text,
  UP,
  type Ending,
} from "./hostile-sender.ts";
import { NAMES, TARGETS, TWINS, type Verdict } from "./hostile-names.ts";
import { MemoryDisk, type MemoryOptions } from "./memory-target.ts";

// ---- where it is received ---------------------------------------------------------------------------------------------

/** A target, and eyes to see what came of it. */
interface Place {
  readonly target: TargetDirectory;
  readonly folding: boolean;
  /** What is in the target, by path: "file: content", "link: where to", "directory"; without partial files. */
  contents(): Map<string, string>;
  /** Paths outside that are not as they were. */
  outsideChanges(): string[];
  /** Promises to the target that were broken. */
  violations(): string[];
  /** Something that is there before, or takes the place of what is there. */
  put(path: string, what: { file: string } | { link: string } | "directory"): void;
  /** A directory outside, to lead a link to, and a file in it. */
  readonly outside: string;
  remove(): void;
}

interface Kind {
  readonly name: string;
  /** It does as a plain path API would, links and all. */
  readonly careless: boolean;
  readonly disk?: true;
  /** Every attack is tried here, not only those that depend on the target. */
  readonly all: boolean;
  make(options?: MemoryOptions): Promise<Place>;
}

function memory(name: string, kind: MemoryOptions): Kind {
  return {
    name,
    careless: kind.careless ?? false,
    all: kind.folding === kind.careless,
    make: (options) => {
      const disk = new MemoryDisk({ ...kind, ...options });
      return Promise.resolve({
        target: disk.target,
        folding: disk.folding,
        contents: () => disk.contents(),
        outsideChanges: () => disk.outsideChanges(),
        violations: () => [
          ...disk.violations,
          ...(disk.open.size > 0 ? [`${disk.open.size} handles were never given back`] : []),
        ],
        put: (path, what) => {
          disk.put(path, what);
        },
        outside: "/home/user/outside",
        remove: () => undefined,
      });
    },
  };
}

/** A real directory, and real things around it. `paths` is how it goes on systems without /proc. */
function disk(name: string, paths: boolean): Kind {
  return {
    name,
    careless: false,
    disk: true,
    all: !paths,
    make: async () => {
      const base = mkdtempSync(join(tmpdir(), "dcpipe-hostile-"));
      const [target, outside] = [join(base, "target"), join(base, "outside")];
      for (const path of [target, outside]) mkdirSync(path);
      for (const path of ["x", "secret", "outside/secret", "outside/x"])
        writeFileSync(join(base, path), path);
      const around = (): Map<string, string> =>
        new Map([...listed(base)].filter(([path]) => !path.startsWith("target")));
      const before = around();
      return {
        target: await diskTarget(target, { paths }),
        folding: false,
        contents: () => listed(target),
        outsideChanges: () => {
          const now = around();
          return [...new Set([...now.keys(), ...before.keys()])].filter(
            (path) => now.get(path) !== before.get(path),
          );
        },
        violations: () => [],
        put: (path, what) => {
          const to = join(target, path);
          mkdirSync(dirname(to), { recursive: true });
          rmSync(to, { recursive: true, force: true });
          if (what === "directory") mkdirSync(to);
          else if ("file" in what) writeFileSync(to, what.file);
          else symlinkSync(what.link, to);
        },
        outside,
        remove: () => {
          rmSync(base, { recursive: true, force: true });
        },
      };
    },
  };
}

function listed(root: string, prefix = ""): Map<string, string> {
  const found = new Map<string, string>();
  for (const name of readdirSync(join(root, prefix))) {
    if (name.endsWith(".dcpipe-part")) continue;
    const path = prefix === "" ? name : `${prefix}/${name}`;
    const info = lstatSync(join(root, path));
    if (info.isSymbolicLink()) found.set(path, `link: ${readlinkSync(join(root, path))}`);
    else if (info.isFile()) found.set(path, `file: ${readFileSync(join(root, path), "utf8")}`);
    else if (!info.isDirectory()) found.set(path, "other");
    else {
      found.set(path, "directory");
      if ((info.mode & 0o700) !== 0o700) chmodSync(join(root, path), 0o700);
      for (const [below, what] of listed(root, path)) found.set(below, what);
    }
  }
  return found;
}

const KINDS: readonly Kind[] = [
  memory("in memory", {}),
  memory("in memory, names fold", { folding: true }),
  memory("in memory, links are followed", { careless: true }),
  memory("in memory, names fold and links are followed", { folding: true, careless: true }),
  ...(process.platform === "win32" ? [] : [disk("on disk", false), disk("on disk, by paths", true)]),
];

// ---- what is expected -------------------------------------------------------------------------------------------------

interface Outcome {
  /** It ends with one of these errors. */
  readonly fails?: readonly ErrorCode[];
  /** It goes on to the end, and tells such a problem. */
  readonly problem?: readonly Reason[];
  /** Either of the above, or neither. */
  readonly any?: true;
  /** What may be in the target then; all of it must, when it came to its end. */
  readonly left?: Readonly<Record<string, string>>;
  /** What may be there beyond that. */
  readonly maybe?: Readonly<Record<string, string>>;
}

interface Attack {
  readonly what: string;
  readonly run: (sender: HostileSender, place: Place) => Promise<void> | void;
  readonly expected: Outcome | ((place: Place) => Outcome);
  readonly before?: (place: Place) => Promise<void> | void;
  readonly options?: (place: Place) => Partial<ReceiveOptions>;
  readonly disk?: MemoryOptions;
  /** Looks at what else must hold. */
  readonly after?: (ending: Ending, sender: HostileSender, place: Place) => void;
  /** Takes too long on a real disk. */
  readonly heavy?: true;
  /** The receiver relies on the target for it, which must not follow links. */
  readonly byTarget?: true;
  /** What the other side said stands in problems and errors as it was said: it is escaped where it is shown. */
  readonly theirWords?: true;
}

const BROKEN: Outcome = { fails: ["PROTOCOL"] };
/** Words that are safe to show are the same when escaped. */
function expectSafe(words: string): void {
  expect(escapeText(words)).toBe(words);
}

function check(
  outcome: Outcome,
  ending: Ending,
  sender: HostileSender,
  place: Place,
  theirWords: boolean,
): void {
  expect(sender.wrongs).toEqual([]);
  expect(place.outsideChanges()).toEqual([]);
  expect(place.violations().join("; ")).toBe("");
  const failed = "error" in ending;
  if (failed) {
    expect(ending.error).toBeInstanceOf(DcpipeError);
    if (!theirWords) expectSafe((ending.error as DcpipeError).message);
  } else {
    for (const { reason, text: words } of ending.result.problems.list) {
      expect(REASONS).toContain(reason);
      if (!theirWords) expectSafe(words);
    }
    // The figures are true.
    const { refused, failed: failures, list } = ending.result.problems;
    expect(list.length).toBeLessThanOrEqual(refused + failures);
    expect(ending.result.moved).toBeLessThanOrEqual(Number.MAX_SAFE_INTEGER);
  }
  for (const answer of sender.heard) if ("text" in answer) expectSafe(answer.text);
  if (outcome.fails) expect(told(ending), "how it ended").toEqual(oneOf(outcome.fails, told(ending)));
  if (outcome.problem) {
    expect(failed ? told(ending) : "it came to its end").toBe("it came to its end");
    const reasons = problems(ending);
    expect(
      reasons.some((reason) => outcome.problem?.includes(reason)),
      `problems: ${reasons.join(", ")}`,
    ).toBe(true);
  }
  if (!outcome.fails && !outcome.problem && !outcome.any) {
    expect(told(ending)).toBe("the end");
    expect(problems(ending)).toEqual([]);
  }
  const there = place.contents();
  const may = { ...outcome.left, ...outcome.maybe };
  for (const [path, what] of there) expect(`${path} ${what}`).toBe(`${path} ${may[path] ?? "(not there)"}`);
  if (!failed) for (const path of Object.keys(outcome.left ?? {})) expect([...there.keys()]).toContain(path);
}

function told(ending: Ending): string {
  if (!("error" in ending)) return "the end";
  const { error } = ending;
  return error instanceof DcpipeError ? error.code : String(error);
}

function oneOf(codes: readonly string[], code: string): string {
  return codes.includes(code) ? code : codes.join(" or ");
}

function problems(ending: Ending): Reason[] {
  return "result" in ending ? ending.result.problems.list.map(({ reason }) => reason) : [];
}

function result(ending: Ending): TransferResult {
  if ("result" in ending) return ending.result;
  throw ending.error;
}

async function run(kind: Kind, attack: Attack): Promise<void> {
  const place = await kind.make(attack.disk);
  try {
    await attack.before?.(place);
    const sender = new HostileSender({
      target: place.target,
      conflict: "refuse",
      createDigest,
      codec,
      ...attack.options?.(place),
    });
    let ending: Ending;
    try {
      await attack.run(sender, place);
    } finally {
      ending = await sender.end();
    }
    const outcome = typeof attack.expected === "function" ? attack.expected(place) : attack.expected;
    check(outcome, ending, sender, place, attack.theirWords ?? false);
    attack.after?.(ending, sender, place);
  } finally {
    place.remove();
  }
}

/** A partial file that an earlier try left. */
async function part(place: Place, name: string, content: string): Promise<void> {
  const sink = await place.target.create(name, 0);
  await sink.write(bytes(content));
  await sink.abandon();
}

// ---- the attacks ------------------------------------------------------------------------------------------------------

const attack = (
  what: string,
  expected: Attack["expected"],
  steps: Attack["run"],
  more: Partial<Attack> = {},
): Attack => ({ what, expected, run: steps, ...more });

/** An entry's record with a name, or target, that need not be text. */
function rawEntry(type: number, name: string | Uint8Array, target?: string | Uint8Array): Uint8Array {
  return raw(type, (writer) => {
    writer.bytes(bytes(name));
    if (type === 1) writer.varint(5);
    if (type === 4) writer.bytes(bytes(target ?? "x"));
    else writer.varint(0o644);
    writer.varint(0);
  });
}

const PATHS: readonly Attack[] = [
  attack(
    "a link out, and a file through it",
    { problem: ["REFUSED"] },
    async (sender) => {
      sender.say(link("d", ".."), directory("d"));
      sender.offer(file("x", 4), "evil");
      sender.say(UP);
      await sender.finish();
    },
    { expected: { problem: ["REFUSED"], maybe: { d: "directory", "d/x": "file: evil" } } },
  ),
  attack(
    "a link down, and a directory of its name with a file",
    { problem: ["REFUSED", "EXISTS"], left: { e: "directory", d: "link: e" } },
    async (sender) => {
      sender.say(directory("e"), UP, link("d", "e"), directory("d"));
      sender.offer(file("x", 4), "evil");
      sender.say(UP);
      await sender.finish();
    },
  ),
  attack(
    "a link down, and a file of its name",
    { problem: ["REFUSED", "EXISTS"], left: { d: "link: e" }, maybe: { "d (1)": "file: evil" } },
    async (sender) => {
      sender.say(link("d", "e"));
      sender.offer(file("d", 4), "evil");
      await sender.finish();
    },
  ),
  attack(
    "a link down and a file of its name, and all may be overwritten",
    (place) => ({
      any: true,
      left: { d: place.contents().get("d") === "link: e" ? "link: e" : "file: evil" },
    }),
    async (sender) => {
      sender.say(link("d", "e"));
      await sender.settled();
      sender.offer(file("d", 4), "evil");
      await sender.finish();
    },
    { options: () => ({ conflict: "overwrite" }) },
  ),
  attack(
    "a link up where .. is allowed, and a file through it",
    {
      problem: ["REFUSED", "EXISTS"],
      left: { a: "directory", "a/up": "link: .." },
      maybe: { "a/up (1)": "directory", "a/up (1)/x": "file: evil" },
    },
    async (sender) => {
      sender.say(directory("a"), link("up", ".."), directory("up"));
      sender.offer(file("x", 4), "evil");
      sender.say(UP, UP);
      await sender.finish();
    },
  ),
  attack(
    "a link out that was there, and a file through it",
    (place) => ({ problem: ["REFUSED", "EXISTS"], left: { d: `link: ${place.outside}` } }),
    async (sender) => {
      sender.say(directory("d"));
      sender.offer(file("secret", 4), "evil");
      sender.say(UP);
      await sender.finish();
    },
    {
      before: (place) => {
        place.put("d", { link: place.outside });
      },
    },
  ),
  attack(
    "a link out that was there, a file through it, and all may be overwritten",
    (place) => ({
      any: true,
      maybe: { d: `link: ${place.outside}` },
    }),
    async (sender) => {
      sender.say(directory("d"));
      sender.offer(file("secret", 4), "evil");
      sender.say(UP);
      await sender.finish();
    },
    {
      before: (place) => {
        place.put("d", { link: place.outside });
      },
      byTarget: true,
      options: () => ({ conflict: "overwrite" }),
      expected: (place) =>
        place.contents().get("d") === "directory"
          ? { any: true, left: { d: "directory", "d/secret": "file: evil" } }
          : { any: true, left: { d: `link: ${place.outside}` } },
    },
  ),
  attack(
    "a file over a link out that was there",
    (place) => ({ problem: ["REFUSED", "EXISTS"], left: { f: `link: ${place.outside}/secret` } }),
    async (sender) => {
      sender.offer(file("f", 6), "evil!!");
      await sender.finish();
    },
    {
      before: (place) => {
        place.put("f", { link: `${place.outside}/secret` });
      },
      after: (_, sender) => {
        // Its size and content are nobody's business.
        expect(sender.heard.map(({ type }) => type)).not.toContain("COMPARE");
      },
    },
  ),
  attack(
    "a file over a link out that was there, and all may be overwritten",
    { left: { f: "file: evil!!" } },
    async (sender) => {
      sender.offer(file("f", 6), "evil!!");
      await sender.finish();
    },
    {
      before: (place) => {
        place.put("f", { link: `${place.outside}/secret` });
      },
      options: () => ({ conflict: "overwrite" }),
      after: (_, sender) => {
        expect(sender.heard.map(({ type }) => type)).not.toContain("COMPARE");
      },
    },
  ),
  attack(
    "a link over a file that was there",
    { problem: ["REFUSED", "EXISTS"], left: { f: "file: mine" } },
    async (sender) => {
      sender.say(link("f", "x"));
      await sender.finish();
    },
    {
      before: (place) => {
        place.put("f", { file: "mine" });
      },
    },
  ),
  attack(
    "a file over a directory that was there, and all may be overwritten",
    { any: true, left: { d: "directory", "d/f": "file: mine" } },
    async (sender) => {
      sender.offer(file("d", 4), "evil");
      await sender.finish();
    },
    {
      before: (place) => {
        place.put("d", "directory");
        place.put("d/f", { file: "mine" });
      },
      options: () => ({ conflict: "overwrite" }),
    },
  ),
  attack(
    "a directory that becomes a link out while a file comes into it",
    (place) => ({
      any: true,
      maybe: {
        d: place.contents().get("d") === "directory" ? "directory" : `link: ${place.outside}`,
      },
    }),
    async (sender, place) => {
      sender.onanswer = () => false;
      sender.say(directory("d"));
      const id = sender.offer(file("secret", 4), "evil");
      sender.say(UP);
      await sender.answer("WANT", id);
      place.put("d", { link: place.outside });
      sender.content(id, "evil");
      await sender.finish();
    },
  ),
  attack(
    "a directory twice",
    {
      problem: ["REFUSED", "EXISTS"],
      left: { d: "directory", "d/x": "file: good" },
    },
    async (sender) => {
      sender.say(directory("d"));
      sender.offer(file("x", 4), "good");
      sender.say(UP, directory("d"));
      sender.offer(file("x", 4), "evil");
      sender.say(UP);
      await sender.finish();
    },
  ),
  attack(
    "a directory twice, one after the other, and all may be overwritten",
    { any: true, left: { d: "directory" }, maybe: { "d/x": "file: good" } },
    async (sender) => {
      sender.say(directory("d"));
      sender.offer(file("x", 4), "good");
      sender.say(UP);
      await sender.settled();
      sender.say(directory("d"), link("x", "y"), UP);
      await sender.finish();
    },
    {
      options: () => ({ conflict: "overwrite" }),
      expected: (place) => ({
        any: true,
        left: { d: "directory", "d/x": place.contents().get("d/x") === "link: y" ? "link: y" : "file: good" },
      }),
    },
  ),
  attack("a file twice", { problem: ["REFUSED", "EXISTS"], left: { x: "file: good" } }, async (sender) => {
    sender.offer(file("x", 4), "good");
    sender.offer(file("x", 4), "evil");
    await sender.finish();
  }),
  attack(
    "a file twice, the second when the first is stored",
    { problem: ["REFUSED", "EXISTS"], left: { x: "file: good" } },
    async (sender) => {
      sender.offer(file("x", 4), "good");
      await sender.settled();
      sender.offer(file("x", 4), "evil");
      await sender.finish();
    },
  ),
  attack(
    "a file a thousand times",
    { problem: ["REFUSED", "EXISTS"], left: { x: "file: good" } },
    async (sender) => {
      for (let i = 0; i < 1000; i++) sender.offer(file("x", 4), i === 0 ? "good" : "evil");
      await sender.finish();
    },
  ),
  attack(
    "a file where a directory is",
    { problem: ["REFUSED", "EXISTS"], left: { d: "directory" } },
    async (sender) => {
      sender.say(directory("d"), UP);
      sender.offer(file("d", 4), "evil");
      await sender.finish();
    },
  ),
  attack(
    "a directory where a file is",
    { problem: ["REFUSED", "EXISTS"], left: { d: "file: good" } },
    async (sender) => {
      sender.offer(file("d", 4), "good");
      await sender.settled();
      sender.say(directory("d"));
      sender.offer(file("x", 4), "evil");
      sender.say(UP);
      await sender.finish();
    },
  ),
  attack(
    "a directory where a file comes to be",
    (place) =>
      place.contents().get("d") === "directory"
        ? { problem: ["REFUSED", "EXISTS", "IO"], left: { d: "directory" }, maybe: { "d/x": "file: evil" } }
        : { problem: ["REFUSED", "EXISTS", "IO"], left: { d: "file: good" } },
    async (sender) => {
      sender.onanswer = ({ type }) => type !== "WANT";
      const first = sender.offer(file("d", 4), "good");
      await sender.answer("WANT", first);
      sender.say(directory("d"));
      sender.offer(file("x", 4), "evil");
      sender.say(UP);
      sender.onanswer = undefined;
      sender.content(first, "good");
      for (const record of sender.heard)
        if (record.type === "WANT" && record.id !== first) sender.content(record.id, "evil");
      await sender.finish();
    },
  ),
  attack(
    "a link where a file comes to be",
    (place) => ({
      problem: ["REFUSED", "EXISTS", "IO"],
      left: { f: place.contents().get("f") === "link: y" ? "link: y" : "file: good" },
    }),
    async (sender) => {
      sender.onanswer = ({ type }) => type !== "WANT";
      const first = sender.offer(file("f", 4), "good");
      await sender.answer("WANT", first);
      sender.say(link("f", "y"));
      await new Promise((resolve) => setTimeout(resolve, 20));
      sender.content(first, "good");
      await sender.finish();
    },
  ),
  ...TWINS.map(([what, first, second]) =>
    attack(
      `twins: ${what}`,
      (place) =>
        place.folding
          ? { problem: ["REFUSED", "EXISTS"], left: { [first]: "file: good" } }
          : { left: { [first]: "file: good", [second]: "file: evil" } },
      async (sender) => {
        sender.offer(file(first, 4), "good");
        sender.offer(file(second, 4), "evil");
        await sender.finish();
      },
    ),
  ),
  ...TWINS.map(([what, first, second]) =>
    attack(
      `twins, a link and a directory: ${what}`,
      (place) =>
        place.folding
          ? { problem: ["REFUSED", "EXISTS"], left: { a: "directory", [first]: "link: a" } }
          : {
              left: {
                a: "directory",
                [first]: "link: a",
                [second]: "directory",
                [`${second}/post-checkout`]: "file: evil",
              },
            },
      async (sender) => {
        sender.say(directory("a"), UP, link(first, "a"), directory(second));
        sender.offer(file("post-checkout", 4), "evil");
        sender.say(UP);
        await sender.finish();
      },
    ),
  ),
  attack("UP at the top", BROKEN, (sender) => {
    sender.say(UP);
  }),
  attack("one UP too many", { ...BROKEN, maybe: { d: "directory" } }, (sender) => {
    sender.say(directory("d"), UP, UP);
  }),
  attack("an end of the list in a directory", { ...BROKEN, maybe: { d: "directory" } }, (sender) => {
    sender.say(directory("d"), LISTED);
  }),
  attack(
    `${MAX_DEPTH} directories in each other, which is as deep as it goes`,
    { any: true },
    async (sender) => {
      for (let i = 0; i < MAX_DEPTH; i++) sender.say(directory("d"));
      for (let i = 0; i < MAX_DEPTH; i++) sender.say(UP);
      await sender.finish();
    },
    {
      expected: (place) => ({ left: Object.fromEntries(place.contents()) }),
      after: (ending, _, place) => {
        expect(result(ending).directories).toBe(MAX_DEPTH);
        expect(place.contents().size).toBe(MAX_DEPTH);
      },
    },
  ),
  attack(
    `${MAX_DEPTH + 1} directories in each other`,
    (place) => ({ ...BROKEN, maybe: Object.fromEntries(place.contents()) }),
    (sender) => {
      for (let i = 0; i <= MAX_DEPTH; i++) sender.say(directory("d"));
    },
    {
      after: (_, __, place) => {
        expect(place.contents().size).toBeLessThanOrEqual(MAX_DEPTH);
      },
    },
  ),
];

const STATES: readonly Attack[] = [
  attack(
    `${ENTRY_WINDOW} files that are not settled, which is as many as may be`,
    { left: {} },
    async (sender) => {
      sender.onanswer = ({ type }) => type !== "WANT";
      for (let i = 0; i < ENTRY_WINDOW; i++) sender.say(file(`f${i}`, 1));
      await sender.answer("WANT");
      for (let i = 0; i < ENTRY_WINDOW; i++) sender.say(broken(i));
      sender.say(LISTED, DONE);
      sender.stream.end().catch(() => undefined);
    },
    {
      expected: { any: true },
      after: (ending) => {
        const { files, problems: found } = result(ending);
        expect(files).toBe(0);
        expect(found.failed + found.refused).toBe(ENTRY_WINDOW);
        expect(found.list.length).toBeLessThanOrEqual(1000);
      },
      heavy: true,
    },
  ),
  attack(
    `${ENTRY_WINDOW + 1} files that are not settled`,
    BROKEN,
    (sender) => {
      sender.onanswer = () => false;
      for (let i = 0; i <= ENTRY_WINDOW; i++) sender.say(file(`f${i}`, 1));
    },
    { heavy: true },
  ),
  attack(
    `${ENTRY_WINDOW + 1} files before the user has said yes or no`,
    BROKEN,
    (sender) => {
      sender.onanswer = () => false;
      for (let i = 0; i <= ENTRY_WINDOW; i++) sender.say(file(`f${i}`, 1));
    },
    { options: () => ({ approve: () => new Promise<boolean>(() => undefined) }), heavy: true },
  ),
  attack("content without START", BROKEN, (sender) => {
    sender.say(chunk("evil"));
  }),
  attack("content for an entry, without START", BROKEN, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 4));
    await sender.answer("WANT");
    sender.say(chunk("evil"), end("evil"));
  }),
  attack("an END without START", BROKEN, (sender) => {
    sender.say(file("x", 0), end(""));
  }),
  attack("START before anything is listed", BROKEN, (sender) => {
    sender.say(start(0));
  }),
  attack("START for an id that was not said", BROKEN, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 4));
    await sender.answer("WANT");
    sender.say(start(1));
  }),
  attack("START for the largest id there is", BROKEN, (sender) => {
    sender.say(file("x", 4), start(Number.MAX_SAFE_INTEGER));
  }),
  attack("START twice", BROKEN, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 4));
    await sender.answer("WANT");
    sender.say(start(0), start(0));
  }),
  attack("START for another file in the middle of one", BROKEN, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 4), file("y", 4));
    await sender.answer("WANT", 1);
    sender.say(start(0), chunk("ev"), start(1));
  }),
  attack("a file again that is stored", { ...BROKEN, maybe: { x: "file: good" } }, async (sender) => {
    sender.offer(file("x", 4), "good");
    await sender.settled();
    sender.content(0, "evil");
  }),
  attack("content of a file that was refused", BROKEN, async (sender) => {
    sender.say(file("../x", 4));
    await sender.answer("REFUSE");
    sender.content(0, "evil");
  }),
  attack(
    "content of a file that is not wanted",
    BROKEN,
    async (sender) => {
      sender.say(file("x", 4));
      await sender.answer("PASS");
      sender.content(0, "evil");
    },
    { options: () => ({ wanted: () => false }) },
  ),
  attack("content of a directory", { ...BROKEN, maybe: { d: "directory" } }, (sender) => {
    sender.say(directory("d"), start(0));
  }),
  attack("content of a link", { ...BROKEN, maybe: { l: "link: x" } }, (sender) => {
    sender.say(link("l", "x"), start(0));
  }),
  attack("START with an offset that was not offered", BROKEN, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 4));
    await sender.answer("WANT");
    sender.say(start(0, 2));
  }),
  attack(
    "START with a smaller offset than was asked for",
    BROKEN,
    async (sender) => {
      sender.onanswer = ({ type }) => type === "COMPARE";
      sender.offer(file("x", 8), "good stuff".slice(0, 8));
      expect(await sender.answer("WANT")).toMatchObject({ offset: 4 });
      sender.say(start(0, 2));
    },
    { before: (place) => part(place, "x", "good") },
  ),
  attack(
    "START at the beginning where more was there",
    BROKEN,
    async (sender) => {
      sender.onanswer = ({ type }) => type === "COMPARE";
      sender.offer(file("x", 8), "good stuff".slice(0, 8));
      expect(await sender.answer("WANT")).toMatchObject({ offset: 4 });
      sender.say(start(0, 0));
    },
    { before: (place) => part(place, "x", "good") },
  ),
  attack(
    "START with a larger offset than was asked for",
    BROKEN,
    async (sender) => {
      sender.onanswer = ({ type }) => type === "COMPARE";
      sender.offer(file("x", 8), "good stuff".slice(0, 8));
      expect(await sender.answer("WANT")).toMatchObject({ offset: 4 });
      sender.say(start(0, 5));
    },
    { before: (place) => part(place, "x", "good") },
  ),
  attack(
    "more of what an earlier try left, which is of another file",
    { problem: ["CHECKSUM"] },
    async (sender) => {
      sender.onanswer = () => false;
      sender.say(file("x", 8));
      expect(await sender.answer("COMPARE")).toMatchObject({ length: 4 });
      sender.say({ type: "DIGEST", id: 0, digest: digestOf("evil") });
      expect(await sender.answer("WANT")).toMatchObject({ offset: 4 });
      sender.content(0, "good stuff".slice(0, 8), 4);
      await sender.finish();
    },
    { before: (place) => part(place, "x", "evil") },
  ),
  attack(
    "a smaller file than an earlier try left",
    { left: { x: "file: good" } },
    async (sender) => {
      sender.offer(file("x", 4), "good");
      await sender.finish();
    },
    { before: (place) => part(place, "x", "something that is much longer") },
  ),
  attack("more content than was said", { ...BROKEN }, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 4));
    await sender.answer("WANT");
    sender.say(start(0), chunk("evil!"), end("evil!"));
  }),
  attack("content of a file that is empty", BROKEN, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 0));
    await sender.answer("WANT");
    sender.say(start(0), chunk("e"), end("e"));
  }),
  attack(
    "more content than was said, behind what an earlier try left",
    BROKEN,
    async (sender) => {
      sender.onanswer = ({ type }) => type === "COMPARE";
      sender.offer(file("x", 5), "good1");
      await sender.answer("WANT");
      sender.say(start(0, 4), chunk("12"), end("good12"));
    },
    { before: (place) => part(place, "x", "good") },
  ),
  attack("less content than was said", { problem: ["CHECKSUM", "INCOMPLETE"] }, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 5));
    await sender.answer("WANT");
    sender.content(0, "evil");
    await sender.finish();
  }),
  attack(
    "an END of a size that is not that of the content",
    { problem: ["CHECKSUM", "INCOMPLETE"] },
    async (sender) => {
      sender.onanswer = () => false;
      sender.say(file("x", undefined));
      await sender.answer("WANT");
      sender.say(start(0), chunk("evil"), { type: "END", size: 5, digest: digestOf("evil") });
      await sender.finish();
    },
  ),
  attack("an END with another digest", { problem: ["CHECKSUM"] }, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 4));
    await sender.answer("WANT");
    sender.say(start(0), chunk("evil"), { type: "END", size: 4, digest: digestOf("good") });
    await sender.finish();
  }),
  attack("an END with a digest of zeros", { problem: ["CHECKSUM"] }, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 0));
    await sender.answer("WANT");
    sender.say(start(0), { type: "END", size: 0, digest: new Uint8Array(32) });
    await sender.finish();
  }),
  attack("an END twice", { ...BROKEN, maybe: { x: "file: good" } }, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 4));
    await sender.answer("WANT");
    sender.content(0, "good");
    sender.say(end("good"));
  }),
  attack(
    "the largest size there is, and little content",
    { problem: ["CHECKSUM", "INCOMPLETE", "NO_SPACE"] },
    async (sender) => {
      sender.say(file("x", Number.MAX_SAFE_INTEGER - 1));
      sender.contents.set(0, "evil");
      await sender.finish();
    },
  ),
  attack(
    "a thousand files of the largest size",
    { problem: ["CHECKSUM", "INCOMPLETE", "NO_SPACE", "IO"] },
    async (sender) => {
      for (let i = 0; i < 1000; i++) sender.say(file(`f${i}`, Number.MAX_SAFE_INTEGER - 1));
      await sender.finish();
    },
  ),
  attack(
    "more than the disk holds",
    { any: true, maybe: { y: "file: good" } },
    async (sender) => {
      sender.offer(file("x", 1_000_000), new Uint8Array(1_000_000));
      sender.offer(file("y", 4), "good");
      await sender.finish();
    },
    {
      disk: { capacity: 100_000 },
      after: (ending) => {
        if ("error" in ending) expect(told(ending)).toBe("NO_SPACE");
        else expect(problems(ending)).toContain("NO_SPACE");
      },
    },
  ),
  attack("an answer from the sender: STORED", { ...BROKEN }, (sender) => {
    sender.say(file("x", 4), { type: "STORED", id: 0 });
  }),
  attack("an answer from the sender: WANT", BROKEN, (sender) => {
    sender.say(file("x", 4), { type: "WANT", id: 0, offset: 0 });
  }),
  attack("an answer from the sender: COUNT", BROKEN, (sender) => {
    sender.say({ type: "COUNT" });
  }),
  attack("a DIGEST that nobody asked for", BROKEN, (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 4), { type: "DIGEST", id: 0, digest: digestOf("mine") });
  }),
  attack("a DIGEST for an id that was not said", BROKEN, (sender) => {
    sender.say({ type: "DIGEST", id: 7, digest: digestOf("mine") });
  }),
  attack(
    "a DIGEST twice",
    { ...BROKEN, left: { x: "file: mine" } },
    async (sender) => {
      sender.onanswer = () => false;
      sender.say(file("x", 4));
      await sender.answer("COMPARE");
      sender.say(
        { type: "DIGEST", id: 0, digest: digestOf("mine") },
        { type: "DIGEST", id: 0, digest: digestOf("mine") },
      );
    },
    {
      before: (place) => {
        place.put("x", { file: "mine" });
      },
    },
  ),
  attack(
    "a DIGEST for another file",
    { ...BROKEN, left: { x: "file: mine" } },
    async (sender) => {
      sender.onanswer = () => false;
      sender.say(file("x", 4), file("y", 4));
      await sender.answer("COMPARE", 0);
      sender.say({ type: "DIGEST", id: 1, digest: digestOf("mine") });
    },
    {
      before: (place) => {
        place.put("x", { file: "mine" });
      },
    },
  ),
  attack(
    "content in place of DIGEST",
    { ...BROKEN, left: { x: "file: mine" } },
    async (sender) => {
      sender.onanswer = () => false;
      sender.say(file("x", 4));
      await sender.answer("COMPARE");
      sender.content(0, "evil");
    },
    {
      before: (place) => {
        place.put("x", { file: "mine" });
      },
    },
  ),
  attack(
    "a DIGEST that is a lie, of other content",
    { any: true, left: { x: "file: mine" } },
    async (sender) => {
      sender.onanswer = (answer) => {
        if (answer.type !== "COMPARE") return true;
        sender.say({ type: "DIGEST", id: 0, digest: digestOf("mine") });
        return false;
      };
      sender.offer(file("x", 4), "evil");
      await sender.finish();
    },
    {
      before: (place) => {
        place.put("x", { file: "mine" });
      },
    },
  ),
  attack(
    "a DIGEST that is a lie, of the same content",
    { problem: ["EXISTS", "REFUSED"], left: { x: "file: mine" } },
    async (sender) => {
      sender.onanswer = (answer) => {
        if (answer.type !== "COMPARE") return true;
        sender.say({ type: "DIGEST", id: 0, digest: digestOf("other") });
        return false;
      };
      sender.offer(file("x", 4), "mine");
      await sender.finish();
    },
    {
      before: (place) => {
        place.put("x", { file: "mine" });
      },
    },
  ),
  attack("DONE with an entry that is not settled", BROKEN, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 4), LISTED);
    await sender.answer("WANT");
    sender.say(DONE);
    sender.stream.end().catch(() => undefined);
  }),
  attack("DONE in the middle of a file", BROKEN, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 4), LISTED);
    await sender.answer("WANT");
    sender.say(start(0), chunk("ev"), DONE);
    sender.stream.end().catch(() => undefined);
  }),
  attack("DONE without an end of the list", BROKEN, (sender) => {
    sender.say(DONE);
    sender.stream.end().catch(() => undefined);
  }),
  attack("the end of the list twice", BROKEN, (sender) => {
    sender.say(LISTED, LISTED);
  }),
  attack("a file behind the end of the list", BROKEN, (sender) => {
    sender.say(LISTED, file("x", 4));
  }),
  attack("a directory behind the end of the list", BROKEN, (sender) => {
    sender.say(LISTED, directory("x"));
  }),
  attack("an UP behind the end of the list", BROKEN, (sender) => {
    sender.say(LISTED, UP);
  }),
  attack("something missing behind the end of the list", BROKEN, (sender) => {
    sender.say(LISTED, { type: "MISSING", name: "x", reason: "IO", text: "" });
  }),
  attack("a file behind DONE", BROKEN, (sender) => {
    sender.say(LISTED, DONE, file("x", 4));
  }),
  attack("DONE twice", BROKEN, (sender) => {
    sender.say(LISTED, DONE, DONE);
  }),
  attack("half a record behind DONE", BROKEN, (sender) => {
    sender.say(LISTED, DONE, Uint8Array.of(5, 1));
    sender.stream.end().catch(() => undefined);
  }),
  attack("nothing at all, in good order", {}, async (sender) => {
    await sender.finish();
  }),
  attack("nothing at all, not even DONE", { fails: ["PROTOCOL", "INCOMPLETE"] }, (sender) => {
    sender.stream.end().catch(() => undefined);
  }),
  attack("an end in the middle of a record", { fails: ["PROTOCOL", "INCOMPLETE"] }, (sender) => {
    sender.say(encodeRecord(file("x", 4)).subarray(0, 5));
    sender.stream.end().catch(() => undefined);
  }),
  attack("an end in the middle of a file", { fails: ["PROTOCOL", "INCOMPLETE"] }, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 8));
    await sender.answer("WANT");
    sender.say(start(0), chunk("evil"));
    sender.stream.end().catch(() => undefined);
  }),
  attack("an end in the middle of a CHUNK", { fails: ["PROTOCOL", "INCOMPLETE"] }, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 8));
    await sender.answer("WANT");
    sender.say(start(0), encodeRecord(chunk("evil")).subarray(0, 4));
    sender.stream.end().catch(() => undefined);
  }),
  attack(
    "an end without DONE",
    { fails: ["PROTOCOL", "INCOMPLETE"], maybe: { x: "file: good" } },
    async (sender) => {
      sender.offer(file("x", 4), "good");
      await sender.settled();
      sender.say(LISTED);
      sender.stream.end().catch(() => undefined);
    },
  ),
  attack(
    "a network that goes in the middle of a file, in a directory that is left",
    { fails: ["PEER_GONE"], maybe: { d: "directory", "d/e": "directory" } },
    async (sender) => {
      sender.onanswer = () => false;
      sender.say(directory("d"), directory("e"), file("x", 100_000), file("y", 4), UP, UP, LISTED);
      await sender.answer("WANT", 3);
      sender.say(start(2), chunk("evil"));
      await new Promise((resolve) => setTimeout(resolve, 50));
      sender.vanish();
    },
  ),
  attack(
    "a broken protocol while files wait in directories that are left",
    { ...BROKEN, maybe: { d: "directory", e: "directory" } },
    async (sender) => {
      sender.onanswer = () => false;
      sender.say(directory("d"), file("x", 4), UP, directory("e"), file("x", 4), UP);
      await sender.answer("WANT", 3);
      sender.say(UP);
    },
  ),
  attack("a network that goes in the middle of a file", { fails: ["PEER_GONE"] }, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 8));
    await sender.answer("WANT");
    sender.say(start(0), chunk("evil"));
    await new Promise((resolve) => setTimeout(resolve, 50));
    sender.vanish();
  }),
  attack(
    "a reset with escapes",
    { fails: ["ABORTED", "INCOMPLETE", "IO", "REFUSED"] },
    async (sender) => {
      sender.onanswer = () => false;
      sender.say(file("x", 8));
      await sender.answer("WANT");
      sender.stream.reset("REFUSED", "\u001b]0;evil\u0007\u202e\u009b31m");
    },
    { theirWords: true },
  ),
];

/** A PACKED of these bytes, which says that it is of this size. */
function packed(content: Uint8Array, size = content.length): Uint8Array {
  return encodeRecord({ type: "PACKED", size, packed: new Uint8Array(deflateRawSync(content)) });
}

const PACKED: readonly Attack[] = [
  attack("records in PACKED, as they should be", { left: { x: "file: good" } }, async (sender) => {
    sender.onanswer = (answer) => {
      if (answer.type === "WANT") sender.say(packed(joined(start(0), chunk("good"), end("good"))));
      return false;
    };
    sender.offer(packed(joined(file("x", 4))));
    await sender.finish();
  }),
  attack("PACKED that holds more than it says", BROKEN, (sender) => {
    sender.say(packed(joined(LISTED, DONE), 2));
  }),
  attack("PACKED that holds less than it says", BROKEN, (sender) => {
    sender.say(packed(joined(LISTED, DONE), 5));
  }),
  attack("PACKED of one size that inflates to a gigabyte", BROKEN, (sender) => {
    sender.say(encodeRecord({ type: "PACKED", size: 1, packed: bomb() }));
  }),
  attack(
    "PACKED of the largest size that inflates to a gigabyte",
    BROKEN,
    (sender) => {
      sender.say(encodeRecord({ type: "PACKED", size: MAX_PACKED, packed: bomb() }));
    },
    {
      after: () => {
        expect(process.memoryUsage().rss).toBeLessThan(1024 ** 3);
      },
    },
  ),
  attack("PACKED of more than it may be", BROKEN, (sender) => {
    sender.say(
      raw(0x0f, (writer) =>
        writer.varint(MAX_PACKED + 1).raw(deflateRawSync(new Uint8Array(MAX_PACKED + 1))),
      ),
    );
  }),
  attack("PACKED in PACKED", BROKEN, (sender) => {
    sender.say(packed(packed(joined(LISTED, DONE))));
  }),
  attack("PACKED with half a record at its end", BROKEN, (sender) => {
    sender.say(packed(joined(file("x", 4)).subarray(0, 6)));
  }),
  attack("PACKED with half a record, whose other half follows", { ...BROKEN }, (sender) => {
    const whole = joined(file("x", 4));
    sender.say(packed(whole.subarray(0, 6)), whole.subarray(6));
  }),
  attack("PACKED with an empty record", BROKEN, (sender) => {
    sender.say(packed(Uint8Array.of(0)));
  }),
  attack("PACKED with a record too long", BROKEN, (sender) => {
    sender.say(
      packed(
        new Writer()
          .varint(2 ** 40)
          .u8(1)
          .finish(),
      ),
    );
  }),
  attack("PACKED that is no deflate", BROKEN, (sender) => {
    sender.say(
      encodeRecord({ type: "PACKED", size: 10, packed: Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff) }),
    );
  }),
  attack("PACKED without a byte in it", BROKEN, (sender) => {
    sender.say(encodeRecord({ type: "PACKED", size: 10, packed: new Uint8Array() }));
  }),
  attack("PACKED that is cut", BROKEN, (sender) => {
    const all = deflateRawSync(Buffer.from(joined(LISTED, DONE)));
    sender.say(encodeRecord({ type: "PACKED", size: 4, packed: all.subarray(0, -1) }));
  }),
  attack("PACKED with bytes behind the end of its stream", { any: true }, (sender) => {
    const all = Buffer.concat([deflateRawSync(Buffer.from(joined(LISTED, DONE))), Buffer.from("rest")]);
    sender.say(encodeRecord({ type: "PACKED", size: 4, packed: all }));
    sender.stream.end().catch(() => undefined);
  }),
  attack("an empty record", BROKEN, (sender) => {
    sender.say(Uint8Array.of(0));
  }),
  attack("an unknown record", BROKEN, (sender) => {
    sender.say(Uint8Array.of(1, 0x10));
  }),
  attack("a record of a terabyte", BROKEN, (sender) => {
    sender.say(
      new Writer()
        .varint(2 ** 40)
        .u8(1)
        .finish(),
    );
  }),
  attack("a CHUNK of one byte too many", BROKEN, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", MAX_CHUNK + 1));
    await sender.answer("WANT");
    sender.say(start(0), encodeRecord({ type: "CHUNK", content: new Uint8Array(MAX_CHUNK + 1) }));
  }),
  attack("a CHUNK without a byte", BROKEN, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 4));
    await sender.answer("WANT");
    sender.say(start(0), Uint8Array.of(1, 0x0a));
  }),
  attack("setuid, setgid and sticky", BROKEN, (sender) => {
    sender.say(raw(1, (writer) => writer.text("x").varint(1).varint(0o7777).varint(0)));
  }),
];

/** A gigabyte of zeros, deflated twice as small as one would think; made once. */
let bombed: Uint8Array | undefined;
function bomb(): Uint8Array {
  if (!bombed) {
    // Blocks of zeros that end on a byte, many times, and an end.
    const block = deflateRawSync(new Uint8Array(16 * 1024 * 1024), { finishFlush: 3, level: 9 });
    bombed = new Uint8Array(Buffer.concat([...Array<Buffer>(16).fill(block), Buffer.of(3, 0)]));
  }
  return bombed;
}

const approve = (): Partial<ReceiveOptions> => ({ approve: () => Promise.resolve(true) });

/** As many empty files as go without an answer, then totals as they are told. */
async function count(sender: HostileSender, entries: number, total: number, size = 0): Promise<void> {
  sender.say(...Array.from({ length: ENTRY_WINDOW }, (_, i) => file(`f${i}`, size)));
  await sender.answer("COUNT");
  sender.say({ type: "TOTALS", last: false, entries: 1, bytes: 0 });
  sender.say({ type: "TOTALS", last: true, entries, bytes: total });
}

const anything = (place: Place): Readonly<Record<string, string>> => Object.fromEntries(place.contents());

interface Totals {
  readonly entries: number;
  readonly bytes: number;
}

/** What goes beyond what was agreed to is refused, or all of it is. */
const beyond = (what: string, totals: Totals, more: Attack["run"]): Attack =>
  attack(
    what,
    (place) => ({ any: true, maybe: anything(place) }),
    async (sender, place) => {
      await count(sender, totals.entries, totals.bytes);
      await sender.settled(100);
      await more(sender, place);
      await sender.finish();
    },
    {
      options: approve,
      heavy: true,
      after: (ending, _, place) => {
        const names = [...place.contents().keys()].filter((name) => !/^f\d+$/.test(name));
        expect(names.filter((name) => name !== "fits")).toEqual([]);
        expect("error" in ending ? told(ending) : problems(ending)[0]).toBe("REFUSED");
      },
    },
  );

/** Totals that are less than what was listed by then: nobody may be asked to approve them. */
const tooLow = (what: string, totals: Totals, size: number): Attack => {
  const asked: Totals[] = [];
  return attack(
    what,
    (place) => ({ fails: ["PROTOCOL", "REFUSED"], maybe: anything(place) }),
    async (sender) => {
      sender.onanswer = () => false;
      await count(sender, totals.entries, totals.bytes, size);
    },
    {
      options: () => {
        asked.length = 0;
        return {
          approve: ({ total }) => {
            asked.push(total);
            return Promise.resolve(false);
          },
        };
      },
      heavy: true,
      after: () => {
        for (const total of asked)
          expect(total).toMatchObject({ entries: ENTRY_WINDOW, bytes: ENTRY_WINDOW * size });
      },
    },
  );
};

const TOTALS: readonly Attack[] = [
  attack("TOTALS that nobody asked for", { left: { x: "file: good" } }, async (sender) => {
    sender.say({ type: "TOTALS", last: true, entries: 1, bytes: 1 });
    sender.offer(file("x", 4), "good");
    await sender.finish();
  }),
  attack(
    "TOTALS that nobody asked for, and somebody might",
    { left: { x: "file: good" } },
    async (sender) => {
      sender.say({ type: "TOTALS", last: true, entries: 2 ** 40, bytes: 2 ** 50 });
      sender.offer(file("x", 4), "good");
      await sender.finish();
    },
    {
      options: () => ({
        approve: ({ total }) => {
          expect(total).toEqual({ entries: 1, bytes: 4 });
          return Promise.resolve(true);
        },
      }),
    },
  ),
  beyond("more files than were approved", { entries: ENTRY_WINDOW, bytes: 0 }, (sender) => {
    sender.offer(file("more", 0));
  }),
  beyond("more directories than were approved", { entries: ENTRY_WINDOW, bytes: 0 }, (sender) => {
    sender.say(directory("more"));
    sender.offer(file("x", 0));
    sender.say(UP);
  }),
  beyond("more links than were approved", { entries: ENTRY_WINDOW, bytes: 0 }, (sender) => {
    sender.say(link("more", "x"));
  }),
  beyond("a larger file than was approved", { entries: ENTRY_WINDOW + 1, bytes: 1024 }, (sender) => {
    sender.offer(file("more", 1025), new Uint8Array(1025));
  }),
  beyond(
    "larger files than were approved, together",
    { entries: ENTRY_WINDOW + 2, bytes: 1024 },
    (sender) => {
      sender.offer(file("fits", 1000), new Uint8Array(1000));
      sender.offer(file("more", 1000), new Uint8Array(1000));
    },
  ),
  beyond(
    "a file of the largest size after one that was approved",
    { entries: ENTRY_WINDOW + 2, bytes: 1024 },
    (sender) => {
      sender.offer(file("fits", 1000), new Uint8Array(1000));
      sender.offer(file("more", Number.MAX_SAFE_INTEGER - 1), "x");
    },
  ),
  beyond(
    "a file of unknown size where only known ones were approved",
    { entries: ENTRY_WINDOW + 1, bytes: 4 },
    (sender) => {
      sender.offer(file("more", undefined), new Uint8Array(2 * 1024 * 1024));
    },
  ),
  tooLow("totals of fewer entries than were listed by then", { entries: 10, bytes: 0 }, 0),
  tooLow("totals of fewer bytes than were listed by then", { entries: ENTRY_WINDOW, bytes: 1 }, 2 ** 30),
  attack(
    "totals after the last ones",
    (place) => ({ ...BROKEN, maybe: anything(place) }),
    async (sender) => {
      await count(sender, ENTRY_WINDOW, 0);
      sender.say({ type: "TOTALS", last: true, entries: 1_000_000, bytes: 2 ** 40 });
    },
    { options: approve, heavy: true },
  ),
  attack(
    "totals after the last ones, and as many entries",
    (place) => ({ any: true, maybe: anything(place) }),
    async (sender) => {
      await count(sender, ENTRY_WINDOW, 0);
      sender.say({ type: "TOTALS", last: true, entries: 1_000_000, bytes: 2 ** 40 });
      await sender.settled(100);
      sender.offer(file("more", 4), "evil");
      await sender.finish();
    },
    {
      options: approve,
      heavy: true,
      after: (_, __, place) => {
        expect([...place.contents().keys()]).not.toContain("more");
      },
    },
  ),
  attack(
    "totals as large as they can be told",
    (place) => ({ any: true, maybe: anything(place) }),
    async (sender) => {
      await count(sender, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
      await sender.finish();
    },
    { options: approve, heavy: true },
  ),
  attack(
    "content before the user has said yes",
    BROKEN,
    (sender) => {
      sender.onanswer = () => false;
      sender.say(file("x", 4), start(0), chunk("evil"), end("evil"), LISTED);
    },
    { options: approve },
  ),
  attack(
    "content although the user has said no",
    { fails: ["REFUSED", "PROTOCOL"] },
    async (sender) => {
      sender.onanswer = () => false;
      sender.say(file("x", 4), LISTED);
      await new Promise((resolve) => setTimeout(resolve, 50));
      sender.content(0, "evil");
    },
    { options: () => ({ approve: () => Promise.resolve(false) }) },
  ),
  attack(
    "a sender that is gone when the user says yes",
    { fails: ["PEER_GONE"] },
    async (sender) => {
      sender.say(directory("d"), link("l", "x"), UP, link("l", "x"), LISTED);
      await new Promise((resolve) => setTimeout(resolve, 50));
      sender.vanish();
      await sender.ending;
      await new Promise((resolve) => setTimeout(resolve, 300));
    },
    {
      options: () => ({
        approve: () =>
          new Promise((resolve) =>
            setTimeout(() => {
              resolve(true);
            }, 200),
          ),
      }),
    },
  ),
  attack(
    "bad names among what is to be approved",
    { problem: ["REFUSED"], left: { good: "file: good" } },
    async (sender) => {
      sender.offer(file("\u001b[31mevil", 4), "evil");
      sender.offer(file("good", 4), "good");
      sender.say(link("l", "/etc/passwd"));
      await sender.finish();
    },
    {
      options: () => ({
        approve: ({ entries }) => {
          expect(entries.map(({ path }) => path)).toEqual(["good"]);
          return Promise.resolve(true);
        },
      }),
    },
  ),
  attack(
    "an offer of paths as long as they can be",
    { fails: ["REFUSED"] },
    async (sender) => {
      sender.onanswer = () => false;
      for (let i = 0; i < MAX_DEPTH; i++) sender.say(directory("d".repeat(255)));
      for (let i = 0; i < 3000; i++) sender.say(file(`f${i}`, 4));
      for (let i = 0; i < MAX_DEPTH; i++) sender.say(UP);
      sender.say(LISTED);
      await sender.ending;
    },
    {
      options: () => ({
        approve: ({ entries }) => {
          // As somebody does who looks at them all.
          const length = entries.reduce((sum, { path }) => sum + path.length, 0);
          expect(length).toBeLessThan(100 * 1024 ** 2);
          return Promise.resolve(false);
        },
      }),
      heavy: true,
    },
  ),
];

const WORDS: readonly Attack[] = [
  attack(
    "something missing with escapes",
    { problem: ["IO"] },
    async (sender) => {
      sender.say({
        type: "MISSING",
        name: "\u001b[31m\u202ex\n",
        reason: "IO",
        text: "\u001b]0;evil\u0007\u009b",
      });
      await sender.finish();
    },
    { theirWords: true },
  ),
  attack("something missing with a path out", { problem: ["IO"] }, async (sender) => {
    sender.say({ type: "MISSING", name: "../../x", reason: "IO", text: "" });
    await sender.finish();
  }),
  attack(
    "ten thousand that are missing",
    { problem: ["IO"] },
    async (sender) => {
      for (let i = 0; i < 10_000; i++)
        sender.say({
          type: "MISSING",
          name: `${i}-${"x".repeat(1000)}`,
          reason: "IO",
          text: "y".repeat(300),
        });
      await sender.finish();
    },
    {
      after: (ending) => {
        const { refused, failed, list } = result(ending).problems;
        expect(refused + failed).toBe(10_000);
        expect(list.length).toBeLessThanOrEqual(1000);
      },
    },
  ),
  attack(
    "ten thousand bad names",
    { problem: ["REFUSED"] },
    async (sender) => {
      for (let i = 0; i < 10; i++) {
        for (let j = 0; j < 1000; j++) sender.say(file(`../${i}-${j}`, 4));
        await sender.settled();
      }
      await sender.finish();
    },
    {
      after: (ending) => {
        const { refused, list } = result(ending).problems;
        expect(refused).toBe(10_000);
        expect(list.length).toBeLessThanOrEqual(1000);
      },
    },
  ),
  attack(
    "a text longer than it says",
    BROKEN,
    async (sender) => {
      sender.onanswer = () => false;
      sender.say(text(4));
      await sender.answer("WANT");
      sender.say(start(0), chunk("evil!"));
    },
    { options: () => ({ ontext: () => Promise.resolve() }) },
  ),
  attack(
    "a text shorter than it says",
    { problem: ["CHECKSUM", "INCOMPLETE"] },
    async (sender) => {
      sender.onanswer = () => false;
      sender.say(text(5));
      await sender.answer("WANT");
      sender.content(0, "evil");
      await sender.finish();
    },
    { options: () => ({ ontext: () => Promise.reject(new Error("it was shown")) }) },
  ),
  attack(
    "a text with escapes",
    {},
    async (sender) => {
      sender.offer(text(10), "\u001b[31mevil\n");
      await sender.finish();
    },
    { options: () => ({ ontext: () => Promise.resolve() }) },
  ),
  attack(
    "a text, and a file of the name a text might have",
    { left: { "text.txt": "file: good" } },
    async (sender) => {
      sender.offer(text(4), "evil");
      sender.offer(file("text.txt", 4), "good");
      await sender.finish();
    },
    { options: () => ({ ontext: () => Promise.resolve() }) },
  ),
  attack(
    "a text that is no UTF-8",
    { any: true },
    async (sender) => {
      sender.offer(text(2), Uint8Array.of(0xff, 0xfe));
      await sender.finish();
    },
    { options: () => ({ ontext: () => Promise.resolve() }) },
  ),
  attack(
    "a thousand texts",
    { any: true },
    async (sender) => {
      for (let i = 0; i < 1000; i++) sender.offer(text(4), "evil");
      await sender.finish();
    },
    { options: () => ({ ontext: () => Promise.resolve() }) },
  ),
  attack(
    "a text where text.txt is",
    { any: true },
    async (sender) => {
      sender.offer(text(4), "evil");
      await sender.finish();
    },
    {
      before: (place) => {
        place.put("text.txt", { file: "mine" });
      },
      expected: (place) => ({ any: true, left: { "text.txt": "file: mine" }, maybe: anything(place) }),
      after: (_, __, place) => {
        expect(place.contents().get("text.txt")).toBe("file: mine");
      },
    },
  ),
  attack(
    "a text in a directory",
    { any: true, maybe: { d: "directory", "d/text.txt": "file: evil", "text.txt": "file: evil" } },
    async (sender) => {
      sender.say(directory("d"));
      sender.offer(text(4), "evil");
      sender.say(UP);
      await sender.finish();
    },
  ),
  attack("a time at the end of all days", { left: { x: "file: good" } }, async (sender) => {
    sender.offer(file("x", 4, { mtime: Number.MAX_SAFE_INTEGER }), "good");
    await sender.finish();
  }),
  attack(
    "a directory nobody may read, with a file in it",
    { left: { d: "directory", "d/x": "file: good" } },
    async (sender) => {
      sender.say({ type: "ENTRY", entry: { kind: "directory", name: "d", mode: 0, mtime: 0 } });
      sender.offer(file("x", 4), "good");
      sender.say(UP);
      await sender.finish();
    },
  ),
  attack("BROKEN for an id that was not said", BROKEN, (sender) => {
    sender.say(broken(0));
  }),
  attack("BROKEN for a directory", { ...BROKEN, maybe: { d: "directory" } }, (sender) => {
    sender.say(directory("d"), UP, broken(0));
  }),
  attack("BROKEN for what is stored", { fails: ["PROTOCOL"], maybe: { x: "file: good" } }, async (sender) => {
    sender.offer(file("x", 4), "good");
    await sender.settled();
    sender.say(broken(0));
  }),
  attack(
    "BROKEN in the middle of a file, with escapes",
    { problem: ["IO", "INCOMPLETE"] },
    async (sender) => {
      sender.onanswer = () => false;
      sender.say(file("x", 8));
      await sender.answer("WANT");
      sender.say(start(0), chunk("evil"), broken(0, "\u001b[31m\u202eevil\r"), LISTED, DONE);
      sender.stream.end().catch(() => undefined);
    },
    { theirWords: true },
  ),
  attack("BROKEN twice", BROKEN, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 8));
    await sender.answer("WANT");
    sender.say(broken(0), broken(0));
  }),
  attack("content behind BROKEN", BROKEN, async (sender) => {
    sender.onanswer = () => false;
    sender.say(file("x", 8));
    await sender.answer("WANT");
    sender.say(start(0), chunk("evil"), broken(0), chunk("evil"));
  }),
  attack(
    "two files where a name was given for one",
    (place) => ({ any: true, maybe: anything(place) }),
    async (sender) => {
      sender.offer(file("a", 4), "good");
      sender.offer(file("b", 4), "evil");
      await sender.finish();
    },
    {
      options: () => ({ name: "mine" }),
      after: (_, __, place) => {
        expect(place.contents().get("mine") ?? "file: good").toBe("file: good");
      },
    },
  ),
  attack(
    "two files for stdout, at once",
    { any: true, maybe: { a: "file: good", b: "file: fine" } },
    async (sender) => {
      sender.offer(file("a", 4), "good");
      sender.offer(file("b", 4), "fine");
      await sender.finish();
    },
    { options: () => ({ stores: 1 }) },
  ),
  attack("records in single bytes", { left: { x: "file: good" } }, async (sender) => {
    sender.onanswer = (answer) => {
      if (answer.type === "WANT")
        for (const byte of joined(start(0), chunk("good"), end("good"))) sender.say(Uint8Array.of(byte));
      return false;
    };
    const record = joined(file("x", 4));
    for (const byte of record.subarray(0, -1)) sender.say(Uint8Array.of(byte));
    sender.offer(record.subarray(-1));
    await sender.finish();
  }),
];

// ---- names ------------------------------------------------------------------------------------------------------------

/** How a file, a directory or a link ends that has such a name. */
function ofVerdict(verdict: Verdict): Outcome {
  if (verdict === "broken") return BROKEN;
  if (verdict === "refused") return { problem: ["REFUSED"] };
  return verdict === "either" ? { any: true } : {};
}

const ENTRIES = {
  file: async (sender: HostileSender, name: string | Uint8Array) => {
    sender.offer(rawEntry(1, name), "evil");
    await sender.finish();
  },
  directory: async (sender: HostileSender, name: string | Uint8Array) => {
    sender.offer(rawEntry(2, name));
    sender.offer(file("x", 4), "evil");
    sender.say(UP);
    await sender.finish();
  },
  link: async (sender: HostileSender, name: string | Uint8Array) => {
    sender.offer(rawEntry(4, name, "x"));
    await sender.finish();
  },
} as const;

function leftOf(kind: keyof typeof ENTRIES, name: string): Record<string, string> {
  if (kind === "file") return { [name]: "file: evil" };
  if (kind === "link") return { [name]: "link: x" };
  return { [name]: "directory", [`${name}/x`]: "file: evil" };
}

function nameAttacks(windows: boolean): Attack[] {
  return NAMES.flatMap(({ what, name, linux, windows: there, why }) =>
    (["file", "directory", "link"] as const).map((kind) => {
      const verdict = windows ? there : linux;
      const left = verdict === "taken" && typeof name === "string" ? { left: leftOf(kind, name) } : {};
      return attack(
        `a ${kind} with ${what} for a name: ${verdict}, as ${why}`,
        { ...ofVerdict(verdict), ...left },
        (sender) => ENTRIES[kind](sender, name),
        { options: () => ({ windows }) },
      );
    }),
  );
}

function targetAttacks(windows: boolean): Attack[] {
  return TARGETS.map(({ what, target, depth, linux, windows: there, why }) => {
    const verdict = windows ? there : linux;
    const above = Array.from({ length: depth }, (_, i) => ["d", ...Array<string>(i).fill("d")].join("/"));
    const path = [...Array<string>(depth).fill("d"), "link"].join("/");
    const made = { [path]: `link: ${typeof target === "string" ? target : ""}` };
    const directories = Object.fromEntries(above.map((name) => [name, "directory"]));
    const left = verdict === "taken" ? { ...directories, ...made } : verdict === "broken" ? {} : directories;
    return attack(
      `a link ${depth} deep to ${what}: ${verdict}, as ${why}`,
      { ...ofVerdict(verdict), left, maybe: { ...directories, ...(verdict === "either" ? made : {}) } },
      async (sender) => {
        for (let i = 0; i < depth; i++) sender.say(directory("d"));
        sender.offer(rawEntry(4, "link", target));
        for (let i = 0; i < depth; i++) sender.say(UP);
        await sender.finish();
      },
      { options: () => ({ windows }) },
    );
  });
}

// ---- all of them ------------------------------------------------------------------------------------------------------

interface Group {
  readonly name: string;
  readonly attacks: readonly Attack[];
  /** It has to do with how the target treats names, and links. */
  readonly everywhere?: true;
}

const GROUPS: readonly Group[] = [
  { name: "paths", attacks: PATHS, everywhere: true },
  { name: "states", attacks: STATES },
  { name: "encodings", attacks: PACKED },
  { name: "totals", attacks: TOTALS },
  { name: "words and attributes", attacks: WORDS },
  { name: "names, on Linux", attacks: nameAttacks(false) },
  { name: "names, on Windows", attacks: nameAttacks(true) },
  { name: "link targets, on Linux", attacks: targetAttacks(false), everywhere: true },
  { name: "link targets, on Windows", attacks: targetAttacks(true) },
];

describe.each(KINDS.map((kind) => [kind.name, kind] as const))("%s", (_name, kind) => {
  const groups = GROUPS.filter(({ everywhere }) => everywhere ?? kind.all);
  describe.each(groups.map(({ name, attacks }) => [name, attacks] as const))("%s", (_group, attacks) => {
    const possible = attacks.filter(
      (each) => !(kind.careless && each.byTarget) && !(kind.disk && (each.heavy ?? each.disk !== undefined)),
    );
    test.each(possible.map((each) => [each.what, each] as const))("%s", async (_what, each) => {
      await run(kind, each);
    });
  });
});
