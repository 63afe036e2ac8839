/** The content of files, a piece at a time: never a file whole in memory. */
import type { SourceContent } from "../../apps/endpoints.ts";
import { DcpipeError } from "../../errors.ts";

/** A piece costs a trip to another process; two of them are held. */
const PIECE = 1024 * 1024;

/** The next piece is read while this one is on its way. */
export function blobContent(blob: Blob): SourceContent {
  let at = 0;
  let cancelled = false;
  const next = (): Promise<ArrayBuffer> | undefined => {
    if (cancelled || at >= blob.size) return undefined;
    const piece = blob.slice(at, at + PIECE).arrayBuffer();
    // Told by the read that asks for it.
    piece.catch(() => undefined);
    at += PIECE;
    return piece;
  };
  let ahead: Promise<ArrayBuffer> | undefined;
  return {
    read: async () => {
      const piece = ahead ?? next();
      ahead = next();
      try {
        const bytes = piece && new Uint8Array(await piece);
        return bytes && bytes.length > 0 ? bytes : undefined;
      } catch (cause) {
        const why = "it has changed since it was chosen, or cannot be read any more";
        throw new DcpipeError("INCOMPLETE", why, { cause });
      }
    },
    cancel: () => {
      cancelled = true;
      ahead = undefined;
    },
    // A browser that sees it fails the next read.
    changed: () => Promise.resolve(undefined),
  };
}
