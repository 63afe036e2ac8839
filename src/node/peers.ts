/**
 * Peers that this user remembers: one JSON file each, `name.json`, which only the user may read. Whoever has such a file is that peer's
 * peer; the file's modification time says when the peer was last met.
 */
import { createHash, X509Certificate } from "node:crypto";
import {
  closeSync,
  fchmodSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeSync,
} from "node:fs";
import { homedir } from "node:os";
import { join, posix, win32 } from "node:path";
import { DcpipeError } from "../errors.ts";
import type { PemCertificate } from "../transport/certificate.ts";

/** What this machine keeps of a peer. */
export interface PeerRecord {
  /** Unique, whatever the case. */
  readonly name: string;
  /** Which of the two this machine is: `a` waited when they were paired. */
  readonly side: "a" | "b";
  /** Shared by both, 32 bytes. */
  readonly secret: Uint8Array;
  /** This machine's own, for this peer alone. */
  readonly certificate: PemCertificate;
  /** SHA-256 of the peer's certificate, 32 bytes. */
  readonly fingerprint: Uint8Array;
  /** What the peer calls itself, and this machine. From a peer: escape before showing. */
  readonly host: string;
  readonly calledHere: string;
  /** URL of the rendezvous where the two may meet. */
  readonly rendezvous: string | null;
  readonly created: Date;
  /** When a session with it last stood. */
  readonly lastSeen: Date;
}

/** Of the format of the files. */
const VERSION = 1;
const SECRET_BYTES = 32;
const FINGERPRINT_BYTES = 32;
/** A record has some 1,300 bytes. */
const MAX_FILE = 16_384;
const SUFFIX = ".json";

/** Begins with a letter, as neither codes nor TARGETs do; colons, slashes and hashes make links and TARGETs. */
const NAME = /^[A-Za-z][A-Za-z0-9._-]{0,62}$/;

/** Whether a peer can be called so. Texts that look like a token are for the caller to pass over. */
export function isPeerName(text: string): boolean {
  return NAME.test(text);
}

/**
 * Where peers are kept: $XDG_STATE_HOME (XDG Base Directory Specification 0.8) or ~/.local/state, on macOS
 * ~/Library/Application Support, on Windows %LOCALAPPDATA%.
 */
export function peersPath(
  env: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
): string {
  return (platform === "win32" ? win32 : posix).join(stateDirectory(env, platform), "dcpipe", "peers");
}

function stateDirectory(env: NodeJS.ProcessEnv, platform: NodeJS.Platform): string {
  if (platform === "win32") return env["LOCALAPPDATA"] || win32.join(homedir(), "AppData", "Local");
  const home = env["HOME"] || homedir();
  if (platform === "darwin") return posix.join(home, "Library", "Application Support");
  const xdg = env["XDG_STATE_HOME"] ?? "";
  // The specification has relative paths passed over.
  return posix.isAbsolute(xdg) ? xdg : posix.join(home, ".local", "state");
}

/** All methods throw USAGE for what the user can mend, IO for what the disk refuses. */
export class PeerStore {
  readonly directory: string;
  readonly #onwarning: (text: string) => void;

  /** `onwarning` is told of files that others can read. */
  constructor(directory = peersPath(), onwarning: (text: string) => void = () => undefined) {
    this.directory = directory;
    this.#onwarning = onwarning;
  }

