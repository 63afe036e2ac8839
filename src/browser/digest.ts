import { sha256 } from "@noble/hashes/sha2.js";
import type { Digest } from "../apps/endpoints.ts";

/** The browser's SHA-256 hashes elsewhere and must be asked: less than this is done sooner here. Bytes. */
const SMALL = 16 * 1024;

/** SHA-256 of a block, which is held until the end: the browser's own takes nothing but the whole at once. */
export function createDigest(): Digest {
  return around(new Uint8Array(SMALL), 0);
}

function around(given: Uint8Array<ArrayBuffer>, length: number): Digest {
  let bytes = given;
  let filled = length;
  return {
    update: (chunk) => {
      if (filled + chunk.length > bytes.length) {
        const larger = new Uint8Array(Math.max(bytes.length * 2, filled + chunk.length));
        larger.set(bytes.subarray(0, filled));
        bytes = larger;
      }
      bytes.set(chunk, filled);
      filled += chunk.length;
    },
    digest: () => {
      const all = bytes.subarray(0, filled);
      if (filled <= SMALL) return sha256(all);
      return crypto.subtle.digest("SHA-256", all).then((hash) => new Uint8Array(hash));
    },
    copy: () => around(bytes.slice(), filled),
  };
}
