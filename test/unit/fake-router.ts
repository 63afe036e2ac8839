/**
 * A router on loopback that opens ports, or says so, or something else: PCP and NAT-PMP on one UDP port, SSDP on another (asked by
 * unicast), UPnP's HTTP on a third. What a test gives it to say, it says; where it is given nothing, it is silent.
 */
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "vitest";
import type { Router } from "../../src/node/mapping/client.ts";

export const HOST = "127.0.0.1";
/** The outer address it tells. */
export const OUTER = "44.0.0.1";

export type Datagram = (
  request: Buffer,
  send: (answer: Uint8Array | string) => void,
  from: RemoteInfo,
) => void;

export interface HttpCall {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** The action of SOAP, "" for none. */
  readonly action: string;
  readonly body: string;
}

export interface Behaviour {
  readonly pcp?: Datagram | undefined;
  readonly natPmp?: Datagram | undefined;
  readonly ssdp?: ((router: FakeRouter) => Datagram) | undefined;
  readonly http?: ((call: HttpCall) => void) | undefined;
}

export interface FakeRouter extends Router {
  readonly httpPort: number;
  /** Its socket of PCP and NAT-PMP. */
  readonly socket: Socket;
  /** What it was asked: "pcp 1" (the opcode), "nat-pmp 0", "search", "GET /root.xml", "AddPortMapping". */
  readonly asked: string[];
  /** Resolves when it was asked this so many times. */
  heard(what: string, times?: number): Promise<void>;
}

export async function createRouter(
  { onTestFinished }: Pick<TestContext, "onTestFinished">,
  { pcp, natPmp, ssdp, http }: Behaviour,
): Promise<FakeRouter> {
  const asked: string[] = [];
  const listeners = new Set<() => void>();
  const ask = (what: string): void => {
    asked.push(what);
    for (const listener of [...listeners]) listener();
  };
  const socket = await bind(onTestFinished, (request, send, from) => {
    const isPcp = request[0] === 2;
    ask(`${isPcp ? "pcp" : "nat-pmp"} ${request[1]}`);
    (isPcp ? pcp : natPmp)?.(request, send, from);
  });
  const search = await bind(onTestFinished, (request, send, from) => {
    ask("search");
    ssdp?.(router)(request, send, from);
  });
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const action = /#(\w+)"$/.exec(String(request.headers["soapaction"] ?? ""))?.[1] ?? "";
      ask(action === "" ? `${request.method} ${request.url}` : action);
      http?.({ request, response, action, body: Buffer.concat(chunks).toString() });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const router: FakeRouter = {
    address: HOST,
    local: HOST,
    pcpPort: socket.address().port,
    ssdp: [{ address: HOST, port: search.address().port }],
    httpPort: (server.address() as AddressInfo).port,
    socket,
    asked,
    heard: (what, times = 1) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (asked.filter((each) => each === what).length < times) return;
          listeners.delete(look);
          resolve();
        };
        listeners.add(look);
        look();
      }),
  };
  return router;
}

async function bind(onTestFinished: TestContext["onTestFinished"], hear: Datagram): Promise<Socket> {
  const socket = createSocket("udp4");
  socket.on("message", (request, from) => {
    hear(
      request,
      (answer) => {
        socket.send(answer, from.port, from.address);
      },
      from,
    );
  });
  await new Promise<void>((resolve) => socket.bind(0, HOST, resolve));
  onTestFinished(() => {
    socket.close();
  });
  return socket;
}

interface PcpFields {
  readonly result?: number;
  readonly lifetime?: number;
  readonly epoch?: number;
  readonly port?: number;
  /** 16 bytes. */
  readonly address?: Uint8Array;
}

/** The answer of a PCP server to a request; what is not given is as asked, or as all is well. */
export function pcpAnswer(
  request: Buffer,
  { result = 0, lifetime, epoch = 1, port, address }: PcpFields = {},
): Buffer {
  const answer = Buffer.from(request);
  answer.writeUInt8((request[1] ?? 0) | 0x80, 1);
  answer.writeUInt8(result, 3);
  if (lifetime !== undefined) answer.writeUInt32BE(lifetime, 4);
  answer.writeUInt32BE(epoch, 8);
  answer.fill(0, 12, 24);
  if (request[1] === 1) {
    answer.writeUInt16BE(port ?? request.readUInt16BE(42), 42);
    answer.set(address ?? [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, ...OUTER.split(".").map(Number)], 44);
  }
  return answer;
}

