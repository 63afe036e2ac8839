/**
 * The receiving side of a transfer. Records come in one by one; what each entry becomes is decided here:
 *
 *   ENTRY --decide--> REFUSE | PASS                                        a bad name, not wanted, taken by something else
 *            |------> WANT ------------> START CHUNK... END --store--> STORED | FAILED
 *            `------> COMPARE -> DIGEST -+--> STORED                       it was there, byte for byte
 *                                        `--> WANT | PASS | REFUSE         a part of it was there, or a conflict
 *
 * Nothing that the sender says becomes a path: names are single components, checked, and the target follows no links.
 */
import { asDcpipeError, DcpipeError } from "../errors.ts";
import type { Stream } from "../session/stream.ts";
import { protocolError, sameBytes } from "../wire/bytes.ts";
import { ENTRY_WINDOW, MAX_DEPTH, type Entry, type FileRecord } from "../wire/file.ts";
import { REASONS, type Reason } from "../wire/frame.ts";
import { Approval } from "./approval.ts";
import { Arrival } from "./arrival.ts";
import { ContentDigest } from "./digest.ts";
import {
  isReason,
  type Attributes,
  type Found,
  type Source,
  type TargetDirectory,
  type TransferResult,
} from "./endpoints.ts";
import { Folder } from "./folder.ts";
import { Pacer } from "./limit.ts";
import { checkName, checkTarget, numberedName } from "./names.ts";
import type { Conflict, Listed, ReceiveOptions } from "./receive.ts";
import { RecordReader, RecordWriter } from "./records.ts";
import { Slots } from "./slots.ts";
import { Tally } from "./tally.ts";

/** Files whose way to the disk's platter is waited for at a time: filesystems commit many at once at the price of one. */
const STORES = 256;
/** "name (1)" to "name (999)". */
const MAX_NUMBER = 999;
/** Progress is told this often. Milliseconds. */
const REPORT_MS = 200;
const TWICE = "another one came with this name, or one that is the same here";
/** Bytes, roughly, of a path from the target on; PATH_MAX of Linux. What is longer no other program could use. */
const MAX_PATH = 4096;
/** What a text is called when it has to be a file. */
const TEXT_NAME = "text.txt";

/** An entry that is not settled yet. */
interface Incoming {
  readonly id: number;
  readonly entry: Exclude<Entry, { kind: "directory" }>;
  readonly folder: Folder;
  /** Its name here; another one than the sender's after a conflict. */
  name: string;
  number: number;
  /** Another one came with the same name. */
  readonly twice: boolean;
  state: "deciding" | "comparing" | "wanted" | "arriving" | "storing";
  /** Takes the place of what has the name. */
  replace: boolean;
  /** What is here of it, a part or a whole file of that name: so many bytes, and their running digest. */
  have: { readonly length: number; readonly digest: ContentDigest; readonly whole: boolean } | undefined;
}

export class Receiver {
  /** Resolves with the result, when there is one. */
  readonly ended: Promise<TransferResult>;
  #resolveEnded!: (result: TransferResult) => void;
  readonly #stream: Stream;
  readonly #options: ReceiveOptions;
  readonly #reader: RecordReader;
  readonly #writer: RecordWriter;
  readonly #root: Folder;
  readonly #tally = new Tally();
  readonly #approval: Approval;
  readonly #unsettled = new Map<number, Incoming | Folder>();
  readonly #stores: Slots;
  readonly #pacer: Pacer | undefined;
  /** Where the sender is. */
  #folder: Folder;
  /** Things at the top. */
  #top = 0;
  #done = false;
  #conflict: Conflict | undefined;
  #arrival: Arrival | undefined;
  #arriving: Incoming | undefined;
  #settledBytes = 0;
  #current = "";
  #over = false;
  /** What ended it all while nobody was looking. */
  #failure: DcpipeError | undefined;

