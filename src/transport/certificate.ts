/**
 * Self-signed P-256 certificates for DTLS, made from a private key alone: the same key gives the same bytes on any machine,
 * so a side that knows the key (with a token, the joining side's is derived from the secret) knows the fingerprint too.
 *
 *   Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature }        RFC 5280, section 4.1
 *   key         ::= PKCS #8 around ECPrivateKey                                       RFC 5958, RFC 5915
 *   signature   deterministic ECDSA with SHA-256                                      RFC 6979
 */
import { p256 } from "@noble/curves/nist.js";
import { sha256 } from "@noble/hashes/sha2.js";

/**
 * What a side proves itself with. The fingerprint is all that the core knows of it: how certificate and key are kept is between those
 * adapters of a platform that make certificates and those that use them.
 */
export interface Certificate {
  /** SHA-256 over the DER certificate, 32 bytes: the DTLS fingerprint (RFC 8122, section 5). */
  readonly fingerprint: Uint8Array;
}

/** One whose key is text: it can be made of a seed, and stored. Browsers show nobody their keys, and take none. */
export interface PemCertificate extends Certificate {
  /** X.509 certificate, PEM. */
  readonly certificatePem: string;
  /** PKCS #8 private key, PEM. */
  readonly keyPem: string;
}

/** Seed bytes asked of the caller: 16 more than the order of P-256, so that the reduction is unbiased (FIPS 186-5, A.2.1). */
export const CERTIFICATE_SEED_SIZE = 48;

/**
 * Two or four multiplications in the life of a process: the library's default table of multiples costs more than it saves
 * (measured: 18 ms in place of 40 for the first certificate).
 */
const PRECOMPUTED_BITS = 4;
let prepared = false;

/** The certificate whose key is `seed` (48 uniform bytes) reduced into the group. */
export function certificateFromSeed(seed: Uint8Array): PemCertificate {
  if (!prepared) p256.Point.BASE.precompute(PRECOMPUTED_BITS);
  prepared = true;
  const secretKey = p256.utils.randomSecretKey(seed);
  const publicKey = p256.getPublicKey(secretKey, false);
  const body = toBeSigned(publicKey);
  const signature = p256.sign(body, secretKey, { prehash: true, lowS: false, format: "der" });
  const ecKey = sequence(tlv(0x02, Uint8Array.of(1)), tlv(0x04, secretKey), tlv(0xa1, bitString(publicKey)));
  const key = sequence(tlv(0x02, Uint8Array.of(0)), sequence(EC_PUBLIC_KEY, PRIME256V1), tlv(0x04, ecKey));
  return certificate(body, signature, key);
}

/** A certificate with a random key, by the platform's own cryptography: a tenth of the time. */
export async function randomCertificate(): Promise<PemCertificate> {
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const { privateKey, publicKey } = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const [key, point] = await Promise.all([
    crypto.subtle.exportKey("pkcs8", privateKey),
    crypto.subtle.exportKey("raw", publicKey),
  ]);
  const body = toBeSigned(new Uint8Array(point));
  // r and s, 32 bytes each (IEEE P1363).
  const signature = new Uint8Array(await crypto.subtle.sign(algorithm, privateKey, body));
  const der = sequence(integer(signature.subarray(0, 32)), integer(signature.subarray(32)));
  return certificate(body, der, new Uint8Array(key));
}

/** TBSCertificate around an uncompressed public key. */
function toBeSigned(publicKey: Uint8Array): Uint8Array<ArrayBuffer> {
  const name = sequence(set(sequence(COMMON_NAME, tlv(0x0c, ascii("dcpipe")))));
  const subjectPublicKey = sequence(sequence(EC_PUBLIC_KEY, PRIME256V1), bitString(publicKey));
  return sequence(
    tlv(0xa0, INTEGER_2),
    tlv(0x02, Uint8Array.of(1)),
    sequence(ECDSA_WITH_SHA256),
    name,
    sequence(tlv(0x17, ascii("200101000000Z")), tlv(0x17, ascii("491231235959Z"))),
    name,
    subjectPublicKey,
  );
}

function certificate(body: Uint8Array, signature: Uint8Array, key: Uint8Array): PemCertificate {
  const der = sequence(body, sequence(ECDSA_WITH_SHA256), bitString(signature));
  return {
    certificatePem: pem("CERTIFICATE", der),
    keyPem: pem("PRIVATE KEY", key),
    fingerprint: sha256(der),
  };
}

/** A DER INTEGER of a big-endian number without sign. */
function integer(number: Uint8Array): Uint8Array {
  const start = number.findIndex((byte) => byte !== 0);
  const digits = start < 0 ? Uint8Array.of(0) : number.subarray(start);
  return tlv(0x02, (digits[0] ?? 0) >= 0x80 ? concat([Uint8Array.of(0), digits]) : digits);
}

const ECDSA_WITH_SHA256 = hex("06082a8648ce3d040302");
const EC_PUBLIC_KEY = hex("06072a8648ce3d0201");
const PRIME256V1 = hex("06082a8648ce3d030107");
const COMMON_NAME = hex("0603550403");
const INTEGER_2 = hex("020102");

function hex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** DER tag, length and value; lengths here stay below 65,536. */
function tlv(tag: number, value: Uint8Array): Uint8Array<ArrayBuffer> {
  const n = value.length;
  const head = n < 0x80 ? [tag, n] : n < 0x100 ? [tag, 0x81, n] : [tag, 0x82, n >> 8, n & 0xff];
  return concat([Uint8Array.from(head), value]);
}

function sequence(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  return tlv(0x30, concat(parts));
}

function set(...parts: Uint8Array[]): Uint8Array {
  return tlv(0x31, concat(parts));
}

function bitString(value: Uint8Array): Uint8Array {
  return tlv(0x03, concat([Uint8Array.of(0), value]));
}

function pem(label: string, der: Uint8Array): string {
  const base64 = btoa(String.fromCharCode(...der));
  const lines = base64.match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}
