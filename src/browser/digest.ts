import { sha256 } from "@noble/hashes/sha2.js";
import type { Digest } from "../apps/endpoints.ts";

/** SHA-256. The browser's own takes nothing but the whole at once. */
export function createDigest(): Digest {
  return around(sha256.create());
}

function around(hash: ReturnType<typeof sha256.create>): Digest {
  return {
    update: (chunk) => {
      hash.update(chunk);
    },
    digest: () => hash.digest(),
    copy: () => around(hash.clone()),
  };
}
