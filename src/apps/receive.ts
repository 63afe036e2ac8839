/** Receives files: each is checked against its digest and on disk before STORED goes back. */
import { asDcpipeError, DcpipeError } from "../errors.ts";
import type { Session } from "../session/session.ts";
import { sameBytes } from "../wire/bytes.ts";
import type { Entry } from "../wire/file.ts";
import { REASONS, type Reason } from "../wire/frame.ts";
import type { Role } from "../wire/hello.ts";
import { isReason, type Digest, type FileSink, type FileTarget, type Progress } from "./endpoints.ts";
import { meet } from "./meet.ts";
import { checkName } from "./names.ts";
import { RecordStream } from "./records.ts";
import type { TransferResult } from "./send.ts";

export interface ReceiveOptions {
  readonly target: FileTarget;
  readonly createDigest: () => Digest;
  /** Refuse names that Windows cannot hold. */
  readonly windows?: boolean;
  readonly onprogress?: (progress: Progress) => void;
}

/** Receives until the sender is done. Rejects with the first failure; what arrived of that file is kept for resuming. */
export async function receiveFiles(
  session: Session,
  role: Role,
  options: ReceiveOptions,
): Promise<TransferResult> {
  const stream = await meet(session, role, "receive");
  const records = new RecordStream(stream);
  let files = 0;
  let bytes = 0;
  try {
    for (;;) {
      const record = await records.next();
      if (record?.type === "DONE") break;
      if (!record) throw new DcpipeError("INCOMPLETE", "the other side ended before it was done");
      if (record.type !== "ENTRY") throw new DcpipeError("PROTOCOL", "content without an entry");
      bytes += await receiveOne(records, record.entry, options);
      files++;
    }
    if (await records.next()) throw new DcpipeError("PROTOCOL", "a record after DONE");
    await stream.end();
  } catch (error) {
    const failure = asDcpipeError(error, "IO");
    // The sender may have been told in a record already; whichever it sees first says the same.
    stream.reset(isReason(failure.code, REASONS) ? failure.code : "ABORTED", failure.message);
    throw failure;
  }
  return { files, bytes };
}

async function receiveOne(records: RecordStream, entry: Entry, options: ReceiveOptions): Promise<number> {
  const { id, name, size, mode, mtime } = entry;
  let sink: FileSink;
  try {
    checkName(name, options.windows);
    sink = await options.target.create({ name, size, mode, mtime });
  } catch (error) {
    const failure = asDcpipeError(error, "IO", "could not make the file");
    await records.write({ type: "REFUSE", id, reason: reasonOf(failure), text: failure.message });
    throw failure;
  }
  try {
    await records.write({ type: "ACCEPT", id, offset: 0 });
    const received = await content(records, entry, sink, options);
    await sink.commit();
    await records.write({ type: "STORED", id });
    return received;
  } catch (error) {
    const failure = asDcpipeError(error, "IO", "could not store the file");
    await sink.abandon();
    await records
      .write({ type: "FAILED", id, reason: reasonOf(failure), text: failure.message })
      .catch(() => undefined);
    throw failure;
  }
}

async function content(
  records: RecordStream,
  entry: Entry,
  sink: FileSink,
  options: ReceiveOptions,
): Promise<number> {
  const digest = options.createDigest();
  let received = 0;
  for (;;) {
    const record = await records.next();
    if (!record) throw new DcpipeError("INCOMPLETE", "the other side ended in the middle of a file");
    switch (record.type) {
      case "CHUNK":
        received += record.content.length;
        if (entry.size !== undefined && received > entry.size)
          throw new DcpipeError("PROTOCOL", "more content than announced");
        digest.update(record.content);
        await sink.write(record.content);
        options.onprogress?.({ name: entry.name, bytes: received, total: entry.size });
        break;
      case "END":
        if (record.size !== received || (entry.size !== undefined && entry.size !== received)) {
          throw new DcpipeError("CHECKSUM", `${received} bytes arrived, ${record.size} were sent`);
        }
        if (!sameBytes(record.digest, digest.digest()))
          throw new DcpipeError("CHECKSUM", "the checksums differ");
        return received;
      case "BROKEN":
        throw new DcpipeError("INCOMPLETE", `the other side could not read all of it: ${record.text}`);
      default:
        throw new DcpipeError("PROTOCOL", `${record.type} in the middle of a file`);
    }
  }
}

function reasonOf(error: DcpipeError): Reason {
  return isReason(error.code, REASONS) ? error.code : "IO";
}
