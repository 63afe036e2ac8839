/** Which targets the other side may reach, and that names do not lead it elsewhere. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Access, MAX_ADDRESSES, parseRule } from "../../src/apps/forward/access.ts";
import { formatTarget, parseTarget } from "../../src/apps/forward/spec.ts";
import { DcpipeError } from "../../src/errors.ts";
import { formatAddress } from "../../src/wire/candidate.ts";
import type { Protocol } from "../../src/wire/forward.ts";
import type { Target } from "../../src/wire/header.ts";

/** What names stand for; the odd spellings as getaddrinfo reads them. */
const ZONE: Readonly<Record<string, readonly string[]>> = {
  localhost: ["::1", "127.0.0.1"],
  LOCALHOST: ["127.0.0.1"],
  "127.1": ["127.0.0.1"],
  "0x7f.1": ["127.0.0.1"],
  "2130706433": ["127.0.0.1"],
  "0177.0.0.1": ["127.0.0.1"],
  "0": ["0.0.0.0"],
  "db.example.com": ["10.0.0.5"],
  "Db.Example.COM.": ["10.0.0.5"],
  "two.example.com": ["127.0.0.1", "10.0.0.6", "fd00::6"],
  "rebound.example.com": ["127.0.0.1"],
  "mapped.example.com": ["::ffff:127.0.0.1"],
  "mapped-private.example.com": ["::ffff:10.0.0.5"],
  "zero.example.com": ["0.0.0.0", "::"],
  "metadata.example.com": ["169.254.169.254"],
  "link.example.com": ["fe80::1%eth0"],
  "multicast.example.com": ["224.0.0.251", "ff02::fb", "255.255.255.255"],
  "nat64.example.com": ["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"],
  "compatible.example.com": ["::7f00:1", "::a00:5"],
  "public.example.com": ["93.184.216.34", "2606:2800:220:1::1"],
  "evil.test": ["127.0.0.1"],
  "10.0.0.evil.test": ["192.0.2.1"],
  "twice.example.com": ["10.0.0.5", "::ffff:10.0.0.5", "10.0.0.5"],
  "broken.example.com": ["127.1", "", "nonsense"],
  "empty.example.com": [],
  "many.example.com": Array.from({ length: 100 }, (_, i) => `10.1.0.${i}`),
};

interface Setup {
  readonly offers?: readonly string[];
  readonly allow?: readonly string[];
}

function setup({ offers = [], allow = [] }: Setup): {
  check: (text: string) => Promise<string[]>;
  ask: (protocol: Protocol, target: Target) => Promise<string[]>;
  resolved: string[];
} {
  const resolved: string[] = [];
  const access = new Access({
    offers: offers.flatMap(parseTarget),
    rules: allow.map(parseRule),
    resolve: (host) => {
      resolved.push(host);
      const found = ZONE[host];
      return found
        ? Promise.resolve(found)
        : Promise.reject(new DcpipeError("NAME_UNKNOWN", `${host} is not known`));
    },
  });
  const ask = async (protocol: Protocol, target: Target): Promise<string[]> =>
    (await access.check(protocol, target)).map((address) =>
      address.type === "unix" ? address.path : address.address,
    );
  const check = (text: string): Promise<string[]> => {
    const [asked] = parseTarget(text);
    return ask(asked?.protocol ?? "tcp", asked?.target ?? { type: "listener", id: 0 });
  };
  return { check, ask, resolved };
}

const refused = (message: unknown = expect.any(String)) => ({ code: "REFUSED", message });

