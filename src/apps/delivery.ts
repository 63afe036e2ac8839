/** One file's content onto the wire: START, CHUNKs and END, or BROKEN where it cannot be read as it was listed. */
import { asDcpipeError } from "../errors.ts";
import { sameBytes } from "../wire/bytes.ts";
import { MAX_CHUNK } from "../wire/file.ts";
import type { Reason } from "../wire/frame.ts";
import type { Digest, SourceContent, SourceFile } from "./endpoints.ts";
import type { Pacer } from "./limit.ts";
import type { RecordWriter } from "./records.ts";

export interface Delivery {
  readonly writer: RecordWriter;
  readonly createDigest: () => Digest;
  readonly pacer: Pacer | undefined;
}

/** What the receiver says it has of a file: its first `length` bytes have this digest. */
export interface Claim {
  readonly type: "WANT" | "COMPARE";
  readonly length: number;
  readonly digest: Uint8Array | undefined;
}

export interface DeliveryWatch {
  /** The receiver has so many bytes already. */
  skipped(bytes: number): void;
  /** So many more are on their way; false when nobody wants the rest. */
  sent(bytes: number): boolean;
}

export type DeliveryOutcome = "sent" | { readonly reason: Reason; readonly text: string };

/** Writes what the receiver lacks. Rejects when the stream ends. */
export async function deliver(
  { writer, createDigest, pacer }: Delivery,
  id: number,
  file: SourceFile,
  claim: Claim,
  watch: DeliveryWatch,
): Promise<DeliveryOutcome> {
  let content: SourceContent | undefined;
  try {
    const opened = await openAt(file, claim, createDigest);
    content = opened.content;
    const { digest, offset } = opened;
    watch.skipped(offset);
    writer.put({ type: "START", id, offset });
    let size = offset;
    for (let chunk = opened.rest; chunk; chunk = await content.read()) {
      for (let at = 0; at < chunk.length;) {
        const part = chunk.subarray(at, at + Math.min(MAX_CHUNK, pacer?.slice ?? MAX_CHUNK));
        at += part.length;
        size += part.length;
        if (file.size !== undefined && size > file.size) return broken("it has grown while it was sent");
        digest.update(part);
        await pacer?.take(part.length);
        if (!watch.sent(part.length)) return broken("the other side has given it up");
        await writer.content(part);
      }
    }
    if (file.size !== undefined && size < file.size) return broken("it has shrunk while it was sent");
    const changed = await content.changed();
    if (changed !== undefined) return broken(changed);
    writer.put({ type: "END", size, digest: digest.digest() });
    await writer.room();
    return "sent";
  } catch (error) {
    const failure = asDcpipeError(error, "IO", "reading failed");
    if (failure.code !== "IO" && failure.code !== "INCOMPLETE") throw failure;
    return broken(failure.message, failure.code);
  } finally {
    content?.cancel();
  }

  function broken(text: string, reason: Reason = "INCOMPLETE"): DeliveryOutcome {
    writer.put({ type: "BROKEN", id, reason, text });
    return { reason, text };
  }
}

interface Opened {
  readonly content: SourceContent;
  /** What was hashed: the first `offset` bytes. */
  readonly digest: Digest;
  readonly offset: number;
  /** The first chunk behind `offset`, when it is read already. */
  readonly rest: Uint8Array | undefined;
}

/** Opens a file behind what the receiver has of it, if it really has that; else at its start. */
async function openAt(file: SourceFile, claim: Claim, createDigest: () => Digest): Promise<Opened> {
  const { length } = claim;
  if (length > 0 && file.size !== undefined && length <= file.size) {
    const opened = await openBehind(file, length, createDigest());
    if (opened && claim.digest && sameBytes(opened.digest.copy().digest(), claim.digest)) return opened;
    opened?.content.cancel();
  }
  const content = await file.open();
  return { content, digest: createDigest(), offset: 0, rest: await content.read() };
}

/** Reads and hashes the first `length` bytes. Undefined when there are not so many. */
async function openBehind(file: SourceFile, length: number, digest: Digest): Promise<Opened | undefined> {
  const content = await file.open();
  let offset = 0;
  while (offset < length) {
    const chunk = await content.read();
    if (!chunk) {
      content.cancel();
      return undefined;
    }
    const part = chunk.subarray(0, length - offset);
    digest.update(part);
    offset += part.length;
    if (part.length < chunk.length) return { content, digest, offset, rest: chunk.subarray(part.length) };
  }
  return { content, digest, offset, rest: await content.read() };
}

/** Whether the receiver has exactly this content. What cannot be read is not equal. */
export async function isEqual(file: SourceFile, claim: Claim, createDigest: () => Digest): Promise<boolean> {
  if (file.size === undefined || claim.length !== file.size || !claim.digest) return false;
  try {
    const opened = await openBehind(file, claim.length, createDigest());
    if (!opened) return false;
    const changed = await opened.content.changed();
    opened.content.cancel();
    return changed === undefined && !opened.rest && sameBytes(opened.digest.digest(), claim.digest);
  } catch {
    return false;
  }
}
