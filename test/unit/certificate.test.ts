import { createHash, createPrivateKey, createPublicKey, sign, verify, X509Certificate } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  CERTIFICATE_SEED_SIZE,
  certificateFromSeed,
  randomCertificate,
} from "../../src/transport/certificate.ts";

const seed = (fill: number): Uint8Array => new Uint8Array(CERTIFICATE_SEED_SIZE).fill(fill);
const seeds = fc.uint8Array({
  minLength: CERTIFICATE_SEED_SIZE,
  maxLength: CERTIFICATE_SEED_SIZE,
  size: "max",
});

describe("certificate", () => {
  test("another implementation reads it, and every part agrees", () => {
    fc.assert(
      fc.property(seeds, (bytes) => {
        const made = certificateFromSeed(bytes);
        const x509 = new X509Certificate(made.certificatePem);
        expect(Buffer.from(made.fingerprint).toString("hex")).toBe(
          x509.fingerprint256.replaceAll(":", "").toLowerCase(),
        );
        expect(createHash("sha256").update(x509.raw).digest()).toEqual(Buffer.from(made.fingerprint));
        const key = createPrivateKey(made.keyPem);
        expect(x509.checkPrivateKey(key)).toBe(true);
        // Self-signed: the signature is made with the key inside.
        expect(x509.verify(x509.publicKey)).toBe(true);
        expect(x509.subject).toBe("CN=dcpipe");
        expect(x509.issuer).toBe(x509.subject);
        expect(key.asymmetricKeyType).toBe("ec");
        expect(key.asymmetricKeyDetails?.namedCurve).toBe("prime256v1");
      }),
      { numRuns: 50 },
    );
  });

  test("the key signs what the certificate verifies", () => {
    const { certificatePem, keyPem } = certificateFromSeed(seed(7));
    const signature = sign("sha256", Buffer.from("hello"), keyPem);
    expect(
      verify("sha256", Buffer.from("hello"), new X509Certificate(certificatePem).publicKey, signature),
    ).toBe(true);
    expect(createPublicKey(keyPem).equals(new X509Certificate(certificatePem).publicKey)).toBe(true);
  });

  test("the same seed gives the same bytes, today and tomorrow", () => {
    expect(certificateFromSeed(seed(1))).toEqual(certificateFromSeed(seed(1)));
    // Both sides derive the joining side's certificate: a change here is a change of the protocol.
    expect(Buffer.from(certificateFromSeed(seed(1)).fingerprint).toString("hex")).toBe(
      "2aebf007bea61f175fb91ef4ca689ab0010a90102ac2df24a774fdf1851a47d4",
    );
  });

  test("another seed gives another key", () => {
    const fingerprints = [0, 1, 2, 128, 255].map((fill) =>
      Buffer.from(certificateFromSeed(seed(fill)).fingerprint).toString("hex"),
    );
    expect(new Set(fingerprints).size).toBe(fingerprints.length);
  });

  test("the private key is the seed reduced into the group, as FIPS 186-5 A.2.1 has it", () => {
    fc.assert(
      fc.property(seeds, (bytes) => {
        const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
        const wanted = (BigInt(`0x${Buffer.from(bytes).toString("hex")}`) % (order - 1n)) + 1n;
        const { d } = createPrivateKey(certificateFromSeed(bytes).keyPem).export({ format: "jwk" });
        expect(BigInt(`0x${Buffer.from(d ?? "", "base64url").toString("hex")}`)).toBe(wanted);
      }),
      { numRuns: 20 },
    );
  });

  test("is valid now and for long, for a machine whose clock is wrong too", () => {
    const x509 = new X509Certificate(certificateFromSeed(seed(3)).certificatePem);
    expect(Date.parse(x509.validFrom)).toBeLessThanOrEqual(Date.UTC(2020, 0, 1));
    expect(Date.parse(x509.validTo)).toBeGreaterThan(Date.UTC(2049, 0, 1));
  });
});

test("a random one is as good, and another one each time", async () => {
  const [one, two] = [await randomCertificate(), await randomCertificate()];
  expect(one.fingerprint).not.toEqual(two.fingerprint);
  for (const { certificatePem, keyPem, fingerprint } of [one, two]) {
    const certificate = new X509Certificate(certificatePem);
    expect(certificate.verify(certificate.publicKey)).toBe(true);
    expect(certificate.checkPrivateKey(createPrivateKey(keyPem))).toBe(true);
    expect(certificate.fingerprint256.replaceAll(":", "").toLowerCase()).toBe(
      Buffer.from(fingerprint).toString("hex"),
    );
  }
});