describe("--allow", () => {
  test.each([
    "db.example.com:5432",
    "*.example.com:*",
    "db?:1-1024",
    "10.0.0.5:22",
    "10.0.0.*:22/tcp",
    "10.0.0.0/8:22",
    "10.0.0.0/8:53/udp",
    "0.0.0.0/0:80",
    "[fd00::/8]:443",
    "[fd00::]/8:443",
    "[::1]:443",
    "[fd00:*]:443",
    "*:80",
    "*:*",
    "*:*/udp",
    "localhost:3000",
    "bücher.example:80",
    "unix:/run/*.sock",
    "unix:/run/a:b/udp",
  ])("%s", (text) => {
    expect(() => parseRule(text)).not.toThrow();
  });

  test.each([
    ["", "a port is missing"],
    ["10.0.0.5", "a port is missing"],
    ["*", "a port is missing"],
    ["host/udp", "a port is missing"],
    ["10.0.0.0/8", "a port is missing"],
    ["[::1]", "a port is missing"],
    ["[fd00::/8]", "a port is missing"],
    ["host:", "the port is none"],
    ["host:0", "the port is none"],
    ["host:65536", "the port is none"],
    ["host:9-8", "the port is none"],
    ["host:http", "the port is none"],
    ["host:80/sctp", "the port is none"],
    [":80", "the host is none"],
    ["fd00::1:443", "the host is none"],
    ["[fd00::1:443", "the host is none"],
    ["[fd00::g]:443", "the host is none"],
    ["[fe80::1%eth0]:443", "the host is none"],
    ["10.0.0.0/33:22", "the host is none"],
    ["10.0.0/8:22", "the host is none"],
    ["example.com/8:22", "the host is none"],
    ["[fd00::/129]:22", "the host is none"],
    ["127.1:80", "the host is none"],
    ["10.0.0.256:80", "the host is none"],
    ["a b:80", "the host is none"],
    ["a{b,c}:80", "the host is none"],
    ["unix:run", "write unix:/PATH"],
    ["unix:/run/../etc/*", "write unix:/PATH"],
    ["unix:/run//x", "write unix:/PATH"],
    [`${"x".repeat(300)}:80`, "it is too long"],
  ])("%j: %s", (text, why) => {
    expect(() => parseRule(text)).toThrow(
      expect.objectContaining({
        code: "USAGE",
        message: expect.stringMatching(/^--allow [^]*: [^]*/) as string,
      }),
    );
    expect(() => parseRule(text)).toThrow(why);
  });
});

