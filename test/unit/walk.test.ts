import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  closeSync,
  existsSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { SourceEntry, SourceFile } from "../../src/apps/endpoints.ts";
import { codec } from "../../src/node/codec.ts";
import { checkPaths, walkPaths, type WalkOptions } from "../../src/node/walk.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "dcpipe-walk-"));
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

const at = (path: string): string => join(root, path);

async function entries(paths: string[], options?: WalkOptions): Promise<SourceEntry[]> {
  const found: SourceEntry[] = [];
  for await (const entry of walkPaths(paths, options)()) found.push(entry);
  return found;
}

/** "dir{", "}", "file:size", "link>target", "name!text". */
function short(entry: SourceEntry): string {
  switch (entry.kind) {
    case "file":
      return `${entry.name}:${entry.size ?? "?"}`;
    case "directory":
      return `${entry.name}{`;
    case "up":
      return "}";
    case "link":
      return `${entry.name}>${entry.target}`;
    case "missing":
      return `${entry.name}!${entry.text}`;
    case "text":
      return "text";
  }
}

async function walk(paths: string[], options?: WalkOptions): Promise<string> {
  return (await entries(paths, options)).map(short).join(" ");
}

async function fileAt(path: string, options?: WalkOptions): Promise<SourceFile> {
  const [entry] = await entries([path], options);
  if (entry?.kind !== "file") throw new Error(`no file: ${entry ? short(entry) : "nothing"}`);
  return entry;
}

async function contentOf(file: SourceFile): Promise<{ content: Buffer; changed: string | undefined }> {
  const source = await file.open();
  const chunks: Buffer[] = [];
  for (let chunk; (chunk = await source.read());) chunks.push(Buffer.from(chunk));
  const changed = await source.changed();
  source.cancel();
  return { content: Buffer.concat(chunks), changed };
}

/** Descriptors of what is in the root, where the system tells. */
function openDescriptors(): number {
  if (process.platform !== "linux") return 0;
  const open = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return "";
    }
  });
  return open.filter((path) => path.startsWith(root)).length;
}

