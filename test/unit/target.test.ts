import { execFileSync, spawn } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Sink, Source, TargetDirectory } from "../../src/apps/endpoints.ts";
import { ownPart, partBase } from "../../src/node/disk/partname.ts";
import { diskTarget, findPlace, stdoutTarget } from "../../src/node/target.ts";

/** What the filesystem is made to lack, and what is counted. */
const bent = vi.hoisted(() => ({ noLinks: false, syncs: 0 }));
vi.mock("node:fs", async (importOriginal) => {
  const real = await importOriginal<typeof import("node:fs")>();
  return {
    ...real,
    linkSync: (...args: Parameters<typeof real.linkSync>) => {
      if (bent.noLinks) throw Object.assign(new Error("EPERM"), { code: "EPERM" });
      real.linkSync(...args);
    },
    fsync: (...args: Parameters<typeof real.fsync>) => {
      bent.syncs++;
      real.fsync(...args);
    },
  };
});

const WHEN = { mode: 0o640, mtime: 1700000000123457 };
const ROOT = process.getuid?.() === 0;

let root: string;
let outside: string;
let targets: TargetDirectory[];
beforeEach(() => {
  const base = mkdtempSync(join(tmpdir(), "dcpipe-target-"));
  chmodSync(base, 0o755);
  root = join(base, "root");
  outside = join(base, "outside");
  mkdirSync(root);
  mkdirSync(outside);
  targets = [];
});
afterEach(async () => {
  bent.noLinks = false;
  for (const target of targets) await target.close();
  execFileSync("chmod", ["-R", "u+rwx", join(root, "..")]);
  rmSync(join(root, ".."), { recursive: true, force: true });
});

const at = (path: string): string => join(root, path);
const content = (path: string): string => readFileSync(at(path), "utf8");
const names = (path = "."): string[] => readdirSync(at(path)).sort();
const modeOf = (path: string): number => lstatSync(at(path)).mode & 0o7777;
const mtimeOf = (path: string): number => Number(lstatSync(at(path), { bigint: true }).mtimeNs / 1000n);

async function store(target: TargetDirectory, name: string, text: string, replace = false): Promise<void> {
  const sink = await target.create(name, 0);
  try {
    if (text !== "") await sink.write(Buffer.from(text));
    await sink.commit(WHEN, replace);
  } finally {
    await sink.abandon();
  }
}

async function drain(source: Source | undefined): Promise<string> {
  const chunks: Buffer[] = [];
  for (let chunk; (chunk = await source?.read());) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString();
}

/** The texts travel to the other side: what they tell of this machine is below the target. */
async function refused(work: Promise<unknown>, code: string, text: string): Promise<void> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason as Error,
  );
  expect(error).toMatchObject({ code, message: expect.stringContaining(text) as string });
  expect(error?.message).not.toContain(root);
  expect(error?.message).not.toContain("/proc");
}

/** The name of a part of a process that is no more. */
function deadPart(name: string, pid = 4_000_000, start = 1): string {
  return `${partBase(name)}.${pid}-${start}.dcpipe-part`;
}

async function asNobody<T>(work: () => Promise<T>): Promise<T> {
  if (!ROOT) return work();
  chownSync(root, 65534, 65534);
  process.seteuid?.(65534);
  try {
    return await work();
  } finally {
    process.seteuid?.(0);
  }
}

/** A test that needs root. Without it it is skipped on a desk, and fails in CI. */
function rootTest(name: string, body: () => Promise<void>): void {
  test(name, async (context) => {
    if (!ROOT && process.env["CI"] !== "true") context.skip("needs root, for other users and mounts");
    await body();
  });
}