describe("offers", () => {
  test.each([
    ["localhost:3000", "localhost:3000", ["::1", "127.0.0.1"]],
    ["3000", "LOCALHOST.:3000", ["::1", "127.0.0.1"]],
    ["3000", "127.0.0.1:3000", ["::1", "127.0.0.1"]],
    ["3000", "127.0.0.1.:3000", ["::1", "127.0.0.1"]],
    ["3000", "[::1]:3000", ["::1", "127.0.0.1"]],
    ["3000", "[::ffff:127.0.0.1]:3000", ["::1", "127.0.0.1"]],
    ["3000", "0.0.0.0:3000", ["::1", "127.0.0.1"]],
    ["3000", "[::]:3000", ["::1", "127.0.0.1"]],
    ["127.0.0.1:3000", "localhost:3000", ["127.0.0.1"]],
    ["[::1]:3000", "localhost:3000", ["::1"]],
    ["[fd00::1]:80", "[fd00:0::0:1]:80", ["fd00::1"]],
    ["[fe80::1%eth0]:80", "[fe80::1%eth0]:80", ["fe80::1%eth0"]],
    ["10.0.0.5:80", "[::ffff:10.0.0.5]:80", ["10.0.0.5"]],
    ["db.example.com:5432", "DB.Example.COM.:5432", ["10.0.0.5"]],
    // Whoever offered the name may let it lead anywhere.
    ["rebound.example.com:80", "rebound.example.com:80", ["127.0.0.1"]],
    ["metadata.example.com:80", "metadata.example.com:80", ["169.254.169.254"]],
    ["53/udp", "localhost:53/udp", ["::1", "127.0.0.1"]],
    ["8000-8010", "localhost:8005", ["::1", "127.0.0.1"]],
    ["twice.example.com:80", "twice.example.com:80", ["10.0.0.5"]],
    ["unix:/run/a.sock", "unix:/run/a.sock", ["/run/a.sock"]],
    ["unix:/run/../a", "unix:/run/../a", ["/run/../a"]],
  ])("of %s: %s", async (offer, asked, addresses) => {
    expect(await setup({ offers: [offer] }).check(asked)).toEqual(addresses);
  });

  test.each([
    ["3000", "localhost:3001"],
    ["3000", "localhost:3000/udp"],
    ["53/udp", "localhost:53"],
    ["3000", "127.0.0.2:3000"],
    ["3000", "127.1:3000"],
    ["3000", "0x7f.1:3000"],
    ["3000", "2130706433:3000"],
    ["3000", "evil.test:3000"],
    ["3000", "localhost.example.com:3000"],
    ["db.example.com:5432", "10.0.0.5:5432"],
    ["db.example.com:5432", "example.com:5432"],
    ["db.example.com:5432", "db.example.com..:5432"],
    ["[fe80::1%eth0]:80", "[fe80::1%eth1]:80"],
    ["unix:/run/a.sock", "unix:/run/b.sock"],
    ["unix:/run/a.sock", "unix:/run/./a.sock"],
    ["unix:/run/*", "unix:/run/a"],
  ])("of %s do not stand for %s, and nothing is looked up", async (offer, asked) => {
    const { check, resolved } = setup({ offers: [offer] });
    await expect(check(asked)).rejects.toMatchObject(refused());
    expect(resolved).toEqual([]);
  });

  test("a name that stands for nothing", async () => {
    for (const name of ["unknown.example.com", "empty.example.com", "broken.example.com"])
      await expect(setup({ offers: [`${name}:80`] }).check(`${name}:80`)).rejects.toMatchObject({
        code: "NAME_UNKNOWN",
      });
  });

  test("what a name may cost is limited", async () => {
    expect(await setup({ offers: ["many.example.com:80"] }).check("many.example.com:80")).toHaveLength(
      MAX_ADDRESSES,
    );
  });

  test("a unix socket takes no datagrams, and a listener is no target here", async () => {
    const { ask } = setup({ offers: ["unix:/run/a.sock"], allow: ["unix:/run/*", "*:*"] });
    await expect(ask("udp", { type: "unix", path: "/run/a.sock" })).rejects.toMatchObject(refused());
    await expect(ask("tcp", { type: "listener", id: 1 })).rejects.toMatchObject(refused());
  });
});

