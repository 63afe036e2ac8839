import { createHash, type Hash } from "node:crypto";
import type { Digest } from "../apps/endpoints.ts";

/** SHA-256 by OpenSSL. */
export function createDigest(): Digest {
  return around(createHash("sha256"));
}

function around(hash: Hash): Digest {
  return {
    update: (chunk) => {
      hash.update(chunk);
    },
    digest: () => hash.digest(),
    copy: () => around(hash.copy()),
  };
}
