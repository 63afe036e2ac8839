/** Connectivity checks of ICE (RFC 8445, section 7) on their way out through TURN. */
import { createHmac } from "node:crypto";
import { crc32 } from "node:zlib";
import { ATTRIBUTE, CLASS, decodeStun, hasIntegrity, HEADER_SIZE } from "./stun.ts";

const BINDING = 0x001;
/** Without the type preference (RFC 8445, section 5.1.2.1): that of a relayed address is 0. */
const NO_TYPE_PREFERENCE = 0x00ffffff;
/** Type, length and HMAC-SHA1 (RFC 8489, section 14.5). */
const INTEGRITY_ATTRIBUTE_SIZE = 24;
const FINGERPRINT_SIZE = 8;
const FINGERPRINT_HEADER = 0x8028_0004;
const FINGERPRINT_XOR = 0x5354554e;

/**
 * Takes from a check what it claims for the address that it comes from, in place. libjuice gives PRIORITY the type preference of
 * peer-reflexive addresses (RFC 8445, section 7.1.1), for relayed ones as well. Who hears of such an address by a check, before it is told,
 * would then prefer TURN to every direct path between reflexive addresses. `password`: the other side's, which the check is sealed with;
 * anything that is not such a check stays as it is.
 */
export function lowerPriority(data: Buffer, password: string): void {
  const check = decodeStun(data);
  const priority = check?.attributes.get(ATTRIBUTE.PRIORITY);
  if (check?.method !== BINDING || check.class !== CLASS.REQUEST || priority?.length !== 4) return;
  const key = Buffer.from(password);
  const { integrityAt } = check;
  if (integrityAt === undefined || !hasIntegrity(data, check, key)) return;
  priority.writeUInt32BE((priority.readUInt32BE(0) & NO_TYPE_PREFERENCE) >>> 0);
  const length = data.readUInt16BE(2);
  const end = integrityAt + INTEGRITY_ATTRIBUTE_SIZE;
  data.writeUInt16BE(end - HEADER_SIZE, 2);
  const integrity = createHmac("sha1", key).update(data.subarray(0, integrityAt)).digest();
  integrity.copy(data, integrityAt + 4);
  data.writeUInt16BE(length, 2);
  refreshFingerprint(data);
}

/** FINGERPRINT, if there is one (RFC 8489, section 14.7), for what the message is now. */
export function refreshFingerprint(message: Buffer): void {
  const at = message.length - FINGERPRINT_SIZE;
  if (at < HEADER_SIZE || message.readUInt32BE(at) !== FINGERPRINT_HEADER) return;
  message.writeUInt32BE((crc32(message.subarray(0, at)) ^ FINGERPRINT_XOR) >>> 0, at + 4);
}