describe("rules", () => {
  test.each([
    ["10.0.0.5:22", "10.0.0.5:22", ["10.0.0.5"]],
    ["10.0.0.5:22", "10.0.0.5:22/udp", ["10.0.0.5"]],
    ["10.0.0.5:22", "[::ffff:10.0.0.5]:22", ["10.0.0.5"]],
    ["[::ffff:10.0.0.5]:22", "10.0.0.5:22", ["10.0.0.5"]],
    ["10.0.0.5:22", "db.example.com:22", ["10.0.0.5"]],
    ["10.0.0.5:22", "mapped-private.example.com:22", ["10.0.0.5"]],
    ["10.0.0.0/8:22", "db.example.com:22", ["10.0.0.5"]],
    ["10.0.0.4/30:22", "10.0.0.7:22", ["10.0.0.7"]],
    ["[::ffff:10.0.0.0/104]:22", "10.0.0.7:22", ["10.0.0.7"]],
    ["10.0.0.*:22", "db.example.com:22", ["10.0.0.5"]],
    ["10.*:22", "db.example.com:22", ["10.0.0.5"]],
    ["10.0.0.?:22", "10.0.0.5:22", ["10.0.0.5"]],
    ["[fd00::/8]:*", "two.example.com:80", ["fd00::6"]],
    ["[fd00:*]:80", "two.example.com:80", ["fd00::6"]],
    ["*.example.com:80", "two.example.com:80", ["10.0.0.6", "fd00::6"]],
    ["*.EXAMPLE.com.:80", "Db.Example.COM.:80", ["10.0.0.5"]],
    ["*.example.com:80", "public.example.com:80", ["93.184.216.34", "2606:2800:220:1::1"]],
    ["two.example.com:80", "two.example.com:80", ["10.0.0.6", "fd00::6"]],
    ["t?o.example.com:80", "two.example.com:80", ["10.0.0.6", "fd00::6"]],
    ["*:80", "two.example.com:80", ["127.0.0.1", "10.0.0.6", "fd00::6"]],
    ["*:80", "rebound.example.com:80", ["127.0.0.1"]],
    ["*:80", "127.1:80", ["127.0.0.1"]],
    ["*:*", "zero.example.com:80", ["127.0.0.1", "::1"]],
    ["localhost:80", "localhost:80", ["::1", "127.0.0.1"]],
    ["localhost:80", "127.0.0.1:80", ["127.0.0.1"]],
    ["127.0.0.1:80", "localhost:80", ["127.0.0.1"]],
    ["127.0.0.0/8:80", "rebound.example.com:80", ["127.0.0.1"]],
    ["127.0.0.1:80", "mapped.example.com:80", ["127.0.0.1"]],
    ["127.0.0.1:80", "0.0.0.0:80", ["127.0.0.1"]],
    ["127.0.0.1:80", "127.1:80", ["127.0.0.1"]],
    ["169.254.169.254:80", "metadata.example.com:80", ["169.254.169.254"]],
    ["[fe80::/10]:80", "link.example.com:80", ["fe80::1%eth0"]],
    ["db.example.com:1-100", "db.example.com:100", ["10.0.0.5"]],
    ["db.example.com:53/udp", "db.example.com:53/udp", ["10.0.0.5"]],
    ["unix:/run/*.sock", "unix:/run/a.sock", ["/run/a.sock"]],
    ["unix:/run/*/s?ck", "unix:/run/user/sock", ["/run/user/sock"]],
  ])("%s: %s may be reached", async (rule, asked, addresses) => {
    const { check } = setup({ allow: [rule] });
    expect(await check(asked)).toEqual(addresses);
  });

  test.each([
    // Port and protocol
    ["10.0.0.5:22", "10.0.0.5:23"],
    ["10.0.0.5:22/tcp", "10.0.0.5:22/udp"],
    ["10.0.0.5:22/udp", "10.0.0.5:22"],
    ["db.example.com:1-100", "db.example.com:101"],
    // Addresses
    ["10.0.0.5:22", "10.0.0.50:22"],
    ["10.0.0.4/30:22", "10.0.0.8:22"],
    ["10.0.0.0/8:22", "public.example.com:22"],
    ["10.0.0.*:22", "10.0.1.5:22"],
    ["10.0.0.*:22", "10.0.0.evil.test:22"],
    ["[fd00::/8]:80", "db.example.com:80"],
    ["0.0.0.0/0:80", "[fd00::6]:80"],
    ["[::/0]:80", "10.0.0.5:80"],
    ["0.0.0.0/8:80", "127.0.0.1:80"],
    // Rebinding
    ["*.example.com:80", "rebound.example.com:80"],
    ["rebound.example.com:80", "rebound.example.com:80"],
    ["*.example.com:80", "mapped.example.com:80"],
    ["*.example.com:80", "zero.example.com:80"],
    ["*.example.com:80", "metadata.example.com:80"],
    ["*.example.com:80", "link.example.com:80"],
    ["*.example.com:80", "multicast.example.com:80"],
    ["*.example.com:80", "nat64.example.com:80"],
    ["*.example.com:80", "compatible.example.com:80"],
    ["?*:80", "localhost:80"],
    ["*.*:80", "127.0.0.1:80"],
    ["*.*:80", "127.1:80"],
    ["**:80", "0:80"],
    ["*:80/udp", "rebound.example.com:80"],
    // Odd spellings
    ["10.0.0.0/8:80", "127.1:80"],
    ["10.0.0.0/8:80", "0x7f.1:80"],
    ["10.0.0.0/8:80", "2130706433:80"],
    ["10.0.0.0/8:80", "0177.0.0.1:80"],
    ["10.0.0.0/8:80", "LOCALHOST:80"],
    ["10.0.0.0/8:80", "127.0.0.1.:80"],
    ["10.0.0.0/8:80", "0:80"],
    // Names
    ["*.example.com:80", "example.com:80"],
    ["*.example.com:80", "evil.test:80"],
    ["*.example.com:80", "db.example.com.evil.test:80"],
    ["db.example.com:80", "xdb.example.com:80"],
    ["localhost:80", "evil.test:80"],
    ["localhost:80", "127.0.0.2:80"],
    ["localhost:80", "localhost.evil.test:80"],
    // Paths
    ["unix:/run/*", "unix:/run/a/b"],
    ["unix:/run/*", "unix:/run/.."],
    ["unix:/run/*/x", "unix:/run/../x"],
    ["unix:/run/*/x", "unix:/run//x"],
    ["unix:/run/?", "unix:/run/."],
    ["unix:/run/*", "unix:/run"],
    ["unix:/run/*", "unix:/etc/x"],
    ["*:*", "unix:/run/x"],
    ["unix:/*", "localhost:80"],
  ])("%s: %s is refused", async (rule, asked) => {
    await expect(setup({ allow: [rule] }).check(asked)).rejects.toMatchObject(refused());
  });

  test("an address that one rule names is good for a name that another one names", async () => {
    const { check } = setup({ allow: ["*.example.com:80", "127.0.0.1:80"] });
    expect(await check("two.example.com:80")).toEqual(["127.0.0.1", "10.0.0.6", "fd00::6"]);
    const other = setup({ allow: ["*.example.com:80", "localhost:80"] });
    expect(await other.check("rebound.example.com:80")).toEqual(["127.0.0.1"]);
  });

  test("nothing is looked up unless the answer can matter", async () => {
    const rules = ["*.example.com:80", "localhost:80", "10.0.0.0/8:443", "unix:/run/*"];
    const { check, resolved } = setup({ allow: rules });
    await expect(check("evil.test:80")).rejects.toMatchObject(refused());
    await expect(check("db.example.com:22")).rejects.toMatchObject(refused());
    await expect(check("192.0.2.1:443")).rejects.toMatchObject(refused());
    await expect(check("192.0.2.1:80")).rejects.toMatchObject(refused());
    expect(resolved).toEqual([]);
    await expect(check("evil.test:443")).rejects.toMatchObject(refused());
    expect(resolved).toEqual(["evil.test"]);
  });

  test("a lookup is asked once, and what it says is what is dialled", async () => {
    let count = 0;
    const access = new Access({
      offers: [],
      rules: [parseRule("*.example.com:80")],
      // As a rebinding server answers: something good first.
      resolve: () => Promise.resolve(count++ === 0 ? ["93.184.216.34"] : ["127.0.0.1"]),
    });
    const target = { type: "host", host: "x.example.com", port: 80 } as const;
    expect(await access.check("tcp", target)).toEqual([{ type: "host", address: "93.184.216.34", port: 80 }]);
    expect(count).toBe(1);
  });
});

