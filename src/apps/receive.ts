/** Receives files, directories, links and texts: src/apps/receiver.ts does the work. */
import { asDcpipeError } from "../errors.ts";
import type { Session } from "../session/session.ts";
import { REASONS } from "../wire/frame.ts";
import type { Role } from "../wire/hello.ts";
import {
  isReason,
  type Codec,
  type Digest,
  type Progress,
  type TargetDirectory,
  type TransferResult,
} from "./endpoints.ts";
import { meet } from "./meet.ts";
import { Receiver } from "./receiver.ts";

/** What to do with a name that is taken by something else than what comes. */
export type Conflict = "refuse" | "overwrite" | "rename" | "skip";

/** An entry as the sender lists it. */
export interface Listed {
  /** Components with slashes between. From the peer: escape before showing. */
  readonly path: string;
  readonly kind: "file" | "directory" | "link" | "text";
  /** Bytes of a file or text, undefined when not known. */
  readonly size: number | undefined;
  /** Where a link points. */
  readonly target?: string | undefined;
  readonly mtime?: number | undefined;
}

/** What the sender wants to send. */
export interface Offer {
  /** Everything in order, or the first 4,096 entries of a larger tree. Those refused anyway (bad names) are not among them. */
  readonly entries: readonly Listed[];
  readonly complete: boolean;
  /** Of the whole, as the sender counts it: entries, and content bytes of known size. */
  readonly total: { readonly entries: number; readonly bytes: number };
  /** Something of unknown size (a stdin) is among them. */
  readonly unknown: boolean;
}

export interface ReceiveOptions {
  readonly target: TargetDirectory;
  /** The name for the only thing that comes, in place of the sender's. */
  readonly name?: string | undefined;
  /** Asked before anything is written; false refuses it all. Not asked for a text. Without it all is welcome. */
  readonly approve?: ((offer: Offer) => Promise<boolean>) | undefined;
  /** Asked once, at the first conflict, when it is a function; the answer holds for all. */
  readonly conflict: Conflict | ((path: string) => Promise<Conflict>);
  /** Whether to take this file or link (--only). Directories come into being as they are needed. */
  readonly wanted?: ((path: string) => boolean) | undefined;
  /** Called for each entry in place of taking it (--list). */
  readonly onlisted?: ((entry: Listed) => void) | undefined;
  /** Takes a text; without it a text is a file, text.txt. */
  readonly ontext?: ((text: string) => Promise<void>) | undefined;
  /** Refuse names that Windows cannot hold. */
  readonly windows?: boolean | undefined;
  /** Files being made durable at a time; 1 keeps their order, for stdout. */
  readonly stores?: number | undefined;
  readonly createDigest: () => Digest;
  readonly codec: Codec;
  /** Bytes of content a second. */
  readonly limit?: number | undefined;
  readonly onprogress?: ((progress: Progress) => void) | undefined;
  /** A sender of a large tree is counting: so many entries and bytes until now. */
  readonly oncounting?: ((entries: number, bytes: number) => void) | undefined;
}

/**
 * Receives until the sender is done. Resolves also when some entries were refused or failed: see `problems`. Rejects with what
 * ended the whole of it; what arrived is kept for another try.
 */
export async function receiveFiles(
  session: Session,
  role: Role,
  options: ReceiveOptions,
): Promise<TransferResult> {
  const stream = await meet(session, role, "receive");
  const receiver = new Receiver(stream, options);
  try {
    // The stream may end while somebody thinks about a question, or the disk about a file.
    return await Promise.race([receiver.run(), stream.closed.then(() => receiver.ended)]);
  } catch (error) {
    const failure = asDcpipeError(error, "IO");
    // Of a full disk the reason says it all.
    const text = failure.code === "NO_SPACE" ? "" : failure.message;
    stream.reset(isReason(failure.code, REASONS) ? failure.code : "ABORTED", text);
    await receiver.abandon();
    throw failure;
  }
}
