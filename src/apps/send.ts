import type { Codec, Digest, Progress, SourceTree, TransferResult } from "./endpoints.ts";
import type { Session } from "../session/session.ts";
import type { Role } from "../wire/hello.ts";

export interface SendOptions {
  readonly tree: SourceTree;
  readonly createDigest: () => Digest;
  /** Compress what shrinks when the path, not this machine, is the bottleneck; undefined for never. */
  readonly codec?: Codec | undefined;
  /** Bytes of content a second. */
  readonly limit?: number | undefined;
  readonly onprogress?: ((progress: Progress) => void) | undefined;
}

/**
 * Sends all there is. Resolves when the other side has settled every entry, also when it refused some or some could not be
 * read: see `problems`. Rejects with what ended the whole of it: REFUSED, NO_SPACE, PEER_GONE, ...
 */
export async function sendFiles(session: Session, role: Role, options: SendOptions): Promise<TransferResult> {
  throw new Error("soon");
}
