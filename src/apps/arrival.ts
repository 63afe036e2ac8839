/** A file's content on its way to the disk. Small files are held until they are whole and checked, and written at once. */
import { asDcpipeError, type DcpipeError } from "../errors.ts";
import { protocolError, Writer } from "../wire/bytes.ts";
import type { ContentDigest } from "./digest.ts";
import type { Attributes, FileSink } from "./endpoints.ts";

/** Files up to this size are held: 64 of them are 4 MiB. */
const SMALL = 64 * 1024;

export class Arrival {
  /** Bytes that are here, those of an earlier try included; what they should be, undefined when nobody knows. */
  size: number;
  readonly expected: number | undefined;
  failed = false;
  readonly #create: ((from: number) => Promise<FileSink>) | undefined;
  readonly #digest: ContentDigest;
  readonly #from: number;
  #held: Writer | undefined;
  #sink: FileSink | undefined;
  #writing: Promise<void> | undefined;

  /** Without `create` the content is a text, which is held. */
  constructor(
    create: ((from: number) => Promise<FileSink>) | undefined,
    digest: ContentDigest,
    expected: number | undefined,
    from: number,
  ) {
    this.#create = create;
    this.#digest = digest;
    this.expected = expected;
    this.size = from;
    this.#from = from;
    if (!create || (expected !== undefined && expected <= SMALL && from === 0))
      this.#held = new Writer(Math.min(expected ?? SMALL, SMALL));
  }

  /** Bytes that travelled. */
  get moved(): number {
    return this.size - this.#from;
  }

  /**
   * Takes the next bytes; the last ones may be on their way to the disk meanwhile. Resolves with an error when they could not be
   * stored, once. Throws PROTOCOL for more than was announced.
   */
  async write(content: Uint8Array): Promise<DcpipeError | undefined> {
    if (this.failed) return undefined;
    this.size += content.length;
    if (this.expected !== undefined && this.size > this.expected)
      throw protocolError("more content than announced");
    this.#digest.update(content);
    if (this.#held) {
      this.#held.raw(content);
      return undefined;
    }
    try {
      const sink = await this.#open();
      await this.#writing;
      this.#writing = sink.write(content);
      this.#writing.catch(() => undefined);
      return undefined;
    } catch (error) {
      await this.abandon();
      return asDcpipeError(error, "IO", "could not store it");
    }
  }

  /** Ends the digest of it all. */
  digest(): Promise<Uint8Array> {
    return this.#digest.digest();
  }

  /** What was held, as text. */
  text(): string {
    return new TextDecoder().decode(this.#held?.view());
  }

  async commit(attributes: Attributes, replace: boolean): Promise<void> {
    const sink = await this.#open();
    await this.#writing;
    if (this.#held && this.#held.length > 0) await sink.write(this.#held.view());
    await sink.commit(attributes, replace);
  }

  /** Leaves what came for another try. Never rejects. */
  async abandon(): Promise<void> {
    this.failed = true;
    await this.#writing?.catch(() => undefined);
    await this.#sink?.abandon();
  }

  async #open(): Promise<FileSink> {
    this.#sink ??= await this.#create?.(this.#from);
    if (!this.#sink) throw protocolError("a text is no file");
    return this.#sink;
  }
}
