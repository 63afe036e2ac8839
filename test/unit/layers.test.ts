/**
 * Reads every import in src/ and compares it with the table of rooms below, which docs/architecture.md shows to people. A
 * new import across rooms is a decision: it needs a changed row here and there.
 */
import { readdirSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { dirname, join, relative, resolve } from "node:path";
import ts from "typescript";
import { describe, expect, test } from "vitest";

const ROOT = resolve(import.meta.dirname, "../..");
const SRC = join(ROOT, "src");

interface Room {
  /** Other rooms, or single files of them, that may be imported. */
  readonly imports: readonly string[];
  /** Rooms of which only types may be imported. */
  readonly types?: readonly string[];
  /** Whether Node's own modules may be imported. */
  readonly node?: boolean;
  /** npm packages that may be imported. */
  readonly packages: readonly string[];
  /** The files of the room do not import each other; what stands in a folder of it is parts that they may have in common. */
  readonly apart?: boolean;
}

/** The core runs anywhere; the rooms of browsers run where there is nothing of Node. */
const CORE = ["errors", "wire", "transport", "session", "signalling", "connect", "apps", "doctor"];
const BROWSER = ["browser", "browser.ts", "page", "site"];

const ROOMS: Readonly<Record<string, Room>> = {
  errors: { imports: [], packages: [] },
  wire: { imports: ["errors"], packages: [] },
  transport: { imports: ["errors"], packages: ["@noble/curves", "@noble/hashes"] },
  session: { imports: ["errors", "wire", "transport/channel.ts"], packages: [] },
  signalling: {
    imports: ["errors", "wire"],
    packages: ["@noble/ciphers", "@noble/curves", "@noble/hashes"],
  },
  connect: { imports: ["errors", "wire", "transport", "session", "signalling"], packages: [] },
  apps: { imports: ["errors", "wire", "session", "transport/channel.ts"], packages: ["@noble/hashes"] },
  doctor: { imports: ["errors", "wire"], packages: [] },
  node: {
    imports: ["errors", "transport"],
    types: ["apps", "signalling", "doctor"],
    node: true,
    packages: ["node-datachannel", "ws", "proxy-from-env", "multicast-dns"],
    apart: true,
  },
  browser: {
    imports: ["errors", "transport"],
    types: ["apps", "signalling"],
    packages: ["@noble/hashes"],
    apart: true,
  },
  lan: { imports: ["errors", "node", "server"], types: ["connect"], packages: [] },
  index: {
    imports: [
      "errors",
      "wire",
      "transport",
      "session",
      "signalling",
      "connect",
      "apps",
      "doctor",
      "node",
      "lan",
    ],
    node: true,
    packages: [],
  },
  "browser.ts": {
    imports: ["errors", "wire", "transport", "session", "signalling", "connect", "apps", "browser"],
    packages: [],
  },
  page: { imports: ["browser.ts"], packages: ["qrcode-terminal"] },
  site: { imports: ["browser.ts"], types: ["wire"], packages: [] },
  server: { imports: ["errors", "wire"], node: true, packages: ["ws", "@redis/client"] },
  cli: {
    imports: ["errors", "index", "server"],
    node: true,
    packages: ["yargs", "chalk", "ora", "picomatch", "qrcode-terminal"],
  },
};

interface Import {
  /** The importing file, relative to src/. */
  readonly from: string;
  /** What stands in the source. */
  readonly specifier: string;
  readonly typeOnly: boolean;
}

const files = readdirSync(SRC, { recursive: true, encoding: "utf8" })
  .map((name) => name.replaceAll("\\", "/"))
  .filter((name) => name.endsWith(".ts"))
  .sort();

/** Every way in which a file names another: import, export from, import(), import types, require(). */
function importsOf(file: string): Import[] {
  const text = readFileSync(join(SRC, file), "utf8");
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const found: Import[] = [];
  const add = (specifier: ts.Expression | undefined, typeOnly: boolean): void => {
    if (specifier && ts.isStringLiteralLike(specifier))
      found.push({ from: file, specifier: specifier.text, typeOnly });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      const clause = node.importClause;
      const named = clause?.namedBindings;
      const eachIsType =
        !!named &&
        ts.isNamedImports(named) &&
        !clause.name &&
        named.elements.length > 0 &&
        named.elements.every((element) => element.isTypeOnly);
      add(node.moduleSpecifier, clause?.phaseModifier === ts.SyntaxKind.TypeKeyword || eachIsType);
    } else if (ts.isExportDeclaration(node)) {
      add(node.moduleSpecifier, node.isTypeOnly);
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      add(node.argument.literal, true);
    } else if (ts.isCallExpression(node)) {
      // import("x"), require("x"), createRequire(...)("x")
      const callee = node.expression;
      const loads =
        callee.kind === ts.SyntaxKind.ImportKeyword ||
        (ts.isIdentifier(callee) && callee.text === "require") ||
        (ts.isCallExpression(callee) &&
          ts.isIdentifier(callee.expression) &&
          callee.expression.text === "createRequire");
      if (loads) add(node.arguments[0], false);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

const imports = files.flatMap(importsOf);

/** "session/stream.ts" lives in session, "index.ts" is a room of its own; so is "browser.ts", beside the one that has its name. */
function roomOf(file: string): string {
  if (file in ROOMS) return file;
  return file.includes("/") ? file.slice(0, file.indexOf("/")) : file.replace(/\.ts$/, "");
}

function packageOf(specifier: string): string {
  return specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");
}

function isNode(specifier: string): boolean {
  return specifier.startsWith("node:") || builtinModules.includes(specifier);
}

/** Why an import breaks the table, or undefined. */
function objection({ from, specifier, typeOnly }: Import): string | undefined {
  const name = roomOf(from);
  const room = ROOMS[name];
  if (!room) return `no such room: ${name}`;
  if (isNode(specifier)) {
    if (!room.node) return "the core runs without Node";
    return specifier.startsWith("node:") ? undefined : "write node: in front";
  }
  if (!specifier.startsWith(".")) {
    return room.packages.includes(packageOf(specifier)) ? undefined : "no package for this room";
  }
  const path = resolve(SRC, dirname(from), specifier);
  // The version stands in package.json alone.
  if (path === join(ROOT, "package.json")) return room.node ? undefined : "the core is no package";
  const target = relative(SRC, path).replaceAll("\\", "/");
  if (!files.includes(target)) return `${target} is no file of src/`;
  const to = roomOf(target);
  if (to === name)
    return room.apart && !target.slice(to.length + 1).includes("/")
      ? "adapters do not know each other"
      : undefined;
  if (room.imports.includes(to) || room.imports.includes(target)) return undefined;
  if (room.types?.includes(to)) return typeOnly ? undefined : "only types may be imported";
  return "not in this room's row";
}

describe("rooms", () => {
  test("the imports are seen", () => {
    expect(imports.length).toBeGreaterThan(files.length);
    expect(imports).toContainEqual({ from: "wire/frame.ts", specifier: "./bytes.ts", typeOnly: false });
    expect(imports).toContainEqual({ from: "wire/frame.ts", specifier: "../errors.ts", typeOnly: true });
  });

  test.each(files)("%s imports what its room may", (file) => {
    const broken = imports
      .filter(({ from }) => from === file)
      .map((entry) => [entry.specifier, objection(entry)])
      .filter(([, why]) => why !== undefined);
    expect(broken).toEqual([]);
    expect(Object.keys(ROOMS)).toContain(roomOf(file));
  });

  test("neither the core nor what runs in browsers imports anything of Node", () => {
    const core = imports.filter(({ from }) => [...CORE, ...BROWSER].includes(roomOf(from)));
    expect(core.filter(({ specifier }) => isNode(specifier))).toEqual([]);
  });

  test("one file owns node-datachannel", () => {
    const owners = imports.filter(({ specifier }) => packageOf(specifier) === "node-datachannel");
    expect([...new Set(owners.map(({ from }) => from))]).toEqual(["node/rtc/library.ts"]);
  });

  test.each([
    ["ws", "server/connection.ts"],
    ["@redis/client", "server/redis.ts"],
  ])("one file of the server owns %s", (name, owner) => {
    const owners = imports.filter(
      ({ from, specifier }) => roomOf(from) === "server" && packageOf(specifier) === name,
    );
    expect([...new Set(owners.map(({ from }) => from))]).toEqual([owner]);
  });

  test("every package imported is a dependency", () => {
    const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
      dependencies: Record<string, string>;
    };
    const used = imports
      .map(({ specifier }) => specifier)
      .filter((specifier) => !specifier.startsWith(".") && !isNode(specifier))
      .map(packageOf);
    expect(Object.keys(manifest.dependencies)).toEqual(expect.arrayContaining([...new Set(used)]));
  });

  test.each([
    ["wire/frame.ts", "node:fs", false],
    ["wire/frame.ts", "../session/session.ts", true],
    ["session/session.ts", "../transport/peer.ts", true],
    ["session/session.ts", "../transport/channel.ts", undefined],
    ["connect/link.ts", "../node/rtc.ts", true],
    ["signalling/keys.ts", "../transport/certificate.ts", false],
    ["node/rtc.ts", "./stun.ts", false],
    ["node/nat.ts", "./stun.ts", true],
    ["node/nat.ts", "../doctor/nat.ts", false],
    ["browser/rtc.ts", "../node/names.ts", true],
    ["browser/websocket.ts", "./rtc.ts", true],
    ["browser/rtc.ts", "./rtc/certificate.ts", undefined],
    ["browser.ts", "./node/rtc.ts", false],
    ["browser.ts", "node:fs", false],
    ["browser.ts", "./browser/rtc.ts", undefined],
    ["index.ts", "./browser/rtc.ts", false],
    ["page/flow.ts", "../browser.ts", undefined],
    ["page/flow.ts", "../apps/receive.ts", true],
    ["page/flow.ts", "node:fs", false],
    ["doctor/verdict.ts", "../connect/servers.ts", true],
    ["node/disk/hold.ts", "../target.ts", false],
    ["node/target.ts", "./disk/directory.ts", undefined],
    ["node/rtc.ts", "../wire/frame.ts", true],
    ["node/rtc.ts", "fs", false],
    ["errors.ts", "./wire/frame.ts", true],
    ["wire/frame.ts", "yargs", false],
    ["server/client.ts", "../signalling/keys.ts", false],
  ])("the table is applied: %s importing %s", (from, specifier, typeOnly) => {
    const why = objection({ from, specifier, typeOnly: typeOnly ?? false });
    if (typeOnly === undefined) expect(why).toBeUndefined();
    else expect(why).toBeTypeOf("string");
  });
});

const DOC = join(ROOT, "docs/architecture.md");

describe("docs/architecture.md", () => {
  /** Rows of the table whose heading starts with "room": the room, and the rooms it may import. */
  function rows(text: string): Map<string, Set<string>> {
    const cells = (line: string): string[] =>
      line
        .replace(/^\s*\||\|\s*$/g, "")
        .split("|")
        .map((cell) => cell.trim());
    const lines = text.split("\n");
    const head = lines.findIndex(
      (line) => line.trim().startsWith("|") && /^room\b/i.test(cells(line)[0] ?? ""),
    );
    expect(head, "a table whose first column is headed 'room'").toBeGreaterThanOrEqual(0);
    const column = cells(lines[head] ?? "").findIndex((cell) => /import/i.test(cell));
    expect(column, "a column headed 'may import'").toBeGreaterThan(0);
    const found = new Map<string, Set<string>>();
    for (const line of lines.slice(head + 2)) {
      if (!line.trim().startsWith("|")) break;
      const row = cells(line);
      for (const name of names(row[0] ?? "")) found.set(name, allowed(row[column] ?? ""));
    }
    return found;
  }

  function names(cell: string): string[] {
    const words = cell.match(/[A-Za-z][\w./-]*/g) ?? [];
    const bare = words.map((word) =>
      word in ROOMS ? word : word.replace(/^src\//, "").replace(/[/.]+$|\.ts$/g, ""),
    );
    return bare.map((word) => word.split("/")[0] ?? "").filter((word) => word in ROOMS);
  }

  function allowed(cell: string): Set<string> {
    const but = /\b(?:everything|all)\b.*?\b(?:but|except)\b(.*)/i.exec(cell);
    if (!but) return new Set(names(cell));
    const excluded = names(but[1] ?? "");
    return new Set(Object.keys(ROOMS).filter((name) => !excluded.includes(name)));
  }

  const table = rows(readFileSync(DOC, "utf8"));
  const present = [...new Set(files.map(roomOf))];

  test("lists every room of src/", () => {
    expect([...table.keys()].sort()).toEqual(expect.arrayContaining(present.sort()));
  });

  test.each(present)("%s: the same imports as here", (name) => {
    const room = ROOMS[name];
    const rooms = [...(room?.imports ?? []), ...(room?.types ?? [])].map(roomOf);
    const told = [...(table.get(name) ?? [])].filter((other) => other !== name);
    expect(told.sort()).toEqual([...new Set(rooms)].sort());
  });
});
