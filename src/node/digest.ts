import { createHash } from "node:crypto";
import type { Digest } from "../apps/endpoints.ts";

/** SHA-256 by OpenSSL. */
export function createDigest(): Digest {
  const hash = createHash("sha256");
  return {
    update: (chunk) => {
      hash.update(chunk);
    },
    digest: () => hash.digest(),
  };
}
