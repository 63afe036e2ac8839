/**
 * HTTP/1.1 to the targets of forwards, on node:http. Requests without a body share connections, as they can be sent again when a kept
 * one turns out to be closed (RFC 9110, section 9.2.2); each of the others has its own.
 */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  Agent,
  request as httpRequest,
  type ClientRequest,
  type ClientRequestArgs,
  type IncomingMessage,
} from "node:http";
import type { Duplex, Readable } from "node:stream";
import type { Source } from "../apps/endpoints.ts";
import type {
  HttpClient,
  IncomingResponse,
  OutgoingRequest,
  UpgradedConnection,
} from "../apps/http/client.ts";
import type { Address } from "../apps/forward/network.ts";
import { asDcpipeError, DcpipeError } from "../errors.ts";
import { connectionFailure, formatHost, systemCode, unixFailure } from "./net/failure.ts";
import { PatientSocket } from "./net/patient.ts";

/** As for forwarded connections: the system would try for two minutes. */
const DIAL_TIMEOUT_MS = 30_000;
/** Servers keep a connection for 5 s and more (Node 5, nginx 75): ours is closed before theirs, or a request would meet its end. */
const IDLE_MS = 4_000;
/** Connections of one target that wait for a request: what a page asks for at once. */
const MAX_IDLE = 16;
/** Of a response's head; as much as may travel (docs/protocol.md, section 9.4). */
const MAX_HEAD = 64 * 1024;
/** Safe to send twice. */
const REPEATABLE = ["GET", "HEAD", "OPTIONS"];
/** After these, before a connection stands, another address may do. */
const ELSEWHERE: readonly string[] = ["CONNECTION_REFUSED", "UNREACHABLE", "TIMEOUT"];
/** What a server adds to the key of a WebSocket's opening (RFC 6455, section 1.3). */
const WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

type Fields = OutgoingRequest["fields"];

/** One request to one address. */
interface Attempt {
  readonly address: Address;
  readonly method: string;
  readonly path: string;
  readonly fields: Fields;
  /** Without one the connection is for this request alone. */
  readonly agent: Agent | undefined;
  readonly signal: AbortSignal;
  /** Called when the connection stands. */
  readonly send: (request: ClientRequest) => void;
}

type Answer =
  | { readonly message: IncomingMessage; readonly going: ClientRequest; readonly socket?: undefined }
  | { readonly message: IncomingMessage; readonly going: ClientRequest; readonly socket: Duplex };

/** Something went wrong; `stood` says whether the request may have reached a server. */
class Failure extends Error {
  readonly error: DcpipeError;
  readonly stood: boolean;
  /** The connection was kept from an earlier request. */
  readonly reused: boolean;

  constructor(error: DcpipeError, stood: boolean, reused: boolean) {
    super(error.message);
    this.error = error;
    this.stood = stood;
    this.reused = reused;
  }
}

/** Connections are not shared with another client: what is logged in on one (NTLM) is of one peer. */
export function createHttpClient(): HttpClient {
  const kept = new Agent({ keepAlive: true, maxFreeSockets: MAX_IDLE, timeout: IDLE_MS });
  return {
    request: async (addresses, request, { signal }) => {
      const { method, path, body, length } = request;
      const fields = withLength(request);
      const repeatable = length === "none" && REPEATABLE.includes(method);
      const attempt = {
        method,
        path,
        fields,
        signal,
        send: (going: ClientRequest) => {
          if (length === "none") going.end();
          else void pump(body, going);
        },
      };
      const { message, going, where, socket } = await inTurn(addresses, async (address) => {
        try {
          return await exchange({ ...attempt, address, agent: repeatable ? kept : undefined });
        } catch (cause) {
          // Closed by the server just when it was used again.
          const stale = cause instanceof Failure && cause.reused && cause.error.code === "CONNECTION_RESET";
          if (!stale || signal.aborted) throw cause;
          return exchange({ ...attempt, address, agent: undefined });
        }
      });
      if (socket) {
        socket.destroy();
        throw new DcpipeError("PROTOCOL", `${where} changes the protocol, which nobody asked for`);
      }
      return responseOf(message, going, where);
    },

    upgrade: async (addresses, { path, protocols, fields }, { signal }) => {
      const key = randomBytes(16).toString("base64");
      const opening: Fields = [
        ...fields,
        ["connection", "Upgrade"],
        ["upgrade", "websocket"],
        ["sec-websocket-version", "13"],
        ["sec-websocket-key", key],
        ...(protocols.length > 0 ? [["sec-websocket-protocol", protocols.join(", ")] as const] : []),
      ];
      const answer = await inTurn(addresses, (address) =>
        exchange({
          address,
          method: "GET",
          path,
          fields: opening,
          agent: undefined,
          signal,
          send: (going) => going.end(),
        }),
      );
      const { message, going, where, socket } = answer;
      if (!socket) return responseOf(message, going, where);
      const problem = problemOf(message, key, protocols);
      if (problem !== undefined) {
        socket.destroy();
        throw new DcpipeError("PROTOCOL", `${where} does not open a WebSocket as it should: ${problem}`);
      }
      return upgradedOf(message, socket, where, signal);
    },

    close: () => {
      kept.destroy();
    },
  };
}

