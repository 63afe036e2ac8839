/** A stream of a session as a Node Duplex. */
import { Duplex } from "node:stream";

/** The part of a session's Stream that is needed here. */
export interface ByteStream {
  read(): Promise<Uint8Array | undefined>;
  write(chunk: Uint8Array): Promise<void>;
  end(): Promise<void>;
  reset(reason: "CLOSED", text?: string): void;
  readonly closed: Promise<void>;
}

/** Both directions with half-close; `finish` comes when the other side has consumed everything, `destroy` resets. */
export function toDuplex(stream: ByteStream): Duplex {
  let reading = false;
  const duplex = new Duplex({
    allowHalfOpen: true,
    read() {
      if (reading) return;
      reading = true;
      stream.read().then(
        (chunk) => {
          reading = false;
          duplex.push(chunk ?? null);
        },
        (error: unknown) => {
          duplex.destroy(error as Error);
        },
      );
    },
    write(chunk: Buffer, _encoding, callback) {
      stream.write(chunk).then(() => {
        callback();
      }, callback);
    },
    final(callback) {
      stream.end().then(() => {
        callback();
      }, callback);
    },
    destroy(error, callback) {
      stream.reset("CLOSED", error?.message);
      callback(error);
    },
  });
  stream.closed.catch((error: unknown) => {
    duplex.destroy(error as Error);
  });
  return duplex;
}
