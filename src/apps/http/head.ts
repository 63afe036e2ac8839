/** The record at the beginning of a stream of kind `http`, and what follows it. */
import type { Stream } from "../../session/stream.ts";
import { protocolError, Reader, Writer } from "../../wire/bytes.ts";
import { decodeHttpRecord, MAX_HTTP_RECORD, type HttpRecord } from "../../wire/http.ts";
import type { Source } from "../endpoints.ts";

/** Reads the record off the stream. The source gives what follows, up to FIN. Rejects with PROTOCOL, or when the stream fails. */
export async function readHead(
  stream: Pick<Stream, "read" | "reset">,
): Promise<{ head: HttpRecord; body: Source }> {
  const read = new Writer();
  for (;;) {
    const chunk = await stream.read();
    if (!chunk) throw protocolError("the stream ends before its head");
    // Most come in one piece.
    const bytes = read.length === 0 ? chunk : read.raw(chunk).view();
    const taken = take(bytes);
    if (taken) return { head: decodeHttpRecord(taken.block), body: sourceOf(stream, taken.rest.slice()) };
    if (read.length === 0) read.raw(chunk);
  }
}

function take(bytes: Uint8Array): { block: Uint8Array; rest: Uint8Array } | undefined {
  const [first] = bytes;
  if (first === undefined || bytes.length < 1 << (first >> 6)) return undefined;
  const reader = new Reader(bytes);
  const length = reader.varint(MAX_HTTP_RECORD);
  if (reader.remaining < length) return undefined;
  return { block: reader.take(length), rest: reader.take(reader.remaining) };
}

function sourceOf(stream: Pick<Stream, "read" | "reset">, first: Uint8Array): Source {
  let rest: Uint8Array | undefined = first.length > 0 ? first : undefined;
  return {
    read: () => {
      const chunk = rest;
      rest = undefined;
      return chunk ? Promise.resolve(chunk) : stream.read();
    },
    cancel: () => {
      stream.reset("CLOSED");
    },
  };
}