/** Bytes in use after a collection. */
function memory(): number {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** What is refused to others is not to root. */
async function asNobody<T>(work: () => Promise<T>): Promise<T> {
  if (process.getuid?.() !== 0) return work();
  process.seteuid?.(65534);
  try {
    return await work();
  } finally {
    process.seteuid?.(0);
  }
}

describe("a walk", () => {
  test("goes depth first, in order, through empty files and directories too", async () => {
    mkdirSync(at("t/b/empty"), { recursive: true });
    writeFileSync(at("t/b/x"), "12345");
    writeFileSync(at("t/a"), "");
    writeFileSync(at("t/c"), "1");
    symlinkSync("../nowhere", at("t/l"));
    expect(await walk([at("t")])).toBe("t{ a:0 b{ empty{ } x:5 } c:1 l>../nowhere }");
    const tree = walkPaths([at("t/a"), at("t/b")]);
    for (let again = 0; again < 2; again++) {
      const found: string[] = [];
      for await (const entry of tree()) found.push(short(entry));
      expect(found.join(" ")).toBe("a:0 b{ empty{ } x:5 }");
    }
  });

  test("tells modes and times", async () => {
    mkdirSync(at("d"));
    writeFileSync(at("d/f"), "x");
    chmodSync(at("d/f"), 0o4751);
    symlinkSync("f", at("d/l"));
    utimesSync(at("d/f"), 1700000000.1234567, 1700000000.1234567);
    lutimesSync(at("d/l"), 1600000000, 1600000000);
    chmodSync(at("d"), 0o1750);
    utimesSync(at("d"), 1500000000, 1500000000);
    const [directory, file, link] = await entries([at("d")]);
    expect(directory).toMatchObject({ mode: 0o750, mtime: 1500000000e6 });
    expect(file).toMatchObject({ mode: 0o751, mtime: 1700000000123456 });
    expect(link).toMatchObject({ mtime: 1600000000e6 });
  });

  test("gives the paths names", async () => {
    mkdirSync(at("real/in"), { recursive: true });
    symlinkSync("real", at("link"));
    expect(await walk([at("link")])).toBe("link>real");
    expect(await walk([`${at("link")}/`])).toBe("link{ in{ } }");
    expect(await walk([`${at("link")}/.`])).toBe("real{ in{ } }");
    expect(await walk([`${at("link")}/in/..`])).toBe("real{ in{ } }");
    const before = process.cwd();
    process.chdir(at("real/in"));
    try {
      expect(await walk(["."])).toBe("in{ }");
      expect(await walk([".."])).toBe("real{ in{ } }");
    } finally {
      process.chdir(before);
    }
    const all = walkPaths(["/"])()[Symbol.asyncIterator]();
    expect((await all.next()).value).toMatchObject({ kind: "directory", name: "root" });
    await all.return?.();
  });

  test("follows links when told to, and notices loops", async () => {
    mkdirSync(at("t/sub"), { recursive: true });
    writeFileSync(at("file"), "123");
    symlinkSync("../file", at("t/a"));
    symlinkSync("nowhere", at("t/b"));
    symlinkSync("c", at("t/c"));
    symlinkSync("..", at("t/sub/up"));
    symlinkSync("sub", at("t/twice"));
    const loop = "up!it is a link to a directory around it";
    expect(await walk([at("t")], { follow: true })).toBe(
      `t{ a:3 b!it is a link to nowhere c!it is a link to itself sub{ ${loop} } twice{ ${loop} } }`,
    );
    expect((await contentOf(await fileAt(at("t/a"), { follow: true }))).content.toString()).toBe("123");
  });

  test("leaves out what is excluded, what is special, and partial files", async () => {
    mkdirSync(at("t/no/deep"), { recursive: true });
    mkdirSync(at("t/yes"));
    writeFileSync(at("t/yes/x"), "");
    writeFileSync(at("t/f.1-2.dcpipe-part"), "x");
    execFileSync("mkfifo", [at("t/fifo")]);
    const server = createServer().listen(at("t/socket"));
    await new Promise((resolve) => server.once("listening", resolve));
    const asked: string[] = [];
    const notes: string[] = [];
    const found = await walk([at("t")], {
      exclude: (path, name) => {
        asked.push(`${path} ${name}`);
        return name === "no";
      },
      onnote: (text) => notes.push(text),
    });
    server.close();
    expect(found).toBe("t{ yes{ x:0 } }");
    expect(asked).toEqual([
      "t t",
      "t/f.1-2.dcpipe-part f.1-2.dcpipe-part",
      "t/fifo fifo",
      "t/no no",
      "t/socket socket",
      "t/yes yes",
      "t/yes/x x",
    ]);
    expect(notes).toEqual([
      `skipped ${at("t/f.1-2.dcpipe-part")}: it is a file that dcpipe has not received completely`,
      `skipped ${at("t/fifo")}: it is a FIFO`,
      `skipped ${at("t/socket")}: it is a socket`,
    ]);
  });

  test("tells of names and links that are no UTF-8", async () => {
    mkdirSync(at("t"));
    writeFileSync(Buffer.concat([Buffer.from(at("t/a")), Buffer.from([0xff])]), "x");
    symlinkSync(Buffer.from([0xfe]), at("t/l"));
    writeFileSync(at("t/ü"), "x");
    expect(await walk([at("t")])).toBe(
      "t{ a\ufffd!its name is no UTF-8 l!what it points to is no UTF-8 ü:1 }",
    );
  });

  test("tells of what may not be read", async () => {
    chmodSync(root, 0o755);
    mkdirSync(at("t/closed"), { recursive: true });
    writeFileSync(at("t/secret"), "x");
    chmodSync(at("t/closed"), 0);
    chmodSync(at("t/secret"), 0);
    await asNobody(async () => {
      expect(await walk([at("t")])).toBe("t{ closed!permission denied secret:1 }");
      await expect((await fileAt(at("t/secret"))).open()).rejects.toMatchObject({
        code: "IO",
        message: "permission denied",
      });
      expect(() => {
        checkPaths([at("t/secret")]);
      }).toThrow(`cannot read ${at("t/secret")}: permission denied`);
      expect(() => {
        checkPaths([at("t/closed")]);
      }).toThrow(`cannot read ${at("t/closed")}: permission denied`);
    });
    chmodSync(at("t/closed"), 0o700);
  });

  test("stops at a depth that the protocol takes", async () => {
    execFileSync("sh", ["-c", `p=; for i in $(seq 1100); do p=$p/d; done; mkdir -p .$p`], { cwd: root });
    const found = await entries([at("d")]);
    expect(found.filter(({ kind }) => kind === "directory")).toHaveLength(1000);
    expect(found.filter(({ kind }) => kind === "missing").map(short)).toEqual([
      "d!more than 1000 directories are in each other",
    ]);
    expect(found.filter(({ kind }) => kind === "up")).toHaveLength(1000);
  });

  test("holds no list of a large directory, and lets others have their turn", async () => {
    // Where there is a filesystem in memory: others take their time for so many files.
    if (existsSync("/dev/shm")) {
      rmSync(root, { recursive: true });
      root = mkdtempSync("/dev/shm/dcpipe-walk-");
    }
    mkdirSync(at("big"));
    for (let i = 0; i < 200_000; i++) closeSync(openSync(at(`big/${"n".repeat(60)}${i}`), "w"));
    let turns = 0;
    const ticking = setInterval(() => turns++, 1);
    let seen = 0;
    const held = memory();
    let most = 0;
    for await (const entry of walkPaths([at("big")])()) {
      if (entry.kind === "file" && ++seen % 40_000 === 0) most = Math.max(most, memory() - held);
    }
    clearInterval(ticking);
    expect(seen).toBe(200_000);
    expect(turns).toBeGreaterThan(10);
    expect(openDescriptors()).toBe(0);
    // The names alone would be 13 MB, and twice that as objects.
    expect(most).toBeLessThan(8e6);
  });

  test("that is given up closes what it has open", async () => {
    mkdirSync(at("big"));
    for (let i = 0; i < 2000; i++) writeFileSync(at(`big/${i}`), "");
    for await (const entry of walkPaths([at("big")])()) if (entry.kind === "file") break;
    expect(openDescriptors()).toBe(0);
  });
});

describe("a file", () => {
  test.each([0, 1, 64 * 1024, 64 * 1024 + 1, 256 * 1024, 1_000_001])("of %d bytes is read", async (size) => {
    const bytes = Buffer.alloc(size, "abcdefg");
    writeFileSync(at("f"), bytes);
    const { content, changed } = await contentOf(await fileAt(at("f")));
    expect(content.equals(bytes)).toBe(true);
    expect(changed).toBeUndefined();
    expect(openDescriptors()).toBe(0);
  });

  test("keeps a chunk as it is until the next call", async () => {
    const bytes = Buffer.concat([
      Buffer.alloc(256 * 1024, "a"),
      Buffer.alloc(256 * 1024, "b"),
      Buffer.from("c"),
    ]);
    writeFileSync(at("f"), bytes);
    const source = await (await fileAt(at("f"))).open();
    const first = await source.read();
    // The read ahead has time to do harm.
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(first && Buffer.from(first).equals(bytes.subarray(0, 256 * 1024))).toBe(true);
    source.cancel();
    source.cancel();
    expect(await source.read()).toBeUndefined();
    expect(await source.changed()).toBeUndefined();
  });

  test("that is canceled while it is read is closed", async () => {
    writeFileSync(at("f"), Buffer.alloc(1_000_000));
    const source = await (await fileAt(at("f"))).open();
    const reading = source.read();
    source.cancel();
    expect(await reading).toBeUndefined();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(openDescriptors()).toBe(0);
  });

  test("that is another one by now is not opened", async () => {
    const changed = { code: "INCOMPLETE", message: "it changed since it was listed" };
    const plant: Record<string, () => void> = {
      longer: () => {
        appendFileSync(at("f"), "x");
      },
      later: () => {
        utimesSync(at("f"), 5, 5);
      },
      replaced: () => {
        const { atime, mtime } = statSync(at("f"));
        writeFileSync(at("g"), "12345");
        utimesSync(at("g"), atime, mtime);
        renameSync(at("g"), at("f"));
      },
      link: () => {
        renameSync(at("f"), at("g"));
        symlinkSync("g", at("f"));
      },
      fifo: () => {
        unlinkSync(at("f"));
        execFileSync("mkfifo", [at("f")]);
      },
    };
    for (const [how, act] of Object.entries(plant)) {
      rmSync(at("f"), { force: true });
      writeFileSync(at("f"), "12345");
      utimesSync(at("f"), 1, 1);
      const file = await fileAt(at("f"));
      act();
      await expect(file.open(), how).rejects.toMatchObject(changed);
    }
    rmSync(at("f"));
    writeFileSync(at("f"), "1");
    const file = await fileAt(at("f"));
    rmSync(at("f"));
    await expect(file.open()).rejects.toMatchObject({
      code: "INCOMPLETE",
      message: "it was removed since it was listed",
    });
  });

  test.each([10, 700_000])("of %d bytes that changes while it is read says so", async (size) => {
    const open = async (): Promise<Awaited<ReturnType<SourceFile["open"]>>> => {
      writeFileSync(at("f"), Buffer.alloc(size));
      utimesSync(at("f"), 1, 1);
      return (await fileAt(at("f"))).open();
    };
    const drain = async (source: Awaited<ReturnType<SourceFile["open"]>>): Promise<number> => {
      let length = 0;
      for (let chunk; (chunk = await source.read());) length += chunk.length;
      return length;
    };
    let source = await open();
    appendFileSync(at("f"), Buffer.alloc(size));
    expect(await drain(source)).toBe(size + 1);
    expect(await source.changed()).toBe(`its size changed from ${size} to ${2 * size} bytes`);
    source = await open();
    utimesSync(at("f"), 2, 2);
    expect(await drain(source)).toBe(size);
    expect(await source.changed()).toBe("it was modified while it was sent");
    source = await open();
    chmodSync(at("f"), 0o600);
    await drain(source);
    expect(await source.changed()).toBe("it was modified while it was sent");
  });

  test.skipIf(process.platform !== "linux")("whose size is not true says so", async () => {
    const { content, changed } = await contentOf(await fileAt("/proc/self/status"));
    expect(content).toHaveLength(1);
    expect(changed).toBe("it holds other than the 0 bytes that it is said to have");
  });
});

describe("paths that are checked", () => {
  test("are taken", () => {
    mkdirSync(at("d"));
    writeFileSync(at("f"), "");
    symlinkSync("nowhere", at("l"));
    checkPaths([at("d"), at("f"), at("l"), "/"]);
  });

  test("are refused", () => {
    mkdirSync(at("d"));
    writeFileSync(at("f"), "");
    writeFileSync(at("d/f"), "");
    writeFileSync(at("x.1.dcpipe-part"), "");
    symlinkSync("nowhere", at("l"));
    execFileSync("mkfifo", [at("fifo")]);
    const refused = (paths: string[], text: string, follow = false): void => {
      let error: unknown;
      try {
        checkPaths(paths.map(at), { follow });
      } catch (caught) {
        error = caught;
      }
      expect(error).toMatchObject({ code: "USAGE", message: expect.stringContaining(text) as string });
    };
    refused(["nothing"], "nothing: no such file or directory");
    refused(["f/x"], "part of the path is no directory");
    refused(["l"], "l is a link to nowhere", true);
    refused(["fifo"], "fifo is a FIFO; files, directories and links can be sent");
    refused(["f", "d/f"], `${at("f")} and ${at("d/f")} have the same name at the other side`);
    refused(["d", "d/."], "have the same name");
    refused(["x.1.dcpipe-part"], "not received completely");
  });
});

describe("the codec", () => {
  test("packs and unpacks", async () => {
    for (const bytes of [
      Buffer.alloc(0),
      Buffer.from("x"),
      Buffer.alloc(300_000, "text "),
      randomish(100_000),
    ]) {
      const packed = await codec.deflate(bytes);
      expect(Buffer.from(await codec.inflate(packed, Math.max(1, bytes.length))).equals(bytes)).toBe(true);
    }
  });

  test("rejects what is too much, cut, longer, or no such data", async () => {
    const packed = await codec.deflate(Buffer.alloc(1000, "ab"));
    await expect(codec.inflate(packed, 999)).rejects.toThrow();
    await expect(codec.inflate(packed.subarray(0, packed.length - 1), 1000)).rejects.toThrow();
    await expect(codec.inflate(Buffer.concat([packed, Buffer.from("x")]), 1000)).rejects.toThrow();
    await expect(codec.inflate(Buffer.alloc(20, 0xff), 1000)).rejects.toThrow();
  });
});

function randomish(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0, x = 1; i < length; i++) bytes[i] = (x = (x * 48271) % 2147483647) & 0xff;
  return bytes;
}
