import { describe, expect, test } from "vitest";
import { resolveName } from "../../src/node/names.ts";

describe("what needs no lookup", () => {
  test.each([
    ["127.0.0.1", ["127.0.0.1"]],
    ["192.0.2.7", ["192.0.2.7"]],
    ["::1", ["::1"]],
    ["[::1]", ["::1"]],
    ["0:0:0:0:0:0:0:1", ["::1"]],
    ["2001:DB8:0::00A", ["2001:db8::a"]],
    ["[2001:db8::1]", ["2001:db8::1"]],
    // One form for a rule to meet.
    ["::ffff:127.0.0.1", ["127.0.0.1"]],
    ["::ffff:7f00:1", ["127.0.0.1"]],
    ["::1%lo", ["::1"]],
    ["[2001:db8::1%eth0]", ["2001:db8::1"]],
    ["fe80::1%eth0", ["fe80::1%eth0"]],
    ["[FE80::1%25eth0]", ["fe80::1%eth0"]],
    ["fe80::1", ["fe80::1"]],
    ["localhost", ["127.0.0.1", "::1"]],
    ["LocalHost.", ["127.0.0.1", "::1"]],
    ["db.localhost", ["127.0.0.1", "::1"]],
    ["a.b.localhost.", ["127.0.0.1", "::1"]],
  ])("%s", async (host, addresses) => {
    expect(await resolveName(host)).toEqual(addresses);
  });
});

describe("names", () => {
  test("old ways to write an address end as one that a rule knows", async () => {
    expect(await resolveName("127.1")).toEqual(["127.0.0.1"]);
    expect(await resolveName("0x7f000001")).toEqual(["127.0.0.1"]);
  });

  test("a name that cannot exist (RFC 6761, section 6.4)", async () => {
    await expect(resolveName("nonexistent.invalid")).rejects.toMatchObject({
      code: "NAME_UNKNOWN",
      message: expect.stringMatching(
        /^the name "nonexistent\.invalid" (stands for no address|cannot be looked up)/,
      ) as string,
    });
  });

  test.each(["", "[]", "a b", "localhost\0.example", "a\nb", "notlocalhost.invalid", "localhost.invalid"])(
    "%j is none",
    async (host) => {
      await expect(resolveName(host)).rejects.toMatchObject({ code: "NAME_UNKNOWN" });
    },
  );
});