/** Tries one address after the other, until a connection stands. Rejects with the first failure: that of the address preferred. */
async function inTurn<T>(
  addresses: readonly Address[],
  attempt: (address: Address) => Promise<T>,
): Promise<T & { readonly where: string }> {
  let failure: DcpipeError | undefined;
  for (const address of addresses) {
    try {
      return { ...(await attempt(address)), where: nameOf(address) };
    } catch (cause) {
      if (!(cause instanceof Failure)) throw cause;
      failure ??= cause.error;
      if (cause.stood || !ELSEWHERE.includes(cause.error.code)) throw cause.error;
    }
  }
  throw failure ?? new DcpipeError("NAME_UNKNOWN", "the name has no address");
}

function nameOf(address: Address): string {
  return address.type === "unix" ? address.path : formatHost(address.address, address.port);
}

/** Resolves with the head of the answer. Rejects with a Failure. */
function exchange({ address, method, path, fields, agent, signal, send }: Attempt): Promise<Answer> {
  const where = nameOf(address);
  return new Promise((resolve, reject) => {
    let stood = false;
    const fail = (cause: unknown): void => {
      clearTimeout(timer);
      const error = signal.aborted
        ? new DcpipeError("ABORTED", "stopped", { cause: signal.reason })
        : failureOf(cause, where);
      reject(new Failure(error, stood, going.reusedSocket));
    };
    const going = httpRequest({
      ...(address.type === "unix"
        ? { socketPath: address.path }
        : { host: address.address, port: address.port }),
      method,
      path,
      // As a list they are sent as they are, in their order, and nothing is added but what is about the connection.
      headers: fields.flat(),
      ...(agent ? { agent } : { createConnection: connectAlone }),
      maxHeaderSize: MAX_HEAD,
      signal,
    });
    const timer = setTimeout(() => {
      going.destroy(new DcpipeError("TIMEOUT", `${where} does not answer`));
    }, DIAL_TIMEOUT_MS);
    const connected = (): void => {
      stood = true;
      clearTimeout(timer);
      send(going);
    };
    going.on("socket", (socket) => {
      if (socket.connecting) socket.once("connect", connected);
      else connected();
    });
    // Later ones are told by the answer's body.
    going.on("error", fail);
    going.on("response", (message) => {
      resolve({ message, going });
    });
    going.on("upgrade", (message, socket, head) => {
      if (head.length > 0) socket.unshift(head);
      resolve({ message, going, socket });
    });
  });
}

function connectAlone({ host, port, socketPath }: ClientRequestArgs): PatientSocket {
  const socket = new PatientSocket();
  if (typeof socketPath === "string") socket.connect({ path: socketPath });
  else socket.connect({ host: host ?? "", port: Number(port), noDelay: true });
  return socket;
}

/** What says where the request ends, which is ours to say. */
function withLength({ method, fields, length }: OutgoingRequest): Fields {
  if (typeof length === "number") return [...fields, ["content-length", String(length)]];
  if (length === "unknown") return [...fields, ["transfer-encoding", "chunked"]];
  // RFC 9110, section 8.6: methods that have a body as a rule say that there is none.
  return ["POST", "PUT", "PATCH"].includes(method) ? [...fields, ["content-length", "0"]] : fields;
}

