/** NAT Port Mapping Protocol, RFC 6886: what PCP came from, and what many routers still speak alone. */
import { DcpipeError } from "../../errors.ts";
import type { FindClient } from "./client.ts";
import { createEpoch } from "./epoch.ts";
import { ask } from "./exchange.ts";

const VERSION = 0;
const ADDRESS = 0;
const MAP_UDP = 1;
const RESPONSE = 128;

const HEADER_SIZE = 8;
const ADDRESS_SIZE = 12;
const MAP_SIZE = 16;

const SUCCESS = 0;
/** Section 3.5, from 1 on. */
const RESULTS = [
  "UNSUPPORTED_VERSION",
  "NOT_AUTHORIZED",
  "NETWORK_FAILURE",
  "OUT_OF_RESOURCES",
  "UNSUPPORTED_OPCODE",
];

export interface NatPmpAnswer {
  /** 0 is success. */
  readonly result: number;
  /** Seconds since the router began to keep mappings. */
  readonly epoch: number;
}

export interface NatPmpAddress extends NatPmpAnswer {
  /** The outer address; undefined with a failure, and when the router has none. */
  readonly address: string | undefined;
}

export interface NatPmpMapping extends NatPmpAnswer {
  /** The port outside; 0 with a failure, and when the mapping is deleted. */
  readonly port: number;
  /** Seconds. */
  readonly lifetime: number;
}

export interface NatPmpMapRequest {
  readonly port: number;
  readonly external: number;
  /** Seconds; 0 deletes the mapping. */
  readonly lifetime: number;
}

/** Finds out by asking for the outer address (section 3.2), which changes nothing at the router. */
export const findNatPmp: FindClient = async (router, wait) => {
  const port = router.pcpPort;
  const epochOf = createEpoch();
  const heard = await ask(
    { gateway: router, port, request: Uint8Array.of(VERSION, ADDRESS), read: readNatPmpAddress },
    wait,
  );
  if (heard.result !== SUCCESS) throw refusal(heard.result);
  epochOf(heard.epoch);

  let asked: number | undefined;
  const send = (request: NatPmpMapRequest, during: typeof wait): Promise<NatPmpMapping> =>
    ask(
      {
        gateway: router,
        port,
        request: encodeNatPmpMap(request),
        read: (answer) => readNatPmpMapping(answer, request.port),
      },
      during,
    );
  return {
    protocol: "nat-pmp",
    address: heard.address,
    map: async (request, during) => {
      asked = request.port;
      const answer = await send(request, during);
      if (answer.result !== SUCCESS) throw refusal(answer.result);
      if (answer.port === 0 || answer.lifetime === 0)
        throw new DcpipeError("PROTOCOL", "the router grants nothing by NAT-PMP and calls it success");
      const { port: granted, lifetime, epoch } = answer;
      return { port: granted, address: heard.address, lifetime, hasRestarted: epochOf(epoch) };
    },
    unmap: async (during) => {
      // Section 3.4: both the port outside and the lifetime are zero.
      if (asked !== undefined) await send({ port: asked, external: 0, lifetime: 0 }, during);
    },
  };
};

function refusal(result: number): DcpipeError {
  return new DcpipeError("REFUSED", `the router refuses by NAT-PMP (${RESULTS[result - 1] ?? result})`);
}

export function encodeNatPmpMap({ port, external, lifetime }: NatPmpMapRequest): Buffer {
  const request = Buffer.alloc(12);
  request.writeUInt8(VERSION, 0);
  request.writeUInt8(MAP_UDP, 1);
  request.writeUInt16BE(port, 4);
  request.writeUInt16BE(external, 6);
  request.writeUInt32BE(lifetime, 8);
  return request;
}

function readHeader(answer: Buffer, opcode: number): NatPmpAnswer | undefined {
  if (answer.length < HEADER_SIZE) return undefined;
  if (answer.readUInt8(0) !== VERSION || answer.readUInt8(1) !== RESPONSE + opcode) return undefined;
  return { result: answer.readUInt16BE(2), epoch: answer.readUInt32BE(4) };
}

/** The answer to the question for the outer address, undefined for anything else. */
export function readNatPmpAddress(answer: Buffer): NatPmpAddress | undefined {
  const head = readHeader(answer, ADDRESS);
  if (!head) return undefined;
  if (head.result !== SUCCESS) return { ...head, address: undefined };
  if (answer.length < ADDRESS_SIZE) return undefined;
  const address = answer.subarray(HEADER_SIZE, ADDRESS_SIZE).join(".");
  return { ...head, address: address === "0.0.0.0" ? undefined : address };
}

/** The answer to a request about that port of ours, undefined for anything else. */
export function readNatPmpMapping(answer: Buffer, port: number): NatPmpMapping | undefined {
  const head = readHeader(answer, MAP_UDP);
  if (!head) return undefined;
  // Some routers leave the rest out of a failure.
  if (head.result !== SUCCESS) return { ...head, port: 0, lifetime: 0 };
  if (answer.length < MAP_SIZE || answer.readUInt16BE(8) !== port) return undefined;
  return { ...head, port: answer.readUInt16BE(10), lifetime: answer.readUInt32BE(12) };
}
