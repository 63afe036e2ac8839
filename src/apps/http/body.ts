/** Bodies of requests, as fetch takes them. */
import { DcpipeError } from "../../errors.ts";

/** What a request sends. */
export interface SentBody {
  readonly stream: ReadableStream<Uint8Array>;
  /** Bytes, if known. */
  readonly length: number | undefined;
  /** Its Content-Type, if it has one by itself. */
  readonly type: string | undefined;
}

export interface Body {
  readonly open: () => SentBody;
  /** It can be opened again, for a redirect. */
  readonly repeatable: boolean;
}

/** A body as it stands in `init`. Throws USAGE for a stream without `duplex: "half"`, as the standard does. */
export function bodyOf(given: NonNullable<RequestInit["body"]>, duplex: unknown): Body {
  if (given instanceof ReadableStream) {
    if (duplex !== "half") throw new DcpipeError("USAGE", 'a body that is a stream needs duplex: "half"');
    return once(given);
  }
  if (given instanceof Blob) return ofBlob(given, given.type === "" ? undefined : given.type);
  if (given instanceof FormData) {
    // Its boundary is another each time.
    return { open: () => ofResponse(new Response(given)), repeatable: true };
  }
  if (given instanceof ArrayBuffer || ArrayBuffer.isView(given)) return ofBlob(new Blob([given]), undefined);
  if (given instanceof URLSearchParams)
    return ofBlob(new Blob([given.toString()]), "application/x-www-form-urlencoded;charset=UTF-8");
  return ofBlob(new Blob([given as string]), "text/plain;charset=UTF-8");
}

/** The body of a Request; undefined when it has none. */
export async function bodyOfRequest(request: Request): Promise<Body | undefined> {
  if (request.bodyUsed) throw new DcpipeError("USAGE", "a request whose body was used already");
  if (["GET", "HEAD"].includes(request.method)) return undefined;
  // Firefox does not show the stream.
  const stream = (request as { readonly body?: Request["body"] }).body;
  if (stream === undefined) {
    const blob = await request.blob();
    return blob.size === 0 ? undefined : ofBlob(blob, undefined);
  }
  return stream === null ? undefined : once(stream as ReadableStream<Uint8Array>);
}

function once(stream: ReadableStream<Uint8Array>): Body {
  return { open: () => ({ stream, length: undefined, type: undefined }), repeatable: false };
}

function ofBlob(blob: Blob, type: string | undefined): Body {
  return {
    open: () => ({ stream: blob.stream() as ReadableStream<Uint8Array>, length: blob.size, type }),
    repeatable: true,
  };
}

function ofResponse(response: Response): SentBody {
  const stream = (response.body ?? new Blob([]).stream()) as ReadableStream<Uint8Array>;
  return { stream, length: undefined, type: response.headers.get("content-type") ?? undefined };
}
