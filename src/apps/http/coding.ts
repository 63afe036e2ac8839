/** Content codings of responses, as DecompressionStream undoes them (RFC 9110, section 8.4). */
import { DcpipeError } from "../../errors.ts";

export type Coding = "gzip" | "deflate";

/** What a request says it takes. */
export const ACCEPT_ENCODING = "gzip, deflate";
/** What DecompressionStream knows, by what HTTP calls it. */
const CODINGS: ReadonlyMap<string, Coding> = new Map([
  ["gzip", "gzip"],
  ["x-gzip", "gzip"],
  ["deflate", "deflate"],
]);
/** Codings one upon the other: more than one is rare, and each costs a decoder. */
const MAX_CODINGS = 4;

/** What undoes these codings, the last one first; nothing when one of them is not known here: then the body stays as it came. */
export function decodersFor(codings: string | null): Coding[] {
  const names = (codings ?? "").split(",").map((name) => name.trim().toLowerCase());
  const formats = names.filter((name) => name !== "" && name !== "identity").map((name) => CODINGS.get(name));
  return formats.includes(undefined) || formats.length > MAX_CODINGS
    ? []
    : formats.filter((format) => format !== undefined).reverse();
}

interface Transform {
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;
}

/** Reading it reads the body. What is wrong with the coding is what `failure` makes of a DcpipeError. */
export function decoded(
  body: ReadableStream<Uint8Array>,
  formats: readonly Coding[],
  failure: (error: DcpipeError) => unknown,
): ReadableStream<Uint8Array> {
  let stream = body;
  for (const format of formats) {
    // The types of Node and of browsers do not agree on chunks.
    const decoder: unknown = new DecompressionStream(format);
    stream = stream.pipeThrough(decoder as Transform);
  }
  const reader = stream.getReader();
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        try {
          const { done, value } = await reader.read();
          if (done) controller.close();
          else controller.enqueue(value);
        } catch (cause) {
          // Node's is an Error with the code of zlib (Z_DATA_ERROR).
          const isCoding = cause instanceof Error && "errno" in cause && "code" in cause;
          controller.error(isCoding ? failure(new DcpipeError("PROTOCOL", cause.message, { cause })) : cause);
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
