/** The side at which the target is: the other side sends a request or wants a WebSocket, the rules say whether it may, as for connections. */
import { asDcpipeError, DcpipeError } from "../../errors.ts";
import type { Stream } from "../../session/stream.ts";
import { REASONS, type Reason } from "../../wire/frame.ts";
import type { Target } from "../../wire/header.ts";
import { protocolError } from "../../wire/bytes.ts";
import { encodeHttpRecord, MAX_REASON, type HttpOpening, type HttpRequest } from "../../wire/http.ts";
import { isReason, type Source } from "../endpoints.ts";
import type { Acceptor } from "../forward/accepting.ts";
import type { Address } from "../forward/network.ts";
import { breakOff } from "../last-words.ts";
import type { HttpClient, IncomingResponse, UpgradedConnection } from "./client.ts";
import { hostOf, travelling } from "./fields.ts";
import { readHead } from "./head.ts";

/** A head comes in the packet that opens the stream, or in the next ones. Milliseconds. */
const HEAD_MS = 30_000;
/** A server has so long to say whether there is a WebSocket: as long as a connection may take. Milliseconds. */
const UPGRADE_MS = 30_000;

export interface HttpAcceptor extends Acceptor {
  /** How targets of this session are asked. Rejects with REFUSED where there is no HTTP. */
  readonly client: () => Promise<HttpClient>;
}

/** Bytes of bodies, and of WebSockets. */
interface Carried {
  sent: number;
  received: number;
}

/** Serves a stream of kind `http`. Never rejects. */
export async function acceptHttp(stream: Stream, target: Target, acceptor: HttpAcceptor): Promise<void> {
  const gone = new AbortController();
  const abort = (): void => {
    gone.abort();
  };
  stream.closed.catch(abort);
  let over: ((error?: DcpipeError) => void) | undefined;
  // What has been sent of an answer is to arrive: then the end is in the stream, not of it.
  const state = { answered: false };
  try {
    const { head, body } = await headOf(stream);
    const { addresses, name } = await acceptor.permit("tcp", target);
    const client = await acceptor.client();
    const carried = { sent: 0, received: 0 };
    over = acceptor.ledger.opened("tcp", name, undefined, carried);
    const exchange: Exchange = {
      stream,
      target,
      addresses,
      client,
      body,
      carried,
      acceptor,
      signal: gone.signal,
    };
    const answer = (): void => {
      state.answered = true;
    };
    if (head.type === "REQUEST") await serveRequest(exchange, head, answer);
    else await serveSocket(exchange, head, answer);
    over();
  } catch (cause) {
    const error = asDcpipeError(cause, "IO");
    if (state.answered) breakOff(stream, reasonOf(error), error.message);
    else stream.reset(reasonOf(error), error.message);
    // That the other side has gone, or does not want it any more, is no failure of ours.
    over?.(gone.signal.aborted ? undefined : error);
  }
}

interface Exchange {
  readonly stream: Stream;
  readonly target: Target;
  readonly addresses: readonly Address[];
  readonly client: HttpClient;
  readonly body: Source;
  readonly carried: Carried;
  readonly acceptor: HttpAcceptor;
  readonly signal: AbortSignal;
}

async function headOf(stream: Stream): Promise<{ head: HttpRequest | HttpOpening; body: Source }> {
  const late = setTimeout(() => {
    stream.reset("TIMEOUT", "no head came");
  }, HEAD_MS);
  try {
    const { head, body } = await readHead(stream);
    if (head.type !== "REQUEST" && head.type !== "OPENING")
      throw protocolError("an answer that nobody asked for");
    return { head, body };
  } finally {
    clearTimeout(late);
  }
}

async function serveRequest(exchange: Exchange, head: HttpRequest, answer: () => void): Promise<void> {
  const { stream, target, addresses, client, body, carried, signal } = exchange;
  const upload = counted(body, head, carried);
  const response = await client.request(
    addresses,
    {
      method: head.method,
      path: head.path,
      fields: [["host", hostOf(target)], ...head.fields],
      length: head.body,
      body: upload,
    },
    { signal },
  );
  // Its end is read now: so that is acknowledged in the packet with the answer.
  const nothing = head.body === "none" ? nothingMore(body) : undefined;
  nothing?.catch(() => undefined);
  await sendResponse(exchange, response, answer);
  // The answer has been read to its end. A server that gave it early wants no more of the request.
  await stream.end();
  if (!response.isSent()) stream.reset("CLOSED", "the answer came before the end of the request");
  else await nothing;
  await stream.closed.catch(() => undefined);
}

