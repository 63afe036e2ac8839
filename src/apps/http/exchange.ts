/** One request and its response over a session, as they are: what fetch makes of them is in fetch.ts. */
import { asDcpipeError } from "../../errors.ts";
import type { Stream } from "../../session/stream.ts";
import { protocolError } from "../../wire/bytes.ts";
import { encodeHeader, type Target } from "../../wire/header.ts";
import { encodeHttpRecord, type BodyLength, type HttpField } from "../../wire/http.ts";
import type { Source } from "../endpoints.ts";
import { travelling } from "./fields.ts";
import { readHead } from "./head.ts";

/** What is asked of a session. */
export interface Opener {
  /** Throws when the session is over. */
  open(header: Uint8Array): Stream;
}

export interface ExchangeRequest {
  readonly target: Target;
  readonly method: string;
  /** A path with its query. */
  readonly path: string;
  /** What may not travel is left out (section 9.4 of docs/protocol.md). */
  readonly fields: Iterable<HttpField>;
  /** Read as fast as the other side takes it; cancelled when it wants no more. */
  readonly body?: ReadableStream<Uint8Array> | null | undefined;
  /** Bytes of the body, if that is known. */
  readonly length?: number | undefined;
  readonly signal?: AbortSignal | null | undefined;
  /** What those who read the response's body are told when it fails; by default the DcpipeError. Not for an abort. */
  readonly failure?: ((error: Error) => unknown) | undefined;
}

export interface ExchangeResponse {
  /** 200 to 999: those before the final one are dropped. */
  readonly status: number;
  readonly reason: string;
  /** Names in lower case; Set-Cookie is among them. */
  readonly fields: readonly HttpField[];
  /** As the server encoded it; null for HEAD and a status that has none. Reading is what lets the server go on; cancelling stops it. */
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>> | null;
}

/** A status that comes without a body (Fetch, section 2.2.3). */
const NULL_BODY = [204, 205, 304];
/** What one write takes of a body: a source may give a gigabyte at once. */
const SLICE = 64 * 1024;

/**
 * Resolves with the response's head. Rejects with the signal's reason, with what broke the request's body, or with a DcpipeError: USAGE
 * for what may not be sent, LIMIT, REFUSED, CONNECTION_REFUSED, CONNECTION_RESET, UNREACHABLE, NAME_UNKNOWN, TIMEOUT, PROTOCOL, or what
 * ended the session.
 */
export async function exchange(session: Opener, request: ExchangeRequest): Promise<ExchangeResponse> {
  const { target, method, path, body, signal } = request;
  signal?.throwIfAborted();
  const length: BodyLength = body ? (request.length ?? "unknown") : "none";
  const record = encodeHttpRecord({
    type: "REQUEST",
    method,
    path,
    body: length,
    fields: travelling("REQUEST", request.fields),
  });
  const stream = session.open(encodeHeader({ kind: "http", target }));
  stream.write(record).catch(ignore);
  const abort = (): void => {
    stream.reset("ABORTED", "stopped");
  };
  signal?.addEventListener("abort", abort);
  const over = (): void => {
    signal?.removeEventListener("abort", abort);
  };
  stream.closed.then(over, over);
  /** What broke the request's body. */
  let broken: { readonly cause: unknown } | undefined;
  if (body)
    void upload(stream, body, (cause) => {
      broken = { cause };
    });
  else stream.end().catch(ignore);
  const reasonFor = (cause: unknown): unknown => {
    if (signal?.aborted) return signal.reason;
    return broken ? broken.cause : asDcpipeError(cause, "IO");
  };
  try {
    const { head, body: source } = await readHead(stream);
    if (head.type !== "RESPONSE") throw protocolError("no response to a request");
    const { status, reason, fields } = head;
    const hasBody = method !== "HEAD" && !NULL_BODY.includes(status);
    if (!hasBody) void expectEnd(stream, source);
    const told = (cause: unknown): unknown => {
      const error = reasonFor(cause);
      return signal?.aborted || !(error instanceof Error) ? error : (request.failure?.(error) ?? error);
    };
    return { status, reason, fields, body: hasBody ? readableOf(source, told) : null };
  } catch (cause) {
    const error = reasonFor(cause);
    stream.reset(asDcpipeError(cause, "IO").code === "PROTOCOL" ? "PROTOCOL" : "CLOSED");
    throw error;
  }
}

/** Never rejects. What breaks the body is told to `onbroken`, and ends the request. */
async function upload(
  stream: Stream,
  body: ReadableStream<Uint8Array>,
  onbroken: (cause: unknown) => void,
): Promise<void> {
  const reader = body.getReader();
  // Also while the body has nothing to give.
  stream.closed.catch((error: unknown) => {
    reader.cancel(error).catch(ignore);
  });
  for (;;) {
    let chunk: Uint8Array;
    try {
      const { done, value } = await reader.read();
      if (done) break;
      // Streams of anything can be given.
      if (!((value as unknown) instanceof Uint8Array))
        throw new TypeError("a request's body that is not of bytes");
      chunk = value;
    } catch (cause) {
      onbroken(cause);
      stream.reset("ABORTED", "the request's body failed");
      return;
    }
    try {
      for (let at = 0; at < chunk.length; at += SLICE) await stream.write(chunk.subarray(at, at + SLICE));
    } catch {
      return;
    }
  }
  stream.end().catch(ignore);
}

function readableOf(
  source: Source,
  failure: (cause: unknown) => unknown,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      pull: async (controller) => {
        let chunk: Uint8Array | undefined;
        try {
          chunk = await source.read();
        } catch (cause) {
          controller.error(failure(cause));
          return;
        }
        // Its owner may transfer it: what else is in the same memory is not to go with it.
        if (chunk) controller.enqueue(chunk.slice());
        else controller.close();
      },
      cancel: () => {
        source.cancel();
      },
    },
    { highWaterMark: 0 },
  );
}

/** For a response without a body. */
async function expectEnd(stream: Stream, source: Source): Promise<void> {
  try {
    if (await source.read()) stream.reset("PROTOCOL", "a body where there is none");
  } catch {
    // Nobody waits for it.
  }
}

function ignore(): void {
  // It fails for a reason that reading tells.
}
