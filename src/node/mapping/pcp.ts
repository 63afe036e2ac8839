/** Port Control Protocol, RFC 6887, for IPv4 behind a NAT: ANNOUNCE to learn whether it is spoken, MAP for the port. */
import { randomBytes } from "node:crypto";
import { DcpipeError } from "../../errors.ts";
import type { FindClient } from "./client.ts";
import { createEpoch } from "./epoch.ts";
import { ask } from "./exchange.ts";

const VERSION = 2;
const ANNOUNCE = 0;
const MAP = 1;
const RESPONSE = 0x80;
const UDP = 17;

const HEADER_SIZE = 24;
const MAP_SIZE = HEADER_SIZE + 36;
/** Section 7: no message is longer. */
const MAX_SIZE = 1_100;
/** In the payload of MAP, behind the header (section 11.1). */
const NONCE_AT = HEADER_SIZE;
const NONCE_SIZE = 12;
const PROTOCOL_AT = 36;
const PORT_AT = 40;
const EXTERNAL_AT = 42;
const ADDRESS_AT = 44;

const SUCCESS = 0;
const UNSUPP_VERSION = 1;
const UNSUPP_OPCODE = 4;
/** Section 7.4, from 1 on. */
const RESULTS = [
  "UNSUPP_VERSION",
  "NOT_AUTHORIZED",
  "MALFORMED_REQUEST",
  "UNSUPP_OPCODE",
  "UNSUPP_OPTION",
  "MALFORMED_OPTION",
  "NETWORK_FAILURE",
  "NO_RESOURCES",
  "UNSUPP_PROTOCOL",
  "USER_EX_QUOTA",
  "CANNOT_PROVIDE_EXTERNAL",
  "ADDRESS_MISMATCH",
  "EXCESSIVE_REMOTE_PEERS",
];

export interface PcpAnswer {
  /** 0 is success. */
  readonly result: number;
  /** Seconds. */
  readonly lifetime: number;
  /** Seconds since the server began to keep mappings. */
  readonly epoch: number;
}

export interface PcpMapAnswer extends PcpAnswer {
  /** The port outside; 0 with a failure. */
  readonly port: number;
  readonly address: string | undefined;
}

export interface PcpMapRequest {
  readonly local: string;
  readonly nonce: Uint8Array;
  readonly port: number;
  readonly external: number;
  /** Seconds; 0 deletes the mapping. */
  readonly lifetime: number;
}

/** Finds out by ANNOUNCE (section 14.1), which changes nothing at the server. */
export const findPcp: FindClient = async (router, wait) => {
  const port = router.pcpPort;
  const epochOf = createEpoch();
  const heard = await ask(
    {
      gateway: router,
      port,
      request: encodeAnnounce(router.local),
      read: (answer) => readPcp(answer, ANNOUNCE),
    },
    wait,
  );
  // A server may do without ANNOUNCE.
  if (heard.result !== SUCCESS && heard.result !== UNSUPP_OPCODE) throw refusal(heard.result);
  epochOf(heard.epoch);

  // Who knows it may change the mapping: it stays the same from the first request to the last.
  const nonce = randomBytes(NONCE_SIZE);
  let asked: number | undefined;
  const send = (
    request: Omit<PcpMapRequest, "local" | "nonce">,
    during: typeof wait,
  ): Promise<PcpMapAnswer> =>
    ask(
      {
        gateway: router,
        port,
        request: encodeMap({ local: router.local, nonce, ...request }),
        read: (answer) => readPcpMap(answer, nonce, request.port),
      },
      during,
    );
  return {
    protocol: "pcp",
    address: undefined,
    map: async (request, during) => {
      asked = request.port;
      const answer = await send(request, during);
      if (answer.result !== SUCCESS) throw refusal(answer.result);
      if (answer.port === 0 || answer.lifetime === 0)
        throw new DcpipeError("PROTOCOL", "the router grants nothing by PCP and calls it success");
      const { port: granted, address, lifetime } = answer;
      return { port: granted, address, lifetime, hasRestarted: epochOf(answer.epoch) };
    },
    unmap: async (during) => {
      if (asked === undefined) return;
      // Section 15: the suggested port of a deletion is zero.
      await send({ port: asked, external: 0, lifetime: 0 }, during);
    },
  };
};

