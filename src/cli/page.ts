/** dcpipe page: the page of a rendezvous as a file of the user's, for who does not trust a host with it. */
import { createHash } from "node:crypto";
import { closeSync, lstatSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { asDcpipeError, DcpipeError, escapeText, parseRendezvousUrl, stdoutSink } from "../index.ts";
import { readPage } from "../server/page.ts";
import { formatBytes } from "./format.ts";
import type { SpeechOptions } from "./options.ts";
import { VERDICTS } from "./status.ts";
import { Ui } from "./ui.ts";

export interface PageArguments extends SpeechOptions {
  readonly out: string;
  readonly rendezvous?: string | undefined;
  readonly overwrite: boolean;
}

export async function runPage(options: PageArguments): Promise<void> {
  const { out, rendezvous, overwrite, json, quiet, verbose } = options;
  const color = options.color && process.env["NO_COLOR"] === undefined;
  const ui = new Ui({ json, quiet, verbose, color });
  const page = withRendezvous(installedPage(), rendezvous);
  const sha256 = createHash("sha256").update(page).digest("hex");
  if (out === "-") {
    const sink = stdoutSink();
    await sink.write(page);
    await sink.end();
  } else {
    try {
      write(out, page, overwrite);
    } catch (cause) {
      const error = asDcpipeError(cause, "IO");
      ui.error(error, error.code === "EXISTS" ? "--overwrite replaces it" : undefined);
      process.exitCode = VERDICTS[error.code].status;
      return;
    }
  }
  const where = out === "-" ? "stdout" : out;
  ui.done(
    { bytes: page.length, files: 1, path: where, sha256 },
    `${escapeText(where)}: ${formatBytes(page.length)}, SHA-256 ${sha256}`,
  );
}

function installedPage(): Buffer {
  try {
    return readPage();
  } catch (cause) {
    throw new DcpipeError("IO", "the page is missing from this installation", { cause });
  }
}

/** Without one the page asks. Nothing else depends on who calls, or when: the same version gives the same bytes. */
function withRendezvous(page: Buffer, rendezvous: string | undefined): Buffer {
  if (rendezvous === undefined) return page;
  const url = parseRendezvousUrl(rendezvous).replace(/[&"<>]/g, (c) => `&#${c.charCodeAt(0)};`);
  const place = '<meta name="dcpipe-rendezvous" content="';
  return Buffer.from(page.toString().replace(place, () => place + url));
}

function write(path: string, page: Buffer, overwrite: boolean): void {
  // A file takes the place of another in one step; what is no file (a device, a FIFO) is written to.
  const replaced = overwrite && lstatSync(path, { throwIfNoEntry: false })?.isFile() === true;
  const written = replaced ? `${path}.${process.pid}.part` : path;
  let made = false;
  try {
    const file = openSync(written, overwrite && !replaced ? "w" : "wx");
    made = replaced || !overwrite;
    try {
      writeFileSync(file, page);
    } finally {
      closeSync(file);
    }
    if (replaced) renameSync(written, path);
  } catch (cause) {
    // Half a page is none.
    if (made) rmSync(written, { force: true });
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "EEXIST") throw new DcpipeError("EXISTS", `${path} is there already`, { cause });
    if (code === "ENOSPC") throw new DcpipeError("NO_SPACE", `${path}: no space left`, { cause });
    throw new DcpipeError("IO", `cannot write ${path}: ${message}`, { cause });
  }
}
