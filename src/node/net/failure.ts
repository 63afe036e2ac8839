/** What a system call of a socket says, in our words. */
import { asDcpipeError, DcpipeError } from "../../errors.ts";

/** `127.0.0.1:5432`, `[::1]:5432`. */
export function formatHost(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** The system's name of an error (`ECONNREFUSED`), or "". */
export function systemCode(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : "";
}

/** Why a connection to `where` could not be made, or broke. */
export function connectionFailure(cause: unknown, where: string): DcpipeError {
  const system = systemCode(cause);
  switch (system) {
    case "ECONNREFUSED":
      return new DcpipeError("CONNECTION_REFUSED", `nothing listens at ${where}`, { cause });
    case "ECONNRESET":
    case "ECONNABORTED":
    case "EPIPE":
      return new DcpipeError("CONNECTION_RESET", `${where} has reset the connection`, { cause });
    case "ETIMEDOUT":
      return new DcpipeError("TIMEOUT", `${where} does not answer`, { cause });
    // A gateway said so, this machine has no route or no such family of addresses, or its firewall forbids it.
    case "EHOSTUNREACH":
    case "EHOSTDOWN":
    case "ENETUNREACH":
    case "ENETDOWN":
    case "EADDRNOTAVAIL":
    case "EAFNOSUPPORT":
    case "EACCES":
    case "EPERM":
      return new DcpipeError("UNREACHABLE", `no way leads from here to ${where} (${system})`, { cause });
    default:
      return shortage(cause) ?? asDcpipeError(cause, "IO", where);
  }
}

/** The same of a unix socket. */
export function unixFailure(cause: unknown, where: string): DcpipeError {
  switch (systemCode(cause)) {
    case "ENOENT":
    case "ENOTDIR":
      return new DcpipeError("CONNECTION_REFUSED", `there is no socket ${where}`, { cause });
    case "EACCES":
    case "EPERM":
      return new DcpipeError("IO", `no permission to connect to ${where}`, { cause });
    default:
      return connectionFailure(cause, where);
  }
}

/** LIMIT, when it is this machine that has run out of something; else undefined. */
export function shortage(cause: unknown): DcpipeError | undefined {
  switch (systemCode(cause)) {
    case "EMFILE":
    case "ENFILE":
      return new DcpipeError("LIMIT", "too many open files and sockets on this machine", { cause });
    case "ENOBUFS":
    case "ENOMEM":
      return new DcpipeError("LIMIT", "no memory for another socket on this machine", { cause });
    default:
      return undefined;
  }
}
