/**
 * The file of a unix socket. The socket is made under a name of its own beside the path, and linked to the path when it is
 * ready: so nobody sees it before its mode is 0600, of two that want the path one gets it, and Node, which unlinks the name
 * that it bound whoever has it by then, does not touch the path.
 */
import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, linkSync, lstatSync, renameSync, unlinkSync, type Stats } from "node:fs";
import { connect } from "node:net";
import { dirname, join, resolve } from "node:path";
import { DcpipeError } from "../../errors.ts";
import { systemCode } from "./failure.ts";

/** Bytes of a path in `sockaddr_un`, without the final NUL; what is longer is cut off without a word by some systems. */
export const MAX_SOCKET_PATH = process.platform === "linux" ? 107 : 103;

export interface SocketFile {
  /** Where to bind. */
  readonly temporary: string;
  /** Gives the bound socket its mode and its name. Throws USAGE or what the file system says. */
  publish(): void;
  /** Removes the file, if it is still ours. What cannot be removed stays. */
  remove(): void;
}

/**
 * Makes way for a socket at `path`: what is left of one that nobody serves is removed. Rejects with USAGE when somebody does,
 * when there is something else, or when the path cannot be one of a socket.
 */
export async function prepareSocketFile(path: string): Promise<SocketFile> {
  const directory = dirname(resolve(path));
  const temporary = join(directory, `.${randomBytes(4).toString("hex")}`);
  if (Math.max(Buffer.byteLength(path), Buffer.byteLength(temporary)) > MAX_SOCKET_PATH)
    throw usage(`${path} is too long for a unix socket`);
  if (!existsSync(directory)) throw usage(`there is no directory ${directory}`);
  await removeStale(path);
  let ours: Stats | undefined;
  return {
    temporary,
    publish: () => {
      chmodSync(temporary, 0o600);
      try {
        linkSync(temporary, path);
        unlinkSync(temporary);
      } catch (cause) {
        if (systemCode(cause) === "EEXIST") throw usage(`${path} is in use`, cause);
        // Some systems have no hard links, or allow none.
        renameSync(temporary, path);
      }
      ours = lstatSync(path);
    },
    remove: () => {
      try {
        const there = find(path);
        if (there && ours && isSame(there, ours)) unlinkSync(path);
      } catch {
        // The directory has become somebody else's meanwhile. A socket that nobody serves makes way for the next one.
      }
    },
  };
}

async function removeStale(path: string): Promise<void> {
  const there = find(path);
  if (!there) return;
  if (!there.isSocket()) throw usage(`${path} is there already, and is no socket`);
  const answer = await knock(path);
  // Refused: the process that made the file has gone. With anything else, a full queue or a right that we lack, it may live.
  if (answer === "ENOENT") return;
  if (answer !== "ECONNREFUSED") throw usage(`${path} is in use${answer === "" ? "" : ` (${answer})`}`);
  const still = find(path);
  if (still && isSame(still, there)) unlinkSync(path);
}

/** The system's error when one connects, "" when there is none. */
function knock(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.on("connect", () => {
      socket.destroy();
      resolve("");
    });
    socket.on("error", (error) => {
      resolve(systemCode(error));
    });
  });
}

function find(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

function isSame(one: Stats, other: Stats): boolean {
  return one.ino === other.ino && one.dev === other.dev;
}

function usage(text: string, cause?: unknown): DcpipeError {
  return new DcpipeError("USAGE", text, { cause });
}
