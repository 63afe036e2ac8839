import { createHmac, hkdfSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import { Keys } from "../../src/signalling/keys.ts";
import { sameBytes } from "../../src/wire/bytes.ts";

const secret = Uint8Array.from({ length: 16 }, (_, i) => i);
const fingerprints = {
  waiting: new Uint8Array(32).fill(0xaa),
  joining: new Uint8Array(32).fill(0xbb),
};
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** The key schedule once more, by Node's own HKDF. */
function derive(info: string, length: number): Buffer {
  return Buffer.from(hkdfSync("sha256", secret, "dcpipe 1", info, length));
}

describe("keys", () => {
  const keys = new Keys(secret);

  test("fixed values: a change here is a change of the protocol", () => {
    expect(hex(keys.offerId)).toBe("ca3eb2d6");
    expect(hex(keys.joiningSeed)).toBe(
      "8d437880bdaf49da9fb7230ce82b01f5d167e6ef82bf80898e6e16f177d46bc0bf594e674b5964996da9a893b8bb0f3d",
    );
    expect(keys.ice("waiting", 0, 0)).toEqual({ ufrag: "38FwfxN3", pwd: "PAt69qqL+Y3Yqxe2AyuR4yGo" });
    expect(hex(keys.proof("joining", 3, 5, fingerprints))).toBe("78af9f81bdb97efc253853ded11585bd");
  });

  test("the schedule is HKDF-SHA256 with the infos of the specification", () => {
    expect(hex(keys.offerId)).toBe(hex(derive("offer id", 4)));
    expect(hex(keys.joiningSeed)).toBe(hex(derive("certificate joining", 48)));
    for (const role of ["waiting", "joining"] as const) {
      for (const [epoch, index] of [
        [0, 0],
        [1, 0],
        [0, 1],
        [32767, 65535],
      ] as const) {
        const { ufrag, pwd } = keys.ice(role, epoch, index);
        expect(ufrag + pwd).toBe(derive(`ice ${role} ${epoch} ${index}`, 24).toString("base64"));
        expect(ufrag).toHaveLength(8);
        expect(pwd).toHaveLength(24);
        const proof = createHmac("sha256", derive(`proof ${role}`, 32))
          .update(`${epoch} ${index}`)
          .update(fingerprints.waiting)
          .update(fingerprints.joining)
          .digest()
          .subarray(0, 16);
        expect(hex(keys.proof(role, epoch, index, fingerprints))).toBe(hex(proof));
      }
    }
  });

  test("ICE takes the credentials: RFC 8839 allows letters, digits, + and /", () => {
    for (let epoch = 0; epoch < 200; epoch++) {
      const { ufrag, pwd } = keys.ice("joining", epoch, 0);
      expect(ufrag).toMatch(/^[A-Za-z0-9+/]{4,256}$/);
      expect(pwd).toMatch(/^[A-Za-z0-9+/]{22,256}$/);
    }
  });

  test("everything differs by role, epoch, index, secret and certificates", () => {
    const other = new Keys(new Uint8Array(16).fill(9));
    const swapped = { waiting: fingerprints.joining, joining: fingerprints.waiting };
    const all = [
      ...[keys, other].flatMap((each) => [
        each.ice("waiting", 0, 0).ufrag,
        each.ice("joining", 0, 0).ufrag,
        each.ice("waiting", 1, 0).ufrag,
        each.ice("waiting", 0, 1).ufrag,
        // "1 10" is not "11 0".
        each.ice("waiting", 1, 10).ufrag,
        each.ice("waiting", 11, 0).ufrag,
        hex(each.proof("waiting", 0, 0, fingerprints)),
        hex(each.proof("joining", 0, 0, fingerprints)),
        hex(each.proof("waiting", 1, 0, fingerprints)),
        hex(each.proof("waiting", 0, 1, fingerprints)),
        hex(each.proof("waiting", 0, 0, swapped)),
        hex(each.joiningSeed),
        hex(each.offerId),
      ]),
    ];
    expect(new Set(all).size).toBe(all.length);
  });
});

describe("sameBytes", () => {
  test.each([
    [[], [], true],
    [[1, 2], [1, 2], true],
    [[1, 2], [1, 3], false],
    [[1, 2], [1], false],
    [[], [0], false],
  ])("%j and %j: %s", (a, b, same) => {
    expect(sameBytes(Uint8Array.from(a), Uint8Array.from(b))).toBe(same);
  });
});
