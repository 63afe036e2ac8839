/** The stream of kind `forward`: records both ways (section 9.1 of docs/protocol.md). */
import { DcpipeError } from "../../errors.ts";
import type { Stream } from "../../session/stream.ts";
import {
  decodeForwardRecord,
  encodeForwardRecord,
  MAX_FORWARD_RECORD,
  type ForwardRecord,
} from "../../wire/forward.ts";
import { readBlocks } from "./blocks.ts";

export class Control {
  readonly #stream: Stream;

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  send(record: ForwardRecord): void {
    this.#stream.write(encodeForwardRecord(record)).catch(() => undefined);
  }

  /** Nothing more will be said. The session cannot be closed well before both sides have said so. */
  end(): void {
    this.#stream.end().catch(() => undefined);
  }

  /** Hands over each record of the other side. Resolves when it has ended its direction; rejects with PROTOCOL, or when the session ends. */
  async read(onrecord: (record: ForwardRecord) => void): Promise<void> {
    try {
      for await (const block of readBlocks(this.#stream, MAX_FORWARD_RECORD))
        onrecord(decodeForwardRecord(block));
    } catch (cause) {
      if (cause instanceof DcpipeError && cause.code === "PROTOCOL")
        this.#stream.reset("PROTOCOL", cause.message);
      throw cause;
    }
  }
}