/** The body into the request, as fast as the server takes it. */
async function pump(body: Source, going: ClientRequest): Promise<void> {
  try {
    for (let chunk = await body.read(); chunk; chunk = await body.read()) {
      if (going.destroyed) return;
      if (!going.write(chunk)) await writable(going);
    }
    going.end();
  } catch (cause) {
    going.destroy(asDcpipeError(cause, "IO"));
  }
}

/** Resolves when there is room, or when nothing is taken any more. */
async function writable(stream: ClientRequest | Duplex): Promise<void> {
  if (stream.destroyed || !stream.writableNeedDrain) return;
  const stop = new AbortController();
  const { signal } = stop;
  const drained = once(stream, "drain", { signal });
  const closed = once(stream, "close", { signal });
  try {
    await Promise.race([drained, closed]);
  } catch {
    // An error, which is told elsewhere.
  } finally {
    drained.catch(ignore);
    closed.catch(ignore);
    stop.abort();
  }
}

function responseOf(message: IncomingMessage, going: ClientRequest, where: string): IncomingResponse {
  return {
    status: message.statusCode ?? 0,
    reason: message.statusMessage ?? "",
    fields: fieldsOf(message),
    body: sourceOf(message, where, () => {
      going.destroy();
    }),
    isSent: () => going.writableFinished,
  };
}

function fieldsOf({ rawHeaders }: IncomingMessage): Fields {
  const fields: [string, string][] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2)
    fields.push([rawHeaders[i] ?? "", rawHeaders[i + 1] ?? ""]);
  return fields;
}

function sourceOf(readable: Readable, where: string, cancel: () => void): Source {
  readable.on("error", ignore);
  const chunks = readable.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer, undefined>;
  return {
    read: async () => {
      try {
        const { value } = await chunks.next();
        return value;
      } catch (cause) {
        throw failureOf(cause, where);
      }
    },
    cancel,
  };
}

function upgradedOf(
  message: IncomingMessage,
  socket: Duplex,
  where: string,
  signal: AbortSignal,
): UpgradedConnection {
  const destroy = (): void => {
    signal.removeEventListener("abort", destroy);
    socket.destroy();
  };
  signal.addEventListener("abort", destroy);
  socket.on("error", ignore);
  return {
    protocol: message.headers["sec-websocket-protocol"] ?? "",
    fields: fieldsOf(message),
    source: sourceOf(socket, where, destroy),
    write: async (chunk) => {
      if (!socket.destroyed && !socket.write(chunk)) await writable(socket);
      if (socket.destroyed)
        throw socket.errored
          ? failureOf(socket.errored, where)
          : new DcpipeError("CLOSED", `${where} has closed`);
    },
    end: () => {
      socket.end();
    },
    destroy,
  };
}

/** What is wrong with the answer to an opening (RFC 6455, section 4.1), or undefined. */
function problemOf(
  { headers }: IncomingMessage,
  key: string,
  protocols: readonly string[],
): string | undefined {
  const accept = createHash("sha1")
    .update(key + WEBSOCKET_GUID)
    .digest("base64");
  const protocol = headers["sec-websocket-protocol"];
  if (headers.upgrade?.toLowerCase() !== "websocket") return "it is another protocol";
  if (headers["sec-websocket-accept"] !== accept) return "its answer is to another opening";
  if (protocol !== undefined && !protocols.includes(protocol)) return "its subprotocol was not offered";
  if (headers["sec-websocket-extensions"] !== undefined) return "it uses an extension that was not offered";
  return undefined;
}

function failureOf(cause: unknown, where: string): DcpipeError {
  if (cause instanceof DcpipeError) return cause;
  const code = systemCode(cause);
  if (code === "HPE_HEADER_OVERFLOW")
    return new DcpipeError("LIMIT", `${where} answers with a head of more than ${MAX_HEAD} bytes`, { cause });
  // Node's parser of HTTP.
  if (code.startsWith("HPE_"))
    return new DcpipeError("PROTOCOL", `${where} does not answer in HTTP`, { cause });
  if (code === "ERR_STREAM_PREMATURE_CLOSE" || code === "ABORT_ERR")
    return new DcpipeError("CONNECTION_RESET", `${where} has closed the connection`, { cause });
  return where.startsWith("/") ? unixFailure(cause, where) : connectionFailure(cause, where);
}

function ignore(): void {
  // It is told by whatever is read or written next.
}