  /** All peers, the one met last first, and what is wrong with the files that are none. */
  list(): { readonly peers: PeerRecord[]; readonly problems: DcpipeError[] } {
    const peers: PeerRecord[] = [];
    const problems: DcpipeError[] = [];
    for (const file of this.#files()) {
      try {
        peers.push(this.#read(file.slice(0, -SUFFIX.length)));
      } catch (error) {
        if (!(error instanceof DcpipeError)) throw error;
        problems.push(error);
      }
    }
    peers.sort((a, b) => b.lastSeen.getTime() - a.lastSeen.getTime() || (a.name < b.name ? -1 : 1));
    return { peers, problems };
  }

  /** Undefined for one that is not remembered. */
  find(name: string): PeerRecord | undefined {
    return this.has(name) ? this.#read(name.toLowerCase()) : undefined;
  }

  /** Whether there is a file of that name, be it broken or not. */
  has(name: string): boolean {
    return isPeerName(name) && statSync(this.#path(name), { throwIfNoEntry: false }) !== undefined;
  }

  /** Makes sure that something can be stored. */
  prepare(): void {
    try {
      mkdirSync(this.directory, { recursive: true, mode: 0o700 });
      const probe = this.#temporary();
      closeSync(openSync(probe, "wx", 0o600));
      unlinkSync(probe);
    } catch (cause) {
      throw failure("remember anybody", this.directory, cause);
    }
  }

  /** On disk when it returns. What has that name is replaced. */
  save(peer: Omit<PeerRecord, "lastSeen">): void {
    if (!isPeerName(peer.name)) throw new DcpipeError("USAGE", badName(peer.name));
    const temporary = this.#temporary();
    try {
      mkdirSync(this.directory, { recursive: true, mode: 0o700 });
      write(temporary, encode(peer));
      utimesSync(temporary, peer.created, peer.created);
      renameSync(temporary, this.#path(peer.name));
      this.#sync();
    } catch (cause) {
      rmQuietly(temporary);
      throw failure(`remember "${peer.name}"`, this.directory, cause);
    }
  }

  /** The peer has just been met. Nothing happens when it has been forgotten meanwhile. */
  seen(name: string, when = new Date()): void {
    try {
      utimesSync(this.#path(name), when, when);
    } catch {
      // It is for people only.
    }
  }

  rename(name: string, other: string): void {
    if (!isPeerName(other)) throw new DcpipeError("USAGE", badName(other));
    const peer = this.find(name);
    if (!peer) throw notRemembered(name);
    const same = name.toLowerCase() === other.toLowerCase();
    if (!same && this.has(other))
      throw new DcpipeError("USAGE", `a peer is remembered as "${other}" already`);
    this.save({ ...peer, name: other });
    this.seen(other, peer.lastSeen);
    if (!same) this.#unlink(name);
  }

  /** All of them, or none when one of them is not there. */
  forget(names: readonly string[]): void {
    for (const name of names) if (!this.has(name)) throw notRemembered(name);
    for (const name of new Set(names.map((each) => each.toLowerCase()))) this.#unlink(name);
  }

  #files(): string[] {
    try {
      return readdirSync(this.directory)
        .filter((file) => file.endsWith(SUFFIX) && isPeerName(file.slice(0, -SUFFIX.length)))
        .sort();
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw failure("read", this.directory, cause);
    }
  }

  #read(stem: string): PeerRecord {
    const path = this.#path(stem);
    try {
      const { mode, size, mtime } = statSync(path);
      const windows = process.platform === "win32";
      if (!windows && (mode & 0o022) !== 0)
        throw new DcpipeError("USAGE", `${path}: others may write to it; chmod 600 it, or forget the peer`);
      if (!windows && (mode & 0o044) !== 0)
        this.#onwarning(`${path}: others may read it, and be this machine for that peer; chmod 600 it`);
      if (size > MAX_FILE) throw broken(path, "it is too long");
      return decode(readFileSync(path, "utf8"), path, mtime);
    } catch (cause) {
      if (cause instanceof DcpipeError) throw cause;
      throw failure("read", path, cause);
    }
  }

  #unlink(name: string): void {
    const path = this.#path(name);
    try {
      unlinkSync(path);
      this.#sync();
    } catch (cause) {
      throw failure("remove", path, cause);
    }
  }

  #path(name: string): string {
    return join(this.directory, `${name.toLowerCase()}${SUFFIX}`);
  }

  #temporary(): string {
    return join(this.directory, `.${process.pid}-${Math.random().toString(36).slice(2)}.tmp`);
  }

  /** What is in the directory is on disk. */
  #sync(): void {
    if (process.platform === "win32") return;
    const descriptor = openSync(this.directory, "r");
    try {
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
  }
}