  constructor(stream: Stream, options: ReceiveOptions) {
    this.#stream = stream;
    this.#options = options;
    this.#reader = new RecordReader(stream, options.codec);
    this.#writer = new RecordWriter(stream);
    this.#root = new Folder(undefined, undefined, "", { mode: 0, mtime: 0 }, options.target);
    this.#folder = this.#root;
    this.#stores = new Slots(options.stores ?? STORES, (error) => {
      this.#failure = asDcpipeError(error, "IO");
      // Wakes who waits for the next record.
      this.#stream.reset(reasonOf(this.#failure), "");
    });
    this.#pacer = options.limit === undefined ? undefined : new Pacer(options.limit);
    this.#approval = new Approval(options, () => {
      this.#writer.put({ type: "COUNT" });
    });
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
  }

  async run(): Promise<TransferResult> {
    const ticker = setInterval(() => {
      this.#report();
    }, REPORT_MS);
    try {
      for (;;) {
        const record = await this.#reader.next();
        if (!record) break;
        if (this.#done) throw protocolError("a record after DONE");
        await this.#handle(record);
        await this.#writer.room();
      }
      if (!this.#done) throw new DcpipeError("INCOMPLETE", "the other side ended before it was done");
      await this.#root.finish(false);
      await this.#writer.flush();
      this.#current = "";
      this.#report();
      const { result } = this.#tally;
      this.#resolveEnded(result);
      await this.#stream.end();
      return result;
    } catch (error) {
      throw this.#failure ?? error;
    } finally {
      clearInterval(ticker);
      this.#writer.close();
    }
  }

  /** Leaves what arrived for another try. Never rejects. */
  async abandon(): Promise<void> {
    this.#over = true;
    this.#pacer?.cancel();
    await this.#arrival?.abandon();
    await this.#stores.idle();
    const folders = new Set([this.#folder, this.#root]);
    for (const each of this.#unsettled.values()) folders.add(each instanceof Folder ? each : each.folder);
    for (const folder of folders) {
      for (let up: Folder | undefined = folder; up; up = up.parent) await up.abandon();
    }
  }

  async #handle(record: FileRecord): Promise<void> {
    switch (record.type) {
      case "ENTRY":
        return this.#enter(record.entry);
      case "UP": {
        const left = this.#folder;
        if (!left.parent) throw protocolError("UP from the top");
        this.#folder = left.parent;
        return this.#hold(() => {
          this.#leave(left);
        });
      }
      case "MISSING":
        if (this.#approval.complete) throw protocolError("MISSING after LISTED");
        this.#tally.fail({
          name: this.#folder.path + record.name,
          reason: record.reason,
          text: record.text,
        });
        return;
      case "LISTED":
        if (this.#approval.complete || this.#folder !== this.#root)
          throw protocolError("LISTED out of place");
        this.#approval.complete = true;
        return this.#approval.ask(this.#check);
      case "TOTALS":
        return this.#approval.count(record, this.#check);
      case "START":
        return this.#start(record.id, record.offset);
      case "CHUNK":
        return this.#chunk(record.content);
      case "END":
        return this.#end(record.size, record.digest);
      case "BROKEN":
        return this.#broken(record.id, record.reason, record.text);
      case "DIGEST":
        return this.#compared(record.id, record.digest);
      case "DONE":
        if (!this.#approval.complete || this.#unsettled.size > 0) throw protocolError("DONE before the end");
        this.#done = true;
        return;
      default:
        throw protocolError(`${record.type} is not for the receiver`);
    }
  }

  // The list.

  async #enter(entry: Entry): Promise<void> {
    this.#approval.list(entry);
    if (this.#unsettled.size >= ENTRY_WINDOW) throw protocolError("more entries than the window holds");
    const id = this.#approval.entries - 1;
    const above = this.#folder;
    const { name, given } = this.#nameOf(entry, above);
    const objection = this.#objection(entry, given ? undefined : name, above);
    const file = entry.kind !== "text" || !this.#options.ontext;
    const twice = file && !objection && !above.take(name, this.#options.target.folding);
    const listed = objection ? undefined : describe(entry, above.path + name);
    above.enter();
    if (entry.kind === "directory") {
      if (above.depth >= MAX_DEPTH) throw protocolError("directories are too deep");
      const folder = new Folder(above, id, name, { mode: entry.mode, mtime: entry.mtime });
      this.#unsettled.set(id, folder);
      this.#folder = folder;
      const refusal = objection ?? (twice ? new DcpipeError("REFUSED", TWICE) : undefined);
      return this.#hold(() => this.#decideFolder(folder, refusal), listed);
    }
    const incoming: Incoming = {
      id,
      entry,
      folder: above,
      name,
      number: 0,
      twice,
      state: "deciding",
      replace: false,
      have: undefined,
    };
    this.#unsettled.set(id, incoming);
    return this.#hold(() => this.#decide(incoming, objection), listed);
  }

  /** The name that an entry asks for, or is given by our side. */
  #nameOf(entry: Entry, above: Folder): { readonly name: string; readonly given: boolean } {
    const top = above === this.#root;
    if (top) this.#top++;
    if (top && this.#options.name !== undefined) return { name: this.#options.name, given: true };
    return { name: entry.kind === "text" ? TEXT_NAME : entry.name, given: false };
  }

  /** Why an entry is refused whatever is here. */
  #objection(entry: Entry, name: string | undefined, above: Folder): DcpipeError | undefined {
    try {
      if (entry.kind === "text" && this.#options.ontext) return undefined;
      if (name !== undefined) checkName(name, this.#options.windows);
      if (entry.kind === "link") checkTarget(entry.target, above.depth);
      if (this.#options.name !== undefined && above === this.#root && this.#top > 1)
        throw new DcpipeError("REFUSED", "more than one thing comes, and only one name was given for them");
      if (above.path.length + (name ?? "").length > MAX_PATH)
        throw new DcpipeError("REFUSED", "its path is too long");
      if (this.#approval.exceeded(entry)) throw new DcpipeError("REFUSED", "it is more than was announced");
      return undefined;
    } catch (error) {
      return asDcpipeError(error, "REFUSED");
    }
  }

  /** Decides now, or when the question is answered. */
  #hold(decide: () => Promise<void> | void, listed?: Listed): Promise<void> {
    return this.#approval.decide(decide, this.#unsettled.size, listed);
  }

  // Directories.

  async #decideFolder(folder: Folder, objection: DcpipeError | undefined): Promise<void> {
    const { parent, id = 0 } = folder;
    if (parent?.closed) {
      folder.closed = true;
      this.#pass(folder, id);
      return;
    }
    if (objection) {
      folder.closed = true;
      this.#refuse(folder, id, folder.path.slice(0, -1), objection);
      return;
    }
    if (this.#options.onlisted) {
      this.#options.onlisted(describeFolder(folder));
      return;
    }
    if (this.#options.wanted && !this.#options.wanted(folder.path.slice(0, -1))) return;
    await this.#makeFolder(folder);
  }

  /** Makes a directory, under another name when a conflict says so. False when there is none then. */
  async #makeFolder(folder: Folder): Promise<boolean> {
    const { name, path } = folder;
    for (let number = 1; ; number++) {
      try {
        await folder.open();
        return true;
      } catch (error) {
        const failure = asDcpipeError(error, "IO", "could not make the directory");
        if (failure.code === "NO_SPACE") throw failure;
        const policy = failure.code === "EXISTS" ? await this.#policy(path.slice(0, -1)) : "refuse";
        if (policy === "rename" && number <= MAX_NUMBER) {
          folder.name = numberedName(name, number);
          continue;
        }
        folder.closed = true;
        if (policy === "skip") this.#pass(folder, folder.id ?? 0);
        else this.#refuse(folder, folder.id ?? 0, path.slice(0, -1), failure);
        return false;
      }
    }
  }

  /** One thing in the directory is settled, or the sender has left it: after the last one it gets its attributes. */
  #leave(folder: Folder): void {
    if (!folder.leave()) return;
    const { id, parent, path } = folder;
    if (id === undefined || !parent) return;
    // Refused or passed over, and answered so; what is above has waited for it all the same.
    if (folder.closed) {
      this.#leave(parent);
      return;
    }
    if (!folder.made) {
      this.#tally.passed++;
      this.#settle(id);
      this.#writer.put({ type: "PASS", id });
      this.#leave(parent);
      return;
    }
    const force = (this.#conflict ?? this.#options.conflict) === "overwrite";
    void this.#stores.run(async () => {
      try {
        await folder.finish(force);
        this.#tally.directories++;
        this.#settle(id);
        this.#writer.put({ type: "STORED", id });
      } catch (error) {
        this.#fail(id, path.slice(0, -1), error);
      }
      this.#leave(parent);
    });
  }

  // Files, links and texts.

  async #decide(incoming: Incoming, objection: DcpipeError | undefined): Promise<void> {
    const { id, entry, folder, name } = incoming;
    const path = folder.path + name;
    if (folder.closed) {
      this.#pass(incoming, id);
      return;
    }
    if (objection) {
      this.#refuse(incoming, id, path, objection);
      return;
    }
    if (this.#options.onlisted) {
      this.#options.onlisted(describe(entry, path));
      this.#pass(incoming, id);
      return;
    }
    if (entry.kind === "text" && this.#options.ontext) {
      this.#want(incoming);
      return;
    }
    if (this.#options.wanted && !this.#options.wanted(path)) {
      this.#pass(incoming, id);
      return;
    }
    if (!(await this.#makeFolder(folder))) {
      this.#pass(incoming, id);
      return;
    }
    await this.#guard(incoming, () => {
      if (!incoming.twice) return this.#place(incoming);
      if (this.#options.conflict !== "rename") throw new DcpipeError("REFUSED", TWICE);
      return this.#conflicting(incoming, { kind: "file", size: 0 });
    });
  }

  /** What fails here concerns this entry alone, but for a full disk. */
  async #guard(incoming: Incoming, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const failure = asDcpipeError(error, "IO", "could not store it");
      if (failure === this.#failure || failure.code === "NO_SPACE" || failure.code === "PROTOCOL")
        throw failure;
      this.#refuse(incoming, incoming.id, incoming.folder.path + incoming.name, failure);
    }
  }

  /** Finds a place for a file or link: its name, or the next free one. */
  async #place(incoming: Incoming): Promise<void> {
    const { entry, folder } = incoming;
    const directory = await folder.open();
    const found = directory.fresh ? undefined : await directory.find(incoming.name);
    if (found) {
      if (entry.kind === "link" && found.kind === "link" && found.target === entry.target) {
        return this.#keep(incoming);
      }
      if (entry.kind !== "link" && found.kind === "file" && found.size === entry.size)
        return this.#compare(incoming, found.size, await directory.read(incoming.name), true);
      return this.#conflicting(incoming, found);
    }
    await this.#take(incoming, directory);
  }

  async #take(incoming: Incoming, directory: TargetDirectory): Promise<void> {
    const { entry } = incoming;
    if (entry.kind === "link") {
      const { name, folder, id, replace } = incoming;
      return this.#stores.run(async () => {
        try {
          await directory.link(name, entry.target, entry.mtime, replace);
          this.#tally.files++;
          this.#stored(incoming);
        } catch (error) {
          this.#fail(id, folder.path + name, error);
          this.#leave(folder);
        }
      });
    }
    const part = directory.fresh ? undefined : await directory.part(incoming.name);
    if (!part) {
      this.#want(incoming);
      return;
    }
    if (entry.size !== undefined && part.size > 0 && part.size <= entry.size)
      return this.#compare(incoming, part.size, part.content, false);
    part.content.cancel();
    this.#want(incoming);
  }

  #want(incoming: Incoming): void {
    incoming.state = "wanted";
    this.#writer.put({ type: "WANT", id: incoming.id, offset: incoming.have?.length ?? 0 });
  }

  /**
   * There is something of that name, whole or a part: is it what comes? The sender tells its digest, and not we ours: what is in
   * our files is not its business. Both sides read at the same time.
   */
  async #compare(incoming: Incoming, length: number, content: Source, whole: boolean): Promise<void> {
    this.#current = incoming.folder.path + incoming.name;
    this.#writer.put({ type: "COMPARE", id: incoming.id, length });
    const digest = new ContentDigest(this.#options.createDigest);
    const read = await readAll(content, digest);
    // What is changing just now is not what comes.
    incoming.have = { length: read === length ? length : -1, digest, whole };
    incoming.state = "comparing";
  }

  async #compared(id: number, theirs: Uint8Array): Promise<void> {
    const incoming = this.#incoming(id, "comparing");
    const { have } = incoming;
    incoming.state = "deciding";
    const same = have && have.length >= 0 && sameBytes(theirs, await have.digest.copy().digest());
    if (!same) incoming.have = undefined;
    if (!have?.whole) this.#want(incoming);
    else if (same) await this.#guard(incoming, () => this.#keep(incoming));
    else await this.#guard(incoming, () => this.#conflicting(incoming, { kind: "file", size: 0 }));
  }

  /** It is here already. */
  async #keep(incoming: Incoming): Promise<void> {
    const { entry, folder, name } = incoming;
    await (await folder.open()).forget(name);
    if (entry.kind !== "link") {
      this.#tally.bytes += entry.size ?? 0;
      this.#settledBytes += entry.size ?? 0;
      this.#tally.unchanged++;
    }
    this.#tally.files++;
    this.#stored(incoming);
  }

  async #conflicting(incoming: Incoming, found: Found): Promise<void> {
    const { id, folder, entry } = incoming;
    const path = folder.path + incoming.name;
    switch (await this.#policy(path)) {
      case "skip": {
        this.#pass(incoming, id);
        return;
      }
      case "rename": {
        const sent =
          entry.kind === "text"
            ? TEXT_NAME
            : folder === this.#root
              ? (this.#options.name ?? entry.name)
              : entry.name;
        const { folding } = this.#options.target;
        do {
          if (++incoming.number > MAX_NUMBER)
            throw new DcpipeError("EXISTS", "every other name is taken too");
          incoming.name = numberedName(sent, incoming.number);
        } while (!folder.take(incoming.name, folding));
        return this.#place(incoming);
      }
      case "overwrite":
        if (found.kind === "directory" || found.kind === "other") break;
        incoming.replace = true;
        return this.#take(incoming, await folder.open());
      case "refuse":
    }
    const what =
      found.kind === "file"
        ? ""
        : found.kind === "directory"
          ? " as a directory"
          : found.kind === "link"
            ? " as a link"
            : " as something else";
    throw new DcpipeError("EXISTS", `${incoming.name} exists already${what}, and is left as it is`);
  }

  async #policy(path: string): Promise<Conflict> {
    const { conflict } = this.#options;
    try {
      this.#conflict ??= typeof conflict === "function" ? await conflict(path) : conflict;
    } catch (error) {
      // Who is asked and fails to answer wants no more of it, not only not this one.
      this.#failure = asDcpipeError(error, "ABORTED");
      throw this.#failure;
    }
    this.#check();
    return this.#conflict;
  }

  /** Throws when the transfer has ended while somebody thought about an answer. */
  readonly #check = (): void => {
    if (this.#over) throw new DcpipeError("ABORTED", "it is over");
  };

  // Content.

  async #start(id: number, offset: number): Promise<void> {
    if (this.#arriving) throw protocolError("START in the middle of a file");
    const incoming = this.#incoming(id, "wanted");
    const { entry, have, folder, name } = incoming;
    if (entry.kind === "link") throw protocolError("START of a link");
    if (offset !== (have?.length ?? 0)) throw protocolError("START at an offset that was not asked for");
    if (this.#options.stores === 1) await this.#stores.idle();
    incoming.state = "arriving";
    this.#arriving = incoming;
    this.#current = folder.path + name;
    const text = entry.kind === "text" && this.#options.ontext !== undefined;
    this.#arrival = new Arrival(
      text ? undefined : async (from) => (await folder.open()).create(incoming.name, from, entry.size),
      have?.digest ?? new ContentDigest(this.#options.createDigest),
      entry.size,
      offset,
    );
  }

  async #chunk(content: Uint8Array): Promise<void> {
    const arrival = this.#arrival;
    if (!arrival) throw protocolError("content without a file");
    await this.#pacer?.take(content.length);
    const failure = await arrival.write(content);
    if (!failure || !this.#arriving) return;
    // The rest of it comes all the same, and is not looked at.
    const { id, folder, name } = this.#arriving;
    this.#fail(id, folder.path + name, failure);
    this.#leave(folder);
  }

  async #end(size: number, digest: Uint8Array): Promise<void> {
    const [incoming, arrival] = [this.#arriving, this.#arrival];
    if (!incoming || !arrival) throw protocolError("END without a file");
    this.#arriving = undefined;
    this.#arrival = undefined;
    if (arrival.failed) return;
    incoming.state = "storing";
    const { id, folder, name, entry } = incoming;
    const path = folder.path + name;
    await this.#stores.run(async () => {
      try {
        if (size !== arrival.size || (arrival.expected !== undefined && size !== arrival.expected))
          throw new DcpipeError("CHECKSUM", `${arrival.size} bytes arrived, ${size} were sent`);
        if (!sameBytes(digest, await arrival.digest()))
          throw new DcpipeError("CHECKSUM", "the checksums differ");
        if (entry.kind === "text" && this.#options.ontext) await this.#options.ontext(arrival.text());
        else await arrival.commit(attributesOf(entry), incoming.replace);
        this.#tally.files++;
        this.#tally.bytes += arrival.size;
        this.#settledBytes += arrival.size;
        this.#tally.moved += arrival.moved;
        this.#stored(incoming);
      } catch (error) {
        await arrival.abandon();
        this.#fail(id, path, error);
        this.#leave(folder);
      }
    });
  }

  async #broken(id: number, reason: Reason, text: string): Promise<void> {
    const failed = this.#arriving?.id === id && this.#arrival?.failed;
    if (this.#arriving?.id === id) {
      await this.#arrival?.abandon();
      this.#arriving = undefined;
      this.#arrival = undefined;
      if (failed) return;
    }
    const incoming = this.#unsettled.get(id);
    if (
      !incoming ||
      incoming instanceof Folder ||
      !["comparing", "wanted", "arriving"].includes(incoming.state)
    )
      throw protocolError("BROKEN for what was not wanted");
    this.#tally.fail({ name: incoming.folder.path + incoming.name, reason, text });
    this.#settle(id);
    this.#leave(incoming.folder);
  }

  // Answers.

  #incoming(id: number, state: Incoming["state"]): Incoming {
    const incoming = this.#unsettled.get(id);
    if (!incoming || incoming instanceof Folder || incoming.state !== state)
      throw protocolError("an answer to what was not asked");
    return incoming;
  }

  #stored({ id, folder }: Incoming): void {
    this.#settle(id);
    this.#writer.put({ type: "STORED", id });
    this.#leave(folder);
  }

  #pass(what: Incoming | Folder, id: number): void {
    this.#tally.passed++;
    this.#settle(id);
    this.#writer.put({ type: "PASS", id });
    if (!(what instanceof Folder)) this.#leave(what.folder);
  }

  /** Not taken; what is in a directory says so for itself. */
  #refuse(what: Incoming | Folder, id: number, path: string, failure: DcpipeError): void {
    this.#fail(id, path, failure);
    if (!(what instanceof Folder)) this.#leave(what.folder);
  }

  /** Refused, or could not be stored. A full disk ends it all: throws. */
  #fail(id: number, path: string, error: unknown): void {
    const failure = asDcpipeError(error, "IO", "could not store it");
    const reason = reasonOf(failure);
    const problem = { name: path, reason, text: failure.message };
    const refused = reason === "REFUSED" || reason === "EXISTS";
    if (refused) this.#tally.refuse(problem);
    else this.#tally.fail(problem);
    this.#settle(id);
    this.#writer.put({ type: refused ? "REFUSE" : "FAILED", id, reason, text: failure.message });
    if (failure.code === "NO_SPACE") throw failure;
  }

  #settle(id: number): void {
    this.#unsettled.delete(id);
  }

  #report(): void {
    const { onprogress } = this.#options;
    if (!onprogress || this.#approval.pending) return;
    const { total } = this.#approval;
    const arrival = this.#arrival;
    onprogress({
      name: this.#current,
      bytes: this.#settledBytes + (arrival?.size ?? 0),
      total: total.bytes,
      files: this.#tally.files,
      totalFiles: total.files,
      file: { bytes: arrival?.size ?? 0, total: arrival?.expected },
    });
  }
}