describe.each([
  ["by descriptors", process.platform !== "linux"],
  ["by paths", true],
])("a directory on disk, %s", (_, paths) => {
  const open = async (path = "."): Promise<TargetDirectory> => {
    const target = await diskTarget(at(path), { paths });
    targets.push(target);
    return target;
  };

  describe("files", () => {
    test("get their content, mode and time", async () => {
      const target = await open();
      expect(target).toMatchObject({ fresh: false, folding: process.platform !== "linux" });
      await store(target, "a", "hello");
      await store(target, "empty", "");
      expect(names()).toEqual(["a", "empty"]);
      expect(content("a")).toBe("hello");
      expect([modeOf("a"), mtimeOf("a")]).toEqual([WHEN.mode, WHEN.mtime]);
      for (const mode of [0, 0o7777, 0o400]) {
        const sink = await target.create(`m${mode}`, 0);
        expect(modeOf(ownPart(`m${mode}`))).toBe(0o600);
        await sink.commit({ mode, mtime: 0 }, false);
        expect([modeOf(`m${mode}`), mtimeOf(`m${mode}`)]).toEqual([mode & 0o777, 0]);
      }
    });

    test("are written in pieces of any size", async () => {
      const target = await open();
      const sink = await target.create("a", 0);
      const pieces = [1, 64 * 1024, 64 * 1024 + 1, 300_000].map((size, i) => Buffer.alloc(size, `${i}x`));
      for (const piece of pieces) await sink.write(piece);
      await sink.commit(WHEN, false);
      expect(readFileSync(at("a")).equals(Buffer.concat(pieces))).toBe(true);
      await refused(sink.write(Buffer.from("x")), "IO", "a is closed already");
    });

    test("do not replace what came meanwhile, unless told to", async () => {
      const target = await open();
      const plants: [string, () => void][] = [
        [
          "file",
          () => {
            writeFileSync(at("n"), "theirs");
          },
        ],
        [
          "link",
          () => {
            symlinkSync(join(outside, "x"), at("n"));
          },
        ],
      ];
      for (const [how, plant] of plants) {
        const sink = await target.create("n", 0);
        await sink.write(Buffer.from("ours"));
        plant();
        await refused(
          sink.commit(WHEN, false),
          "EXISTS",
          "n came into being meanwhile; what arrived is kept as n.",
        );
        await sink.abandon();
        expect(content(ownPart("n")), how).toBe("ours");
        await store(target, "n", "new", true);
        expect(lstatSync(at("n")).isFile()).toBe(true);
        expect(content("n")).toBe("new");
        rmSync(at("n"));
      }
      expect(readdirSync(outside)).toEqual([]);
      mkdirSync(at("n"));
      await refused(store(target, "n", "x", false), "EXISTS", "n came into being meanwhile");
      await refused(store(target, "n", "x", true), "EXISTS", "n is a directory");
    });

    test("are stored where there are no hard links", async () => {
      bent.noLinks = true;
      const target = await open();
      await store(target, "a", "1");
      expect(content("a")).toBe("1");
      await refused(store(target, "a", "2"), "EXISTS", "came into being meanwhile");
      expect(content("a")).toBe("1");
      await store(target, "a", "3", true);
      expect(content("a")).toBe("3");
    });

    test("leave a part when they are given up, unless it is empty", async () => {
      const target = await open();
      const [some, none, busy] = [
        await target.create("some", 0),
        await target.create("none", 0),
        await target.create("busy", 0),
      ];
      await some.write(Buffer.from("x"));
      const writing = busy.write(Buffer.alloc(5_000_000));
      await Promise.all([some.abandon(), none.abandon(), busy.abandon(), writing.catch(() => undefined)]);
      expect(names()).toEqual([ownPart("busy"), ownPart("some")]);
      await some.abandon();
    });

    test("share the fsync of their directory", async () => {
      const target = await open();
      const sinks = await Promise.all(Array.from({ length: 50 }, (_, i) => target.create(`f${i}`, 0)));
      bent.syncs = 0;
      await Promise.all(sinks.map((sink) => sink.commit(WHEN, false)));
      expect(names()).toHaveLength(50);
      expect(bent.syncs).toBeGreaterThan(50);
      expect(bent.syncs).toBeLessThan(90);
    });

    test("have names of 255 bytes, and parts of them", async () => {
      const target = await open();
      for (const name of ["x".repeat(255), "é".repeat(127) + "x", "💾".repeat(63), `${"x".repeat(254)}y`]) {
        const sink = await target.create(name, 0);
        await sink.write(Buffer.from(name));
        await sink.abandon();
        const again = await open();
        expect(await drain((await again.part(name))?.content)).toBe(name);
        const more = await again.create(name, Buffer.byteLength(name));
        await more.commit(WHEN, false);
        expect(content(name)).toBe(name);
      }
      expect(names()).toHaveLength(4);
      await refused(target.find("x".repeat(256)), "IO", "the name is too long");
    });
  });

  describe("what is there", () => {
    test("is told", async () => {
      mkdirSync(at("d"));
      writeFileSync(at("f"), "123");
      symlinkSync("f", at("l"));
      execFileSync("mkfifo", [at("p")]);
      const target = await open();
      expect(await target.find("nothing")).toBeUndefined();
      expect(await target.find("d")).toEqual({ kind: "directory", size: 0 });
      expect(await target.find("f")).toEqual({ kind: "file", size: 3 });
      expect(await target.find("l")).toEqual({ kind: "link", size: 0, target: "f" });
      expect(await target.find("p")).toEqual({ kind: "other", size: 0 });
    });

    test("is read, but for links and what is no file", async () => {
      writeFileSync(at("f"), "123");
      writeFileSync(at("large"), "x".repeat(1_000_000));
      symlinkSync("f", at("l"));
      mkdirSync(at("d"));
      execFileSync("mkfifo", [at("p")]);
      const target = await open();
      expect(await drain(await target.read("f"))).toBe("123");
      expect(await drain(await target.read("large"))).toHaveLength(1_000_000);
      await refused(target.read("l"), "IO", "l is no regular file");
      await refused(target.read("p"), "IO", "p is no regular file");
      await refused(target.read("d"), "IO", "d is no regular file");
      await refused(target.read("nothing"), "IO", "cannot read nothing: no such file or directory");
    });
  });

  describe("directories", () => {
    test("are marked until they are finished", async () => {
      const target = await open();
      const sub = await target.directory("d");
      expect(sub.fresh).toBe(true);
      expect(modeOf("d")).toBe(0o1700);
      const deep = await sub.directory("e");
      await store(deep, "f", "x");
      await deep.finish({ mode: 0, mtime: 1 }, false);
      await sub.finish({ mode: 0o7555, mtime: 1234567890123456 }, false);
      await target.finish({ mode: 0, mtime: 0 }, false);
      expect([modeOf("d"), mtimeOf("d")]).toEqual([0o555, 1234567890123456]);
      expect([modeOf("d/e"), mtimeOf("d/e")]).toEqual([0, 1]);
      expect(modeOf(".")).not.toBe(0);
    });

    test("can be closed to their owner, with content", async () => {
      await asNobody(async () => {
        const target = await open();
        const sub = await target.directory("d");
        await store(await sub.directory("e"), "f", "x");
        await sub.finish({ mode: 0o555, mtime: 7 }, false);
        expect([modeOf("d"), mtimeOf("d")]).toEqual([0o555, 7]);
        const shut = await target.directory("shut");
        await store(shut, "f", "x");
        await shut.finish({ mode: 0, mtime: 8 }, false);
        expect([modeOf("shut"), mtimeOf("shut")]).toEqual([0, 8]);
        const again = await target.directory("d");
        expect(again.fresh).toBe(false);
        await refused(again.create("new", 0), "IO", "cannot write d/new: permission denied");
        await refused(again.directory("new"), "IO", "cannot make the directory d/new: permission denied");
        expect(await again.find("e")).toMatchObject({ kind: "directory" });
        if (!paths)
          await refused(target.directory("shut"), "IO", "cannot make the directory shut: permission denied");
      });
    });

    test("of a run that was killed are ours, others are not", async () => {
      for (const name of ["killed", "theirs", "forced", "sticky"]) mkdirSync(at(name));
      chmodSync(at("killed"), 0o1700);
      chmodSync(at("sticky"), 0o1777);
      const target = await open();
      const finish = async (name: string, force: boolean): Promise<void> => {
        const sub = await target.directory(name);
        expect(sub.fresh).toBe(false);
        utimesSync(at(name), 5, 5);
        await sub.finish({ mode: 0o711, mtime: 1 }, force);
      };
      const before = modeOf("theirs");
      await finish("killed", false);
      await finish("theirs", false);
      await finish("forced", true);
      await finish("sticky", true);
      expect([modeOf("killed"), mtimeOf("killed")]).toEqual([0o711, 1]);
      expect([modeOf("theirs"), mtimeOf("theirs")]).toEqual([before, 5e6]);
      expect([modeOf("forced"), mtimeOf("forced")]).toEqual([0o711, 1]);
      expect(modeOf("sticky")).toBe(0o1711);
    });

    test("keep the group that they inherit", async () => {
      chmodSync(root, 0o2755);
      if (!(statSync(root).mode & 0o2000)) return;
      const target = await open();
      const sub = await target.directory("d");
      expect([sub.fresh, modeOf("d")]).toEqual([true, 0o3700]);
      await sub.close();
      const again = await target.directory("d");
      await again.finish({ mode: 0o750, mtime: 0 }, false);
      expect(modeOf("d")).toBe(0o2750);
    });

    test("are not made where something else stands", async () => {
      writeFileSync(at("f"), "");
      symlinkSync(outside, at("l"));
      symlinkSync("nowhere", at("dangling"));
      const target = await open();
      for (const name of ["f", "l", "dangling"])
        await refused(target.directory(name), "EXISTS", `${name} exists already and is no directory`);
    });

    test("may be hundreds in each other", async () => {
      const target = await open();
      const chain = [target];
      for (let i = 0; i < 600; i++) chain.push(await (chain.at(-1) ?? target).directory("d"));
      await store(chain.at(-1) ?? target, "f", "deep");
      while (chain.length > 1) await chain.pop()?.finish({ mode: 0o755, mtime: 0 }, false);
      await store(target, "f", "high");
      expect(content(`${"d/".repeat(600)}f`)).toBe("deep");
    });
  });

  describe("parts", () => {
    test("of the dead are gone on with", async () => {
      writeFileSync(at(deadPart("f")), "0123456789");
      const target = await open();
      const part = await target.part("f");
      expect(part?.size).toBe(10);
      expect(names()).toEqual([ownPart("f")]);
      expect(await drain(part?.content)).toBe("0123456789");
      const sink = await target.create("f", 4);
      await sink.write(Buffer.from("xyz"));
      await sink.commit(WHEN, false);
      expect(content("f")).toBe("0123xyz");
      expect(names()).toEqual(["f"]);
      expect(modeOf("f")).toBe(WHEN.mode);
    });

    test("are not gone on with from nothing", async () => {
      writeFileSync(at(deadPart("f")), "0123456789");
      const target = await open();
      const part = await target.part("f");
      part?.content.cancel();
      expect(await part?.content.read()).toBeUndefined();
      await store(target, "f", "new");
      expect(names()).toEqual(["f"]);
      expect(content("f")).toBe("new");
      await refused(target.create("g", 5), "IO", "nothing is left of g from an earlier try");
    });

    test("of a process that lives stay its own; of one that was killed do not", async () => {
      const child = spawn("sleep", ["1000"]);
      const ended = new Promise((resolve) => child.once("exit", resolve));
      const pid = child.pid ?? 0;
      const stat = process.platform === "linux" ? readFileSync(`/proc/${pid}/stat`, "utf8") : undefined;
      const start = stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
      const part = start === undefined ? `f.${pid}.dcpipe-part` : deadPart("f", pid, Number(start));
      const untagged = `g.${pid}.dcpipe-part`;
      writeFileSync(at(part), "theirs");
      writeFileSync(at(untagged), "theirs");
      // The same number, another process.
      if (start !== undefined) writeFileSync(at(deadPart("h", pid, Number(start) + 1)), "old");
      const target = await open();
      expect(await target.part("f")).toBeUndefined();
      expect(await target.part("g")).toBeUndefined();
      if (start !== undefined) expect((await target.part("h"))?.size).toBe(3);
      await store(target, "f", "ours");
      expect(content(part)).toBe("theirs");
      child.kill("SIGKILL");
      await ended;
      expect((await target.part("f"))?.size).toBe(6);
      expect((await target.part("g"))?.size).toBe(6);
    });

    test("of which there are several: the largest, and the others go", async () => {
      writeFileSync(at(deadPart("f", 4_000_001)), "12");
      writeFileSync(at(deadPart("f", 4_000_002)), "1234");
      writeFileSync(at(deadPart("f", 4_000_003)), "");
      symlinkSync("x", at(deadPart("f", 4_000_004)));
      writeFileSync(at(ownPart("f")), "123");
      writeFileSync(at(deadPart("f.g")), "12");
      const target = await open();
      expect(await drain((await target.part("f"))?.content)).toBe("1234");
      expect(names()).toEqual([deadPart("f.g"), ownPart("f")].sort());
      // Asked again, it is the same one.
      expect((await target.part("f"))?.size).toBe(4);
      await target.close();
      expect((await (await open()).part("f"))?.size).toBe(4);
    });

    test("that are no such thing are left alone", async () => {
      writeFileSync(join(outside, "secret"), "secret");
      symlinkSync(join(outside, "secret"), at(deadPart("link")));
      linkSync(join(outside, "secret"), at(deadPart("hard")));
      mkdirSync(at(deadPart("directory")));
      execFileSync("mkfifo", [at(deadPart("fifo"))]);
      for (const name of ["x.part", "x.dcpipe-part", "x.y.dcpipe-part", ".4000000-1.dcpipe-part"])
        writeFileSync(at(name), "x");
      const target = await open();
      for (const name of ["link", "hard", "directory", "fifo", "x", ""])
        expect(await target.part(name), name).toBeUndefined();
      expect(readFileSync(join(outside, "secret"), "utf8")).toBe("secret");
      expect(names()).toContain(deadPart("hard"));
    });

    test("of a file that is there whole go, whatever they are", async () => {
      writeFileSync(at("f"), "whole");
      linkSync(at("f"), at(deadPart("f", 4_000_001)));
      writeFileSync(at(deadPart("f", 4_000_002)), "wh");
      writeFileSync(at(deadPart("f", process.pid, 1)), "w");
      symlinkSync("x", at("l"));
      linkSync(at("l"), at(deadPart("l")));
      const target = await open();
      for (const name of ["f", "l", "none"]) await target.forget(name);
      expect(names()).toEqual(["f", "l"]);
      expect(content("f")).toBe("whole");
    });

    test("of a process that lives stay when the file is there", async () => {
      const { pid } = process;
      const start = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]?.split(" ")[19];
      const other = `f.${process.ppid}-${readFileSync(`/proc/${process.ppid}/stat`, "latin1").split(") ")[1]?.split(" ")[19] ?? ""}.dcpipe-part`;
      expect(start).toBeDefined();
      writeFileSync(at("f"), "whole");
      writeFileSync(at(other), "wh");
      await (await open()).forget("f");
      expect(names()).toEqual(["f", other].sort());
    });

    test("that have their file's mode already, read-only, are gone on with", async () => {
      await asNobody(async () => {
        writeFileSync(at(deadPart("f")), "0123");
        chmodSync(at(deadPart("f")), 0o444);
        const target = await open();
        expect(await target.part("f")).toMatchObject({ size: 4 });
        const sink = await target.create("f", 4);
        await sink.write(Buffer.from("4567"));
        await sink.commit(WHEN, false);
        expect(content("f")).toBe("01234567");
      });
    });

    test("that are probes of a process that is no more go", async () => {
      const probe = deadPart("Dcpipe-probe-\u00e9");
      writeFileSync(at(probe), "");
      await (await open()).part("f");
      expect(names()).toEqual([]);
    });

    test("that are a second name of the whole file go", async () => {
      writeFileSync(at("f"), "whole");
      linkSync(at("f"), at(deadPart("f")));
      const target = await open();
      expect(await target.part("f")).toBeUndefined();
      expect(names()).toEqual(["f"]);
    });

    test("that another receiver in this process has are not taken", async () => {
      const [one, two] = [await open(), await open()];
      const sink = await one.create("f", 0);
      await sink.write(Buffer.from("x"));
      expect(await two.part("f")).toBeUndefined();
      await refused(two.create("f", 0), "EXISTS", "f is being received already");
      await sink.abandon();
      writeFileSync(at(deadPart("g")), "x");
      expect((await one.part("g"))?.size).toBe(1);
      expect(await two.part("g")).toBeUndefined();
      expect(await (await open()).part("g")).toBeUndefined();
      await one.close();
      expect((await (await open()).part("g"))?.size).toBe(1);
    });

    test("are not looked for in what we have just made", async () => {
      const sub = await (await open()).directory("d");
      writeFileSync(at(`d/${deadPart("f")}`), "planted");
      expect(await sub.part("f")).toBeUndefined();
    });

    test("that could not get their name can be gone on with, whatever their mode", async () => {
      await asNobody(async () => {
        const target = await open();
        const sink = await target.create("f", 0);
        await sink.write(Buffer.from("123"));
        writeFileSync(at("f"), "theirs");
        await refused(sink.commit({ mode: 0, mtime: 0 }, false), "EXISTS", "came into being meanwhile");
        rmSync(at("f"));
        const again = await open();
        expect(await drain((await again.part("f"))?.content)).toBe("123");
        await (await again.create("f", 3)).commit(WHEN, false);
        expect(content("f")).toBe("123");
        // Killed just before it got its name.
        writeFileSync(at(deadPart("g")), "whole", { mode: 0o400 });
        const third = await open();
        expect(await third.part("g")).toMatchObject({ size: 5 });
        await (await third.create("g", 5)).commit(WHEN, false);
        expect(names()).toEqual(["f", "g"]);
      });
    });

    rootTest("of other users are left alone", async () => {
      writeFileSync(at(deadPart("f")), "theirs");
      chownSync(at(deadPart("f")), 65534, 65534);
      expect(await (await open()).part("f")).toBeUndefined();
      expect(names()).toEqual([deadPart("f")]);
    });
  });

  describe("somebody who meddles", () => {
    test("puts a link or a file where a part will be", async () => {
      writeFileSync(join(outside, "x"), "theirs");
      symlinkSync(join(outside, "x"), at(ownPart("f")));
      writeFileSync(at(ownPart("g")), "theirs");
      mkdirSync(at(ownPart("h")));
      const target = await open();
      await store(target, "f", "ours");
      await store(target, "g", "ours");
      await refused(target.create("h", 0), "IO", "cannot write h: ");
      expect([content("f"), content("g")]).toEqual(["ours", "ours"]);
      expect(readFileSync(join(outside, "x"), "utf8")).toBe("theirs");
    });

    test.each(["link", "file", "nothing"])("puts a %s in place of a part", async (what) => {
      const target = await open();
      for (const replace of [false, true]) {
        const sink = await target.create("f", 0);
        await sink.write(Buffer.from("ours"));
        rmSync(at(ownPart("f")));
        writeFileSync(join(outside, "x"), "theirs");
        if (what === "link") symlinkSync(join(outside, "x"), at(ownPart("f")));
        if (what === "file") writeFileSync(at(ownPart("f")), "theirs");
        await refused(sink.commit(WHEN, replace), "IO", "what arrived of f was moved or replaced meanwhile");
        await sink.abandon();
        expect(await target.find("f")).toBeUndefined();
        expect(readFileSync(join(outside, "x"), "utf8")).toBe("theirs");
        rmSync(at(ownPart("f")), { force: true });
      }
    });

    test("writes into a part", async () => {
      const target = await open();
      const sink = await target.create("f", 0);
      await sink.write(Buffer.from("ours"));
      appendFileSync(at(ownPart("f")), "theirs");
      await refused(sink.commit(WHEN, false), "IO", "f was written to by somebody else meanwhile");
      writeFileSync(at(deadPart("g")), "123");
      await target.close();
      const again = await open();
      await again.part("g");
      appendFileSync(at(ownPart("g")), "x");
      await refused(again.create("g", 3), "IO", `${ownPart("g")} was changed meanwhile`);
    });

    test("puts a link in place of a claimed part", async () => {
      writeFileSync(at(deadPart("f")), "123");
      writeFileSync(join(outside, "x"), "secret");
      const target = await open();
      const part = await target.part("f");
      rmSync(at(ownPart("f")));
      symlinkSync(join(outside, "x"), at(ownPart("f")));
      await refused(drain(part?.content), "IO", "");
      await refused(target.create("f", 3), "IO", `${ownPart("f")} is no regular file`);
      expect(readFileSync(join(outside, "x"), "utf8")).toBe("secret");
    });

    test("puts a link to outside in place of a directory", async () => {
      const target = await open();
      const sub = await target.directory("d");
      expect(await sub.find("f")).toBeUndefined();
      renameSync(at("d"), at("away"));
      symlinkSync(outside, at("d"));
      writeFileSync(join(outside, "secret"), "secret");
      const tries = [
        store(sub, "f", "x"),
        sub.link("l", "x", 0, false),
        sub.directory("e"),
        sub.find("secret").then((found) => {
          expect(found).toBeUndefined();
        }),
      ];
      for (const result of await Promise.allSettled(tries)) {
        // Held by a descriptor, it is still the directory it was, wherever it stands now.
        expect(result.status).toBe(paths ? "rejected" : "fulfilled");
        if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "IO" });
      }
      await refused(sub.read("secret"), "IO", paths ? "d was moved or replaced meanwhile" : "no such file");
      await sub.finish({ mode: 0o700, mtime: 0 }, true).catch(() => undefined);
      expect(readdirSync(outside)).toEqual(["secret"]);
      expect(names("away")).toEqual(paths ? [] : ["e", "f", "l"]);
      expect(statSync(outside).mtimeMs).toBeGreaterThan(1e6);
    });

    test("does so with a directory that was closed to make room", async () => {
      const target = await open();
      const first = await target.directory("first");
      const kept = await target.directory("kept");
      for (let i = 0; i < 300; i++) await (await target.directory(`d${i}`)).find("x");
      await store(kept, "f", "x");
      expect(content("kept/f")).toBe("x");
      renameSync(at("first"), at("away"));
      symlinkSync(outside, at("first"));
      await refused(store(first, "f", "x"), "IO", "first was moved or replaced meanwhile");
      rmSync(at("first"));
      mkdirSync(at("first"));
      await refused(store(first, "f", "x"), "IO", "first was moved or replaced meanwhile");
      expect(readdirSync(outside)).toEqual([]);
      if (process.platform === "linux" && !paths) {
        const held = readdirSync("/proc/self/fd").filter((fd) => {
          try {
            return readlinkSync(`/proc/self/fd/${fd}`).startsWith(root);
          } catch {
            return false;
          }
        });
        expect(held.length).toBeLessThanOrEqual(200);
      }
    });
  });

  describe("links", () => {
    test("are made in one step", async () => {
      const target = await open();
      await target.link("l", "../anywhere", 1234567890123456, false);
      expect(readlinkSync(at("l"))).toBe("../anywhere");
      expect(mtimeOf("l")).toBe(1234567890123456);
      await refused(target.link("l", "x", 0, false), "EXISTS", "l exists already");
      await target.link("l", "other", 0, true);
      expect(readlinkSync(at("l"))).toBe("other");
      writeFileSync(at("f"), "");
      await target.link("f", "other", 0, true);
      expect(readlinkSync(at("f"))).toBe("other");
      mkdirSync(at("d"));
      await refused(target.link("d", "x", 0, true), "EXISTS", "d is a directory");
      await target.link("x".repeat(255), "x", 0, true);
      expect(names()).toEqual(["d", "f", "l", "x".repeat(255)]);
    });

    test("to nothing, or with a zero in them, are refused", async () => {
      const target = await open();
      await refused(target.link("l", "", 0, false), "IO", "cannot make the link l: ");
      await refused(target.link("l", "a\0b", 0, false), "IO", "cannot make the link l: ");
      expect(names()).toEqual([]);
    });
  });

  rootTest("a full disk is told, and what arrived is kept", async () => {
    mkdirSync(at("small"));
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k,nr_inodes=20", "tmpfs", at("small")]);
    try {
      const target = await open("small");
      const sink = await target.create("f", 0);
      await sink.write(Buffer.alloc(100_000));
      await refused(sink.write(Buffer.alloc(1_000_000)), "NO_SPACE", "the disk is full");
      await refused(sink.write(Buffer.alloc(1000)), "NO_SPACE", "the disk is full");
      await sink.abandon();
      expect(statSync(at(`small/${ownPart("f")}`)).size).toBeGreaterThanOrEqual(100_000);
      const many = async (): Promise<void> => {
        for (let i = 0; i < 30; i++) await target.directory(`d${i}`);
      };
      await refused(many(), "NO_SPACE", "the disk is full");
      await refused(target.link("l", "x", 0, false), "NO_SPACE", "the disk is full");
      await refused(target.create("g", 0), "NO_SPACE", "the disk is full");
      await target.close();
    } finally {
      execFileSync("umount", ["-l", at("small")]);
    }
  });

  test("a directory that is none, or may not be written into, is no target", async () => {
    writeFileSync(at("f"), "");
    await refused(open("f"), "IO", "cannot write into the target directory: ");
    await refused(open("nothing"), "IO", "no such file or directory");
    mkdirSync(at("shut"));
    chmodSync(at("shut"), 0o555);
    await asNobody(() =>
      refused(open("shut"), "IO", "cannot write into the target directory: permission denied"),
    );
  });
});