function write(path: string, text: string): void {
  const descriptor = openSync(path, "wx", 0o600);
  try {
    fchmodSync(descriptor, 0o600);
    writeSync(descriptor, text);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function rmQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It was never made, or has its name by now.
  }
}

function encode(peer: Omit<PeerRecord, "lastSeen">): string {
  const { name, side, secret, certificate, fingerprint, host, calledHere, rendezvous, created } = peer;
  const fields = {
    version: VERSION,
    name,
    side,
    secret: Buffer.from(secret).toString("base64"),
    certificate: certificate.certificatePem,
    key: certificate.keyPem,
    fingerprint: Buffer.from(fingerprint).toString("hex"),
    host,
    calledHere,
    rendezvous,
    created: created.toISOString(),
  };
  return `${JSON.stringify(fields, undefined, 2)}\n`;
}

/** Throws USAGE. */
function decode(json: string, path: string, lastSeen: Date): PeerRecord {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw broken(path, "it is not JSON", cause);
  }
  if (typeof value !== "object" || value === null) throw broken(path, "it is not an object");
  const fields = value as Readonly<Record<string, unknown>>;
  if (fields["version"] !== VERSION) throw broken(path, "it is of another version");
  const take = (key: string): string => {
    const text = fields[key];
    if (typeof text !== "string") throw broken(path, `its "${key}" is no text`);
    return text;
  };
  const side = take("side");
  if (side !== "a" && side !== "b") throw broken(path, 'its "side" is neither a nor b');
  const name = take("name");
  if (!isPeerName(name)) throw broken(path, 'its "name" is none');
  const { rendezvous } = fields;
  if (rendezvous !== null && typeof rendezvous !== "string") throw broken(path, 'its "rendezvous" is no URL');
  const created = new Date(take("created"));
  if (Number.isNaN(created.getTime())) throw broken(path, 'its "created" is no time');
  const certificatePem = take("certificate");
  return {
    name,
    side,
    secret: bytes(take("secret"), "base64", SECRET_BYTES, path, "secret"),
    certificate: { certificatePem, keyPem: take("key"), fingerprint: fingerprintOf(certificatePem, path) },
    fingerprint: bytes(take("fingerprint"), "hex", FINGERPRINT_BYTES, path, "fingerprint"),
    host: take("host"),
    calledHere: take("calledHere"),
    rendezvous,
    created,
    lastSeen,
  };
}

function bytes(
  text: string,
  encoding: "base64" | "hex",
  size: number,
  path: string,
  key: string,
): Uint8Array {
  const value = Buffer.from(text, encoding);
  if (value.length !== size) throw broken(path, `its "${key}" has not ${size} bytes`);
  return new Uint8Array(value);
}

function fingerprintOf(pem: string, path: string): Uint8Array {
  try {
    return new Uint8Array(createHash("sha256").update(new X509Certificate(pem).raw).digest());
  } catch (cause) {
    throw broken(path, 'its "certificate" is none', cause);
  }
}

function broken(path: string, what: string, cause?: unknown): DcpipeError {
  return new DcpipeError("USAGE", `${path} is broken: ${what}; forget the peer and pair anew`, { cause });
}

function badName(name: string): string {
  return `"${name}" is no name for a peer: up to 63 letters, digits, hyphens, dots and underscores, a letter first`;
}

/** USAGE. */
export function notRemembered(name: string): DcpipeError {
  return new DcpipeError("USAGE", `no peer is remembered as "${name}"; dcpipe peers list shows them`);
}

function failure(what: string, path: string, cause: unknown): DcpipeError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const why =
    code === "EACCES" || code === "EPERM" || code === "EROFS"
      ? "not allowed"
      : code === "ENOTDIR" || code === "EEXIST"
        ? "something else stands in its place"
        : code === "ENOSPC"
          ? "the disk is full"
          : message;
  return new DcpipeError(code === "ENOSPC" ? "NO_SPACE" : "IO", `cannot ${what} (${path}): ${why}`, {
    cause,
  });
}