function attributesOf(entry: Incoming["entry"]): Attributes {
  return entry.kind === "file" ? entry : { mode: 0o644, mtime: Date.now() * 1000 };
}

function describe(entry: Entry, path: string): Listed {
  switch (entry.kind) {
    case "file":
      return { path, kind: "file", size: entry.size, mtime: entry.mtime };
    case "text":
      return { path, kind: "text", size: entry.size };
    case "link":
      return { path, kind: "link", size: undefined, target: entry.target, mtime: entry.mtime };
    case "directory":
      return { path, kind: "directory", size: undefined, mtime: entry.mtime };
  }
}

function describeFolder({ path, attributes }: Folder): Listed {
  return { path: path.slice(0, -1), kind: "directory", size: undefined, mtime: attributes.mtime };
}

/** Reads to the end. Returns how many bytes that were. */
async function readAll(
  source: { read(): Promise<Uint8Array | undefined>; cancel(): void },
  digest: ContentDigest,
): Promise<number> {
  let length = 0;
  try {
    for (let chunk = await source.read(); chunk; chunk = await source.read()) {
      digest.update(chunk);
      length += chunk.length;
    }
  } finally {
    source.cancel();
  }
  return length;
}

function reasonOf(error: DcpipeError): Reason {
  return isReason(error.code, REASONS) ? error.code : "IO";
}
