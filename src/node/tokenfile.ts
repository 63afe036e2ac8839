/**
 * Tokens that travel in files: a regular file appears whole (written aside, then renamed), a FIFO hands its line to whoever
 * reads it. Nothing here blocks in the thread pool: a process must be able to leave at any time.
 */
import { randomBytes } from "node:crypto";
import { closeSync, constants, openSync, readSync, type Stats, writeSync } from "node:fs";
import { type FileHandle, open, readFile, rename, stat, unlink, writeFile } from "node:fs/promises";
import { DcpipeError } from "../errors.ts";

/** Windows has no such flag, and no FIFOs. */
const { O_NONBLOCK: NON_BLOCKING = 0 } = constants as Partial<typeof constants>;

/** FIFOs and files tell nobody when they change, everywhere; looking twenty times a second costs nothing. */
const POLL_MS = 50;
/** A token and its line end, or a description with its candidates; a longer file is something else. */
const MAX_BYTES = 65_536;
/** A writer that does not rename may be caught half-way: what is no whole line is looked at again for so long. */
const SETTLE_MS = 1000;
/** An offer in a FIFO is given again, to whoever reads then, until it is taken up. */
const OFFER_AGAIN_MS = 500;
/** Two processes that are given the same FIFO listen for a random time before one of them speaks. */
const LISTEN_MS = 300;

interface Abortable {
  readonly signal?: AbortSignal | undefined;
}

/** Writes `token` to a file, replacing it, or into a FIFO once somebody reads it. Rejects with SIGNALLING or ABORTED. */
export async function writeTokenFile(path: string, token: string, { signal }: Abortable = {}): Promise<void> {
  const line = `${token}\n`;
  try {
    if ((await look(path))?.isFIFO()) {
      await writeFifo(path, line, signal);
      return;
    }
    const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
    await writeFile(temporary, line, { mode: 0o600, flag: "wx" });
    try {
      await rename(temporary, path);
    } catch (error) {
      await unlink(temporary).catch(() => undefined);
      throw error;
    }
  } catch (cause) {
    throw cause instanceof DcpipeError ? cause : failure("write", path, cause);
  }
}

/**
 * Offers `token` in a file or FIFO until the signal ends that, or a FIFO's reader has it. Two sides that are given the same
 * file and started at the same moment both come here: then one of them gets the other's text, once `accept` takes it, and
 * the other gets nothing. Rejects with SIGNALLING or ABORTED.
 */
export async function offerTokenFile(
  path: string,
  token: string,
  accept: (text: string) => boolean,
  { signal }: Abortable = {},
): Promise<string | undefined> {
  if ((await look(path).catch(() => undefined))?.isFIFO())
    return offerFifo(path, `${token}\n`, accept, signal);
  await writeTokenFile(path, token, { signal });
  for (;;) {
    // The last one to write stays; whom it replaced sees that here.
    await pause(POLL_MS, signal);
    const text = await peek(path, signal);
    if (text?.endsWith("\n") && text.trim() !== token && accept(text)) return text;
  }
}

/** Waits for a file or FIFO to hold a line that `accept` takes; it throws for one that will never do, returns false to wait on. */
export async function readTokenFile(
  path: string,
  accept: (text: string) => boolean,
  { signal }: Abortable = {},
): Promise<void> {
  let suspect: { text: string; since: number } | undefined;
  for (;;) {
    if (signal?.aborted) throw aborted();
    const text = await peek(path, signal);
    if (text !== undefined && text.trim() !== "" && (text.endsWith("\n") || suspect?.text === text)) {
      const settled = text.endsWith("\n") || performance.now() - (suspect?.since ?? 0) > SETTLE_MS;
      try {
        if (settled && accept(text)) return;
      } catch (error) {
        if (settled) throw error;
      }
    } else if (text !== undefined && text !== suspect?.text) {
      suspect = { text, since: performance.now() };
    }
    await pause(POLL_MS, signal);
  }
}

/**
 * Whether an offer is to be had from the file, and so this side joins: a regular file is there with something in it, or
 * somebody writes into the FIFO while we listen for a moment. Returns the text of the offer.
 */