function refusal(result: number): DcpipeError {
  return new DcpipeError("REFUSED", `the router refuses by PCP (${RESULTS[result - 1] ?? result})`);
}

function encodeHeader(request: Buffer, opcode: number, lifetime: number, local: string): void {
  request.writeUInt8(VERSION, 0);
  request.writeUInt8(opcode, 1);
  request.writeUInt32BE(lifetime, 4);
  mapped(local).copy(request, 8);
}

export function encodeAnnounce(local: string): Buffer {
  const request = Buffer.alloc(HEADER_SIZE);
  encodeHeader(request, ANNOUNCE, 0, local);
  return request;
}

export function encodeMap({ local, nonce, port, external, lifetime }: PcpMapRequest): Buffer {
  const request = Buffer.alloc(MAP_SIZE);
  encodeHeader(request, MAP, lifetime, local);
  request.set(nonce, NONCE_AT);
  request.writeUInt8(UDP, PROTOCOL_AT);
  request.writeUInt16BE(port, PORT_AT);
  request.writeUInt16BE(external, EXTERNAL_AT);
  mapped("0.0.0.0").copy(request, ADDRESS_AT);
  return request;
}

/** The header of an answer to a request with that opcode (section 8.3), undefined for anything else. */
export function readPcp(answer: Buffer, opcode: number): PcpAnswer | undefined {
  if (answer.length < 4 || answer.length > MAX_SIZE || (answer.readUInt8(1) & RESPONSE) === 0)
    return undefined;
  const version = answer.readUInt8(0);
  const result = answer.readUInt8(3);
  // Also what a server of NAT-PMP alone says: version 0, and 16 bits of result (appendix A).
  if (version !== VERSION) return result === UNSUPP_VERSION ? { result, lifetime: 0, epoch: 0 } : undefined;
  if (answer.length < HEADER_SIZE || answer.length % 4 !== 0) return undefined;
  if (answer.readUInt8(1) !== (RESPONSE | opcode)) return undefined;
  return { result, lifetime: answer.readUInt32BE(4), epoch: answer.readUInt32BE(8) };
}

/** The answer to a MAP with that nonce and port, undefined for anything else. */
export function readPcpMap(answer: Buffer, nonce: Uint8Array, port: number): PcpMapAnswer | undefined {
  const head = readPcp(answer, MAP);
  if (!head) return undefined;
  // A failure may come without the payload; with one, and every success, it has to be ours.
  const isBare = answer.length < MAP_SIZE;
  if (isBare) return head.result === SUCCESS ? undefined : { ...head, port: 0, address: undefined };
  if (!answer.subarray(NONCE_AT, NONCE_AT + NONCE_SIZE).equals(nonce)) return undefined;
  if (answer.readUInt8(PROTOCOL_AT) !== UDP || answer.readUInt16BE(PORT_AT) !== port) return undefined;
  if (head.result !== SUCCESS) return { ...head, port: 0, address: undefined };
  return {
    ...head,
    port: answer.readUInt16BE(EXTERNAL_AT),
    address: unmapped(answer.subarray(ADDRESS_AT, ADDRESS_AT + 16)),
  };
}

/** Section 5: IPv4 addresses are written as IPv4-mapped IPv6 ones. */
function mapped(address: string): Buffer {
  return Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...address.split(".").map(Number)]);
}

/** Undefined for what is no IPv4 address, or none at all. */
function unmapped(bytes: Buffer): string | undefined {
  if (!bytes.subarray(0, 12).equals(mapped("0.0.0.0").subarray(0, 12))) return undefined;
  const address = bytes.subarray(12).join(".");
  return address === "0.0.0.0" ? undefined : address;
}