async function sendResponse(
  { stream, carried, acceptor }: Exchange,
  { status, reason, fields, body }: IncomingResponse,
  answer: () => void,
): Promise<void> {
  try {
    const record = encodeResponse(status, reason, fields);
    answer();
    stream.write(record).catch(() => undefined);
    for (let chunk = await body.read(); chunk; chunk = await body.read()) {
      carried.sent += chunk.length;
      await Promise.all([stream.write(chunk), acceptor.pacer?.take(chunk.length)]);
    }
  } catch (cause) {
    body.cancel();
    throw cause;
  }
}

function encodeResponse(status: number, reason: string, fields: IncomingResponse["fields"]): Uint8Array {
  try {
    return encodeHttpRecord({
      type: "RESPONSE",
      status,
      reason: reason.slice(0, MAX_REASON),
      fields: travelling("RESPONSE", fields),
    });
  } catch (cause) {
    const error = asDcpipeError(cause, "PROTOCOL");
    const code = error.code === "LIMIT" ? "LIMIT" : "PROTOCOL";
    throw new DcpipeError(code, `the answer cannot be passed on: ${error.message}`, { cause });
  }
}

async function serveSocket(exchange: Exchange, head: HttpOpening, answer: () => void): Promise<void> {
  const { stream, target, addresses, client, signal } = exchange;
  const { path, protocols } = head;
  const late = AbortSignal.timeout(UPGRADE_MS);
  const fields = [["host", hostOf(target)] as const, ...head.fields];
  let upgraded: UpgradedConnection | IncomingResponse;
  try {
    upgraded = await client.upgrade(
      addresses,
      { path, protocols, fields },
      { signal: AbortSignal.any([signal, late]) },
    );
  } catch (cause) {
    if (late.aborted && !signal.aborted)
      throw new DcpipeError("TIMEOUT", "the server does not answer", { cause });
    throw cause;
  }
  if ("status" in upgraded) {
    // A WebSocket's user may know that it was refused, and no more of it (WebSockets, section 2).
    upgraded.body.cancel();
    stream.write(encodeResponse(upgraded.status, upgraded.reason, upgraded.fields)).catch(() => undefined);
    answer();
    stream.end().catch(() => undefined);
    await nothingMore(exchange.body);
    return;
  }
  stream
    .write(
      encodeHttpRecord({
        type: "ACCEPTED",
        protocol: upgraded.protocol,
        fields: travelling("ACCEPTED", upgraded.fields),
      }),
    )
    .catch(() => undefined);
  answer();
  await carrySocket(exchange, upgraded);
}

/** Bytes both ways until both ends have ended. */
async function carrySocket(
  { stream, body, carried, acceptor }: Exchange,
  socket: UpgradedConnection,
): Promise<void> {
  const up = async (): Promise<void> => {
    for (let chunk = await body.read(); chunk; chunk = await body.read()) {
      carried.received += chunk.length;
      await socket.write(chunk);
    }
    socket.end();
  };
  const down = async (): Promise<void> => {
    for (let chunk = await socket.source.read(); chunk; chunk = await socket.source.read()) {
      carried.sent += chunk.length;
      await Promise.all([stream.write(chunk), acceptor.pacer?.take(chunk.length)]);
    }
    stream.end().catch(() => undefined);
  };
  try {
    await Promise.all([up(), down()]);
  } finally {
    socket.destroy();
  }
}

/** The request's body, not longer than it was said to be, and not shorter. */
function counted(body: Source, { body: length }: HttpRequest, carried: Carried): Source {
  return {
    read: async () => {
      const chunk = await body.read();
      carried.received += chunk?.length ?? 0;
      if (typeof length === "number" && (chunk ? carried.received > length : carried.received < length))
        throw protocolError("a request of another length than it says");
      return chunk;
    },
    cancel: () => {
      body.cancel();
    },
  };
}

/** Only an end may come. */
async function nothingMore(body: Source): Promise<void> {
  if (await body.read()) throw protocolError("a body where there is none");
}

function reasonOf({ code }: DcpipeError): Reason {
  return isReason(code, REASONS) ? code : "IO";
}
