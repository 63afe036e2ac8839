/** One file's content onto the wire: START, CHUNKs and END, or BROKEN where it cannot be read as it was listed. */
import { asDcpipeError, DcpipeError } from "../errors.ts";
import { MAX_CHUNK } from "../wire/file.ts";
import type { Reason } from "../wire/frame.ts";
import { ContentDigest } from "./digest.ts";
import type { Digest, SourceContent, SourceFile } from "./endpoints.ts";
import type { Pacer } from "./limit.ts";
import type { RecordWriter } from "./records.ts";

export interface Delivery {
  readonly writer: RecordWriter;
  readonly createDigest: () => Digest;
  readonly pacer: Pacer | undefined;
}

export interface DeliveryWatch {
  /** The receiver has so many bytes already. */
  skipped(bytes: number): void;
  /** So many more are on their way; false when nobody wants the rest. */
  sent(bytes: number): boolean;
}

export type DeliveryOutcome = "sent" | { readonly reason: Reason; readonly text: string };

/** A file whose first `offset` bytes were read and hashed. */
export interface Opened {
  readonly content: SourceContent;
  readonly digest: ContentDigest;
  readonly offset: number;
  /** The first chunk behind `offset`. */
  readonly rest: Uint8Array | undefined;
}

/** Writes a file's content behind `offset`; `opened` is the file there already. Rejects when the stream ends. */
export async function deliver(
  { writer, createDigest, pacer }: Delivery,
  id: number,
  file: SourceFile,
  offset: number,
  opened: Opened | undefined,
  watch: DeliveryWatch,
): Promise<DeliveryOutcome> {
  let content = opened?.content;
  try {
    const { digest, rest, ...at } =
      opened ?? (await openBehind(file, offset, new ContentDigest(createDigest)));
    content = at.content;
    watch.skipped(offset);
    writer.put({ type: "START", id, offset });
    let size = offset;
    for (let chunk = rest; chunk; chunk = await content.read()) {
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
    writer.put({ type: "END", size, digest: await digest.digest() });
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

/** Opens a file and hashes its first `offset` bytes. Rejects with IO, or INCOMPLETE when there are not so many. */
export async function openBehind(file: SourceFile, offset: number, digest: ContentDigest): Promise<Opened> {
  const content = await file.open();
  try {
    let at = 0;
    while (at < offset) {
      const chunk = await content.read();
      if (!chunk) throw new DcpipeError("INCOMPLETE", "it has shrunk since it was listed");
      const part = chunk.subarray(0, offset - at);
      digest.update(part);
      at += part.length;
      if (part.length < chunk.length) return { content, digest, offset, rest: chunk.subarray(part.length) };
    }
    return { content, digest, offset, rest: await content.read() };
  } catch (error) {
    content.cancel();
    throw error;
  }
}
