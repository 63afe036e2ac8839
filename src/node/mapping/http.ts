/** HTTP with a router: one request, one bounded answer, no redirects, no proxies, nobody else. */
import { request } from "node:http";
import { DcpipeError } from "../../errors.ts";
import { connectionFailure, formatHost } from "../net/failure.ts";
import type { Wait } from "./wait.ts";

/** Descriptions of devices have some 5 to 30 KiB. */
const MAX_BODY = 128 * 1024;
const MAX_HEADERS = 8 * 1024;

export interface HttpRequest {
  readonly url: URL;
  /** The address to call from. */
  readonly local: string;
  readonly method: "GET" | "POST";
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

/** Rejects with CONNECTION_REFUSED, CONNECTION_RESET, UNREACHABLE, IO, PROTOCOL (too long), and TIMEOUT when the wait is over. */
export function exchangeHttp(
  { url, local, method, headers = {}, body = "" }: HttpRequest,
  { signal, holds }: Wait,
): Promise<HttpAnswer> {
  const where = formatHost(url.hostname, Number(url.port || 80));
  return new Promise((resolve, reject) => {
    const failed = (error: unknown): void => {
      const isLate = signal.aborted;
      reject(
        isLate
          ? new DcpipeError("TIMEOUT", `${where} does not answer`)
          : error instanceof DcpipeError
            ? error
            : connectionFailure(error, where),
      );
    };
    const going = request({
      host: url.hostname,
      port: url.port || 80,
      path: url.pathname + url.search,
      method,
      headers: { ...headers, connection: "close", "content-length": String(Buffer.byteLength(body)) },
      localAddress: local,
      // The shared agent may be set up for proxies.
      agent: false,
      maxHeaderSize: MAX_HEADERS,
      signal,
    });
    going.on("error", failed);
    going.on("socket", (socket) => {
      if (!holds) socket.unref();
    });
    let isAnswered = false;
    going.on("close", () => {
      if (!isAnswered) failed(new DcpipeError("PROTOCOL", `${where} does not answer in HTTP`));
    });
    going.on("response", (response) => {
      isAnswered = true;
      const chunks: Buffer[] = [];
      let size = 0;
      response.on("data", (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_BODY)
          response.destroy(new DcpipeError("PROTOCOL", `${where} answers with more than ${MAX_BODY} bytes`));
        else chunks.push(chunk);
      });
      response.on("error", failed);
      response.on("end", () => {
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") });
      });
      // Neither an error nor an end, when it is cut off; settled already, otherwise.
      response.on("close", () => {
        failed(new DcpipeError("PROTOCOL", `${where} has cut its answer off`));
      });
    });
    going.end(body);
  });
}