describe("the place for -o PATH", () => {
  test("is a directory, or a name in one", async () => {
    mkdirSync(at("d"));
    writeFileSync(at("f"), "theirs");
    expect(await findPlace(at("d"))).toEqual({ directory: at("d"), name: undefined });
    expect(await findPlace(`${at("new/deep")}/`)).toEqual({
      directory: `${at("new/deep")}/`,
      name: undefined,
    });
    expect(statSync(at("new/deep")).isDirectory()).toBe(true);
    expect(await findPlace(at("f"))).toEqual({ directory: root, name: "f" });
    expect(await findPlace(at("g"))).toEqual({ directory: root, name: "g" });
    expect(names()).toEqual(["d", "f", "new"]);
    expect(content("f")).toBe("theirs");
  });

  test("is none", async () => {
    writeFileSync(at("f"), "");
    execFileSync("mkfifo", [at("p")]);
    await expect(findPlace(at("no/where"))).rejects.toMatchObject({ code: "IO" });
    await expect(findPlace(at("f/x"))).rejects.toMatchObject({ code: "IO" });
    await expect(findPlace(`${at("f")}/`)).rejects.toMatchObject({ code: "IO" });
    await expect(findPlace(at("p"))).rejects.toMatchObject({
      code: "EXISTS",
      message: `${at("p")} is a FIFO, and is left as it is`,
    });
    mkdirSync(at("shut"));
    chmodSync(at("shut"), 0o555);
    await asNobody(async () => {
      const text = `cannot write into ${at("shut")}: permission denied`;
      await expect(findPlace(at("shut"))).rejects.toMatchObject({ code: "IO", message: text });
      await expect(findPlace(at("shut/x"))).rejects.toMatchObject({ code: "IO", message: text });
    });
  });
});

describe("standard output", () => {
  test("takes files one after another, and nothing else", async () => {
    let out = "";
    let ends = 0;
    const sink: Sink = {
      write: (chunk) => {
        out += Buffer.from(chunk).toString();
        return Promise.resolve();
      },
      end: () => {
        ends++;
        return Promise.resolve();
      },
    };
    const target = stdoutTarget(sink);
    await store(target, "a", "one ");
    await store(target, "a", "two");
    expect(out).toBe("one two");
    expect(await target.find("a")).toBeUndefined();
    expect(await target.part("a")).toBeUndefined();
    const refusal = (what: string): object => ({
      code: "REFUSED",
      message: `a ${what} cannot go to stdout; dcpipe pipe with tar can`,
    });
    await expect(target.directory("d")).rejects.toMatchObject(refusal("directory"));
    await expect(target.link("l", "x", 0, true)).rejects.toMatchObject(refusal("link"));
    await target.finish(WHEN, false);
    await target.close();
    expect(ends).toBe(1);
  });
});
