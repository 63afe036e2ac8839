/**
 * A socket that reads on when it cannot write any more. A server that wants no more of a request answers, closes, and resets what still
 * comes; Node's own socket would end with the failed write, and drop the answer that is there to be read (bytesocket.ts has the measure).
 */
import { Socket } from "node:net";
import { systemCode } from "./failure.ts";

/** Errors of a write that say nothing about what can still be read. */
const BROKEN = ["EPIPE", "ECONNRESET"];

type Callback = (error?: Error | null) => void;

export class PatientSocket extends Socket {
  override _write(chunk: unknown, encoding: BufferEncoding, callback: Callback): void {
    super._write(chunk, encoding, this.#unless(callback));
  }

  override _writev(chunks: { chunk: unknown; encoding: BufferEncoding }[], callback: Callback): void {
    super._writev?.(chunks, this.#unless(callback));
  }

  /** Without its callback the stream writes no further: reading says how the connection ended. */
  #unless(callback: Callback): Callback {
    return (error) => {
      const canRead = !this.destroyed && !this.readableEnded;
      if (!error || !canRead || !BROKEN.includes(systemCode(error))) callback(error);
    };
  }
}