describe("what is said", () => {
  test.each([
    [[], "10.0.0.5:22", "10.0.0.5:22 is not offered here; --allow 10.0.0.5:22 would allow it"],
    [[], "[fd00::1]:53/udp", "[fd00::1]:53/udp is not offered here; --allow [fd00::1]:53/udp would allow it"],
    [[], "unix:/run/x", "unix:/run/x is not offered here; --allow unix:/run/x would allow it"],
    // --allow would not take it.
    [[], "127.1:80", "127.1:80 is not offered here"],
    [[], "unix:/run/../x", "unix:/run/../x is not offered here"],
    // A command that would allow too much, or do something else.
    [[], "unix:/run/*", "unix:/run/* is not offered here"],
    [[], "unix:/x;reboot", "unix:/x;reboot is not offered here"],
    [[], "unix:/$(reboot)", "unix:/$(reboot) is not offered here"],
    [
      ["*.example.com:80"],
      "rebound.example.com:80",
      "rebound.example.com:80 is 127.0.0.1 here, which no rule allows; --allow 127.0.0.1:80 would allow it",
    ],
    [
      ["*.example.com:80"],
      "link.example.com:80",
      "link.example.com:80 is fe80::1%eth0 here, which no rule allows; --allow [fe80::1]:80 would allow it",
    ],
    [
      ["11.0.0.0/8:80"],
      "many.example.com:80",
      "many.example.com:80 is 10.1.0.0, 10.1.0.1, 10.1.0.2, others here, which no rule allows; --allow 10.1.0.0:80 would allow it",
    ],
  ])("with %j: %s", async (allow, asked, message) => {
    await expect(setup({ allow }).check(asked)).rejects.toMatchObject(refused(message));
  });

  test("hostile names reach neither the resolver nor a command", async () => {
    const names = [
      "a;reboot",
      "$(reboot)",
      "`id`",
      "a b",
      "*",
      "*.example.com",
      "a\0.example.com",
      "a\n.example.com",
      "\x1b[2J.example.com",
      "\u202eabc.example.com",
      "-o.example.com",
      "../etc",
      "a/b",
      "[::1]",
      "::1]",
      "fe80::1%$(id)",
      "x".repeat(256),
      ".",
      "..",
    ];
    const { ask, resolved } = setup({ allow: ["*:*", "*.example.com:*"] });
    for (const host of names)
      await expect(ask("tcp", { type: "host", host, port: 80 })).rejects.toMatchObject(
        refused("what was asked for is no host name"),
      );
    expect(resolved).toEqual([]);
  });
});