interface NatPmpFields {
  readonly result?: number;
  readonly lifetime?: number;
  readonly epoch?: number;
  readonly port?: number;
  readonly address?: string;
}

/** The same of a NAT-PMP server. */
export function natPmpAnswer(
  request: Buffer,
  { result = 0, lifetime, epoch = 1, port, address = OUTER }: NatPmpFields = {},
): Buffer {
  const answer = Buffer.alloc(request[1] === 0 ? 12 : 16);
  answer.writeUInt8(128 + (request[1] ?? 0), 1);
  answer.writeUInt16BE(result, 2);
  answer.writeUInt32BE(epoch, 4);
  if (request[1] === 0) {
    answer.set(address.split(".").map(Number), 8);
  } else {
    request.copy(answer, 8, 4, 8);
    if (port !== undefined) answer.writeUInt16BE(port, 10);
    answer.writeUInt32BE(lifetime ?? request.readUInt32BE(8), 12);
  }
  return answer;
}

/** Servers that do what they are asked. */
export const goodPcp: Datagram = (request, send) => {
  send(pcpAnswer(request));
};
export const goodNatPmp: Datagram = (request, send) => {
  send(natPmpAnswer(request));
};

export const WAN_IP_1 = "urn:schemas-upnp-org:service:WANIPConnection:1";

export function ssdpAnswer(location: string): string {
  return `HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: upnp:rootdevice\r\nLocation: ${location}\r\n\r\n`;
}

/** A device that is found where it is. */
export function foundAt(location: (router: FakeRouter) => string): (router: FakeRouter) => Datagram {
  return (router) => (_request, send) => {
    send(ssdpAnswer(location(router)));
  };
}

export const goodSsdp = foundAt(({ httpPort }) => `http://${HOST}:${httpPort}/root.xml`);

export function description(
  ...services: readonly { readonly type: string; readonly control: string }[]
): string {
  const list = services.map(
    ({ type, control }) =>
      `<service><serviceType>${type}</serviceType><controlURL>${control}</controlURL><SCPDURL>/x</SCPDURL></service>`,
  );
  return `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList>${list.join("")}</serviceList></device></root>`;
}

export function sendXml(response: ServerResponse, xml: string, status = 200): void {
  response.writeHead(status, { "content-type": "text/xml" }).end(xml);
}

export function soap(action: string, results: Readonly<Record<string, string | number>> = {}): string {
  const list = Object.entries(results).map(([name, value]) => `<${name}>${value}</${name}>`);
  return `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><u:${action}Response xmlns:u="${WAN_IP_1}">${list.join("")}</u:${action}Response></s:Body></s:Envelope>`;
}

export function soapFault(code: number): string {
  return `<s:Envelope><s:Body><s:Fault><faultcode>s:Client</faultcode><detail><UPnPError><errorCode>${code}</errorCode><errorDescription>\u001b[31mno</errorDescription></UPnPError></detail></s:Fault></s:Body></s:Envelope>`;
}

export interface Entry {
  readonly client: string;
  readonly port: number;
  readonly lease: number;
}

/** UPnP's half of a good router. `table` has what is mapped; `fault` may say what goes wrong with an action. */
export function goodHttp({
  table = new Map<number, Entry>(),
  fault = () => undefined,
  address = OUTER,
}: {
  readonly table?: Map<number, Entry>;
  readonly fault?: (action: string, body: string) => number | undefined;
  readonly address?: string;
} = {}): (call: HttpCall) => void {
  return ({ action, body, response }) => {
    if (action === "") {
      sendXml(response, description({ type: WAN_IP_1, control: "/control" }));
      return;
    }
    const argument = (name: string): string => new RegExp(`<${name}>(.*?)</${name}>`).exec(body)?.[1] ?? "";
    const external = Number(argument("NewExternalPort"));
    const there = table.get(external);
    const wrong = fault(action, body) ?? (action.startsWith("GetSpecific") && !there ? 714 : undefined);
    if (wrong !== undefined) {
      sendXml(response, soapFault(wrong), 500);
    } else if (action === "GetExternalIPAddress") {
      sendXml(response, soap(action, { NewExternalIPAddress: address }));
    } else if (action === "GetSpecificPortMappingEntry" && there) {
      sendXml(response, soap(action, { NewInternalPort: there.port, NewInternalClient: there.client }));
    } else {
      if (action === "AddPortMapping")
        table.set(external, {
          client: argument("NewInternalClient"),
          port: Number(argument("NewInternalPort")),
          lease: Number(argument("NewLeaseDuration")),
        });
      else table.delete(external);
      sendXml(response, soap(action));
    }
  };
}
