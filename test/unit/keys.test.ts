import { createHmac, hkdfSync } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Keys } from "../../src/signalling/keys.ts";
import { sameBytes } from "../../src/wire/bytes.ts";
import { WORDS } from "../../src/wire/words.ts";

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

describe("keys of a code", () => {
  const isk = Uint8Array.from({ length: 64 }, (_, i) => 255 - i);
  const keys = Keys.fromCode(isk);
  const hello = { point: new Uint8Array(32).fill(1), fingerprint: fingerprints.waiting };
  const answer = { point: new Uint8Array(32).fill(2), fingerprint: fingerprints.joining };
  const roles = ["waiting", "joining"] as const;

  function deriveCode(info: string | Buffer, length: number): Buffer {
    return Buffer.from(hkdfSync("sha256", isk, "dcpipe 1 code", info, length));
  }

  test("fixed values: a change here is a change of the protocol", () => {
    expect(hex(keys.confirmation("waiting", hello, answer))).toBe(
      "37a12ceeeb588c2ebf66dead1117654ca5ff65f7127448387b2afdd694e59066",
    );
    expect(hex(keys.confirmation("joining", hello, answer))).toBe(
      "193a1a3200e97b985624e70a1ef0860d64292d90d0dafe67d4888cdf40865c61",
    );
    expect(hex(keys.sealKey("waiting"))).toBe(
      "850ce19fa74294b89d2f5e482d8769c04dc591b376e65d36d414f284cd4fd2f7",
    );
    expect(hex(keys.mailboxName)).toBe("530db6b70bc725feb8183dc1fd22d7fe");
    expect(keys.verifier(fingerprints)).toBe("laptop-museum-butter-sugar-raccoon-quartz-iguana-avenue");
    expect(new Keys(secret).verifier(fingerprints)).toBe(
      "satchel-robot-circus-galaxy-sugar-potato-logbook-incense",
    );
  });

  test("the schedule is HKDF-SHA256 with the infos of the specification", () => {
    expect(hex(keys.mailboxName)).toBe(hex(deriveCode("mailbox", 16)));
    for (const role of roles) {
      expect(hex(keys.sealKey(role))).toBe(hex(deriveCode(`seal ${role}`, 32)));
      const { ufrag, pwd } = keys.ice(role, 0, 0);
      expect(ufrag + pwd).toBe(deriveCode(`ice ${role} 0 0`, 24).toString("base64"));
      const tag = createHmac("sha256", deriveCode(`confirm ${role}`, 32));
      for (const { point, fingerprint } of [hello, answer]) tag.update(point).update(fingerprint);
      expect(hex(keys.confirmation(role, hello, answer))).toBe(tag.digest("hex"));
    }
    const info = Buffer.concat([Buffer.from("verify"), fingerprints.waiting, fingerprints.joining]);
    const words = [...deriveCode(info, 8)].map((byte) => WORDS[byte]);
    expect(keys.verifier(fingerprints)).toBe(words.join("-"));
  });

  test("both sides agree, and a tag differs by key, role, point and fingerprint", () => {
    const point = fc.uint8Array({ minLength: 32, maxLength: 32 });
    const sent = fc.record({ point, fingerprint: point });
    const flip = (bytes: Uint8Array, bit: number): Uint8Array =>
      bytes.map((byte, i) => (i === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));
    fc.assert(
      fc.property(point, sent, sent, fc.nat(255), (shared, h, a, bit) => {
        const mine = Keys.fromCode(shared);
        const theirs = Keys.fromCode(shared.slice());
        for (const role of roles)
          expect(mine.confirmation(role, h, a)).toEqual(theirs.confirmation(role, h, a));
        const tags = [
          mine.confirmation("waiting", h, a),
          mine.confirmation("joining", h, a),
          Keys.fromCode(flip(shared, bit)).confirmation("waiting", h, a),
          mine.confirmation("waiting", { ...h, point: flip(h.point, bit) }, a),
          mine.confirmation("waiting", { ...h, fingerprint: flip(h.fingerprint, bit) }, a),
          mine.confirmation("waiting", h, { ...a, point: flip(a.point, bit) }),
          mine.confirmation("waiting", h, { ...a, fingerprint: flip(a.fingerprint, bit) }),
        ];
        expect(new Set(tags.map(hex)).size).toBe(tags.length);
        expect(tags.every(({ length }) => length === 32)).toBe(true);
      }),
      { numRuns: 100 },
    );
  });

  test("the same bytes as a token's secret and as a code's key have nothing in common", () => {
    const all = [new Keys(isk), keys].flatMap((each) => [
      each.ice("waiting", 0, 0).pwd,
      hex(each.joiningSeed),
      hex(each.offerId),
      hex(each.proof("waiting", 0, 0, fingerprints)),
      hex(each.confirmation("waiting", hello, answer)),
      hex(each.sealKey("waiting")),
      hex(each.sealKey("joining")),
      hex(each.mailboxName),
      each.verifier(fingerprints),
    ]);
    expect(new Set(all).size).toBe(all.length);
  });

  test("the words to compare differ by secret and by either certificate", () => {
    const other = new Uint8Array(32).fill(0xcc);
    const all = [
      keys.verifier(fingerprints),
      keys.verifier({ ...fingerprints, waiting: other }),
      keys.verifier({ ...fingerprints, joining: other }),
      keys.verifier({ waiting: fingerprints.joining, joining: fingerprints.waiting }),
      new Keys(secret).verifier(fingerprints),
    ];
    expect(new Set(all).size).toBe(all.length);
    for (const text of all) expect(text.split("-").every((word) => WORDS.includes(word))).toBe(true);
    for (const text of all) expect(text.split("-")).toHaveLength(8);
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