describe("properties", () => {
  const address = fc
    .oneof(
      fc.uint8Array({ minLength: 4, maxLength: 4 }),
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      fc.constantFrom([127, 0, 0, 1], [0, 0, 0, 0], [10, 0, 0, 1], new Array<number>(16).fill(0)),
    )
    .map((bytes) => formatAddress(Uint8Array.from(bytes)));
  const name = fc.oneof(
    fc.constantFrom(...Object.keys(ZONE)),
    fc.stringMatching(/^[a-z0-9_][A-Za-z0-9._-]{0,30}$/),
    fc.string(),
    fc.string({ unit: "binary" }),
  );
  const target: fc.Arbitrary<Target> = fc.oneof(
    fc.record({
      type: fc.constant("host" as const),
      host: fc.oneof(name, address),
      port: fc.integer({ min: 1, max: 65535 }),
    }),
    fc.record({
      type: fc.constant("unix" as const),
      path: fc.oneof(fc.stringMatching(/^\/[a-z./*;]{0,20}$/), fc.string()),
    }),
    fc.record({ type: fc.constant("listener" as const), id: fc.nat() }),
  );
  const protocol = fc.constantFrom<Protocol>("tcp", "udp");
  const RUNS = { numRuns: 2000 };

  test("without rules nothing is allowed, and nothing is looked up", async () => {
    await fc.assert(
      fc.asyncProperty(target, protocol, async (asked, over) => {
        const { ask, resolved } = setup({});
        await expect(ask(over, asked)).rejects.toMatchObject(refused());
        expect(resolved).toEqual([]);
      }),
      RUNS,
    );
  });

  test("a hint allows just what was asked for", async () => {
    await fc.assert(
      fc.asyncProperty(target, protocol, async (asked, over) => {
        const error: unknown = await setup({})
          .ask(over, asked)
          .catch((error: unknown) => error);
        const hint = /; --allow (.*) would allow it$/s.exec((error as Error).message)?.[1];
        if (hint === undefined) return;
        expect(hint).toMatch(/^[\p{L}\p{N}\p{M}_./:@+,%[\]-]+$/u);
        const access = new Access({
          offers: [],
          rules: [parseRule(hint)],
          resolve: () => Promise.resolve(["192.0.2.1", "127.0.0.1"]),
        });
        expect((await access.check(over, asked)).length).toBe(1);
      }),
      RUNS,
    );
  });

  test("whatever a resolver says, a name's rule leads to no loopback, link-local or multicast address", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(address, fc.string())), async (answers) => {
        const access = new Access({
          offers: [],
          rules: ["*.example.com:80", "x.example.com:80"].map(parseRule),
          resolve: () => Promise.resolve(answers),
        });
        const found = await access
          .check("tcp", { type: "host", host: "x.example.com", port: 80 })
          .catch((error: unknown) => {
            expect(["REFUSED", "NAME_UNKNOWN"]).toContain((error as DcpipeError).code);
            return [];
          });
        for (const each of found) {
          const text = each.type === "host" ? each.address : "?";
          expect(text).not.toMatch(
            /^(0|127|22[4-9]|23\d|24\d|25[0-5])\.|^169\.254\.|^fe[89ab].:|^ff..:|^::1?$/,
          );
          expect(answers).toContain(text);
        }
      }),
      RUNS,
    );
  });

  test("a network is what its first bits say", async () => {
    const bits = (bytes: Uint8Array): string =>
      Array.from(bytes, (byte) => byte.toString(2).padStart(8, "0")).join("");
    const quad = fc
      .uint8Array({ minLength: 4, maxLength: 4 })
      .filter((bytes) => bytes.some((byte) => byte > 0));
    const flips = fc.tuple(quad, fc.nat(32), fc.nat(31)).map(([bytes, size, at]) => {
      const near = bytes.slice();
      near[at >> 3] = (near[at >> 3] ?? 0) ^ (0x80 >> (at & 7));
      return { bytes, size, near };
    });
    await fc.assert(
      fc.asyncProperty(flips, async ({ bytes, size, near }) => {
        fc.pre(near.some((byte) => byte > 0));
        const { ask } = setup({ allow: [`${formatAddress(bytes)}/${size}:80`] });
        const asked = { type: "host", host: formatAddress(near), port: 80 } as const;
        const same = bits(bytes).slice(0, size) === bits(near).slice(0, size);
        if (same) expect(await ask("tcp", asked)).toEqual([asked.host]);
        else await expect(ask("tcp", asked)).rejects.toMatchObject(refused());
      }),
    );
  });

  test("globs match what they should, and a long one takes no time", async () => {
    const pattern = fc.stringMatching(/^[ab*?]{1,8}$/).map((glob) => `x${glob}`);
    const text = fc.stringMatching(/^[ab]{0,10}$/).map((rest) => `x${rest}`);
    await fc.assert(
      fc.asyncProperty(pattern, text, async (glob, host) => {
        const expected = new RegExp(`^${glob.replaceAll("*", ".*").replaceAll("?", ".")}$`).test(host);
        const access = new Access({
          offers: [],
          rules: [parseRule(`${glob}:80`)],
          resolve: () => Promise.resolve(["192.0.2.1"]),
        });
        const found = await access.check("tcp", { type: "host", host, port: 80 }).catch(() => []);
        expect(found.length > 0).toBe(expected);
      }),
      RUNS,
    );
    const { ask } = setup({ allow: [`x${"*a".repeat(120)}:80`] });
    // One that tried every star anew would not come back.
    await expect(
      ask("tcp", { type: "host", host: `x${"a".repeat(119)}${"b".repeat(100)}`, port: 80 }),
    ).rejects.toMatchObject(refused());
  });

  test("what was asked for is said as it would be written", async () => {
    const { ask } = setup({});
    const asked = { type: "host", host: "db.example.com", port: 53 } as const;
    await expect(ask("udp", asked)).rejects.toThrow(formatTarget(asked, "udp"));
  });
});