export async function findOffer(path: string, { signal }: Abortable = {}): Promise<string | undefined> {
  const info = await look(path).catch((cause: unknown) => {
    throw failure("read", path, cause);
  });
  if (!info) return undefined;
  if (info.isDirectory()) throw new DcpipeError("SIGNALLING", `${path} is a directory`);
  if (!info.isFIFO()) {
    const text = await peek(path, signal);
    return text?.trim() === "" ? undefined : text;
  }
  const until = performance.now() + LISTEN_MS * (1 + Math.random());
  const reader = openSync(path, constants.O_RDONLY | NON_BLOCKING);
  let text = "";
  try {
    while (text === "" && performance.now() < until) {
      await pause(POLL_MS, signal);
      text = drainSync(reader);
    }
  } finally {
    closeSync(reader);
  }
  return text === "" ? undefined : text;
}

/** Removes an offer that nobody needs any more, if it is still ours. Never rejects. */
export async function removeTokenFile(path: string, token: string): Promise<void> {
  try {
    if ((await look(path))?.isFile() && (await readFile(path, "utf8")).trim() === token) await unlink(path);
  } catch {
    // It is gone, or not ours to remove.
  }
}

async function look(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** The text in a file or FIFO now; undefined when there is no file yet. */
async function peek(path: string, signal: AbortSignal | undefined): Promise<string | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDONLY | NON_BLOCKING);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw failure("read", path, cause);
  }
  try {
    if (!(await handle.stat()).isFIFO()) return await drain(handle);
    // Keep the reading end open: a writer that finds nobody there would fail.
    for (;;) {
      const text = await drain(handle);
      if (text !== "") return text;
      await pause(POLL_MS, signal);
    }
  } catch (cause) {
    throw cause instanceof DcpipeError ? cause : failure("read", path, cause);
  } finally {
    await handle.close();
  }
}

async function drain(handle: FileHandle): Promise<string> {
  const buffer = Buffer.alloc(MAX_BYTES);
  let length = 0;
  while (length < MAX_BYTES) {
    try {
      const { bytesRead } = await handle.read(buffer, length, MAX_BYTES - length);
      if (bytesRead === 0) break;
      length += bytesRead;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") break;
      throw error;
    }
  }
  return buffer.toString("utf8", 0, length);
}

async function writeFifo(path: string, line: string, signal: AbortSignal | undefined): Promise<void> {
  while (!tryFifo(path, line)) await pause(POLL_MS, signal);
}

/** Speaks when somebody listens, and listens for a random while when nobody does. */
async function offerFifo(
  path: string,
  line: string,
  accept: (text: string) => boolean,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  let given = false;
  for (;;) {
    try {
      given = tryFifo(path, line) || given;
      if (given) {
        // A reader that went away at that moment has not got it; whoever comes next will.
        await pause(OFFER_AGAIN_MS, signal);
        continue;
      }
      const reader = openSync(path, constants.O_RDONLY | NON_BLOCKING);
      let text: string;
      try {
        await pause(POLL_MS * (1 + Math.random()), signal);
      } finally {
        // At one go: what is written in between would be lost.
        text = drainSync(reader);
        closeSync(reader);
      }
      if (accept(text)) return text;
    } catch (cause) {
      throw cause instanceof DcpipeError ? cause : failure("write", path, cause);
    }
    await pause(Math.random() * POLL_MS, signal);
  }
}

/** Writes at one go into a FIFO that somebody reads; false when nobody does. */
function tryFifo(path: string, line: string): boolean {
  let writer: number | undefined;
  try {
    writer = openSync(path, constants.O_WRONLY | NON_BLOCKING);
    writeSync(writer, line);
    return true;
  } catch (error) {
    // Nobody reads yet; or not any more.
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENXIO" || code === "EPIPE") return false;
    throw error;
  } finally {
    if (writer !== undefined) closeSync(writer);
  }
}

function drainSync(reader: number): string {
  const buffer = Buffer.alloc(MAX_BYTES);
  try {
    return buffer.toString("utf8", 0, readSync(reader, buffer));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return "";
    throw error;
  }
}

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(aborted());
      return;
    }
    const stop = (): void => {
      clearTimeout(timer);
      reject(aborted());
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

function aborted(): DcpipeError {
  return new DcpipeError("ABORTED", "stopped");
}

function failure(verb: string, path: string, cause: unknown): DcpipeError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new DcpipeError("SIGNALLING", `cannot ${verb} ${path}: ${reason}`, { cause });
}
