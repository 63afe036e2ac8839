/** Bodies of the site's requests, on their way to the outer page. */

/** So much is read before it is decided that a body is a stream: a server is told the length of all that is shorter. */
const SHORT = 256 * 1024;

/** A stream where the browser shows one and it is long; else all of it, as the browser holds it. */
export async function bodyFor(request: Request): Promise<{
  readonly body: ReadableStream<Uint8Array> | Blob | undefined;
  readonly length: number | undefined;
}> {
  const none = { body: undefined, length: undefined };
  if (["GET", "HEAD"].includes(request.method)) return none;
  // Firefox does not show the stream.
  const stream = (request as { readonly body?: ReadableStream<Uint8Array<ArrayBuffer>> | null }).body;
  if (stream === undefined) {
    const blob = await request.blob();
    return blob.size === 0 ? none : { body: blob, length: blob.size };
  }
  if (stream === null) return none;
  const reader = stream.getReader();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  while (length < SHORT) {
    const { done, value } = await reader.read();
    if (done) return { body: new Blob(parts), length };
    parts.push(value);
    length += value.length;
  }
  const whole = new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        const part = parts.shift();
        if (part) {
          controller.enqueue(part);
          return;
        }
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
  return { body: whole, length: undefined };
}
