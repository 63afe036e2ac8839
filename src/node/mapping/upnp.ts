/**
 * UPnP Internet Gateway Device, versions 1 and 2: a router is found by SSDP, says in an XML description where its services are, and
 * is told what to do by SOAP over HTTP. The services WANIPConnection and WANPPPConnection open ports.
 *
 * All that comes from there is a stranger's: only places at the router's own address are asked, whatever its description says, and
 * of its XML a few short texts are read and checked.
 */
import { randomInt } from "node:crypto";
import { isIPv4 } from "node:net";
import { DcpipeError } from "../../errors.ts";
import type { FindClient, Grant, MappingClient, MapRequest, Router } from "./client.ts";
import { exchangeHttp } from "./http.ts";
import { placeAt, search } from "./ssdp.ts";
import type { Wait } from "./wait.ts";
import { elementsOf, textOf } from "./xml.ts";

/** In order of preference. All of them have the actions that we need, with the same arguments. */
const SERVICE_TYPES = [
  "urn:schemas-upnp-org:service:WANIPConnection:2",
  "urn:schemas-upnp-org:service:WANIPConnection:1",
  "urn:schemas-upnp-org:service:WANPPPConnection:1",
];
/** A gateway has some ten services, and one connection or two. */
const MAX_SERVICES = 32;
const MAX_CONNECTIONS = 4;

/** Shown to people by the router. */
const DESCRIPTION = "dcpipe";
/** How many ports are tried before the router counts as full. */
const MAX_PORTS = 4;
/** Dynamic ports (RFC 6335, section 6), for when the one we would like is taken. */
const FIRST_DYNAMIC = 49_152;
const BEHIND_DYNAMIC = 65_536;

/** Faults of the services (WANIPConnection:2, section 2.5). */
const INVALID_ARGS = 402;
const CONFLICT = [718, 729];
const ONLY_PERMANENT_LEASES = 725;

export interface Service {
  readonly type: string;
  readonly control: URL;
}

interface Connection {
  readonly service: Service;
  readonly address: string | undefined;
}

/** Finds out by a search, the description, and the question for the outer address, none of which changes anything at the router. */
export const findUpnp: FindClient = async (router, wait) => {
  return createClient(router, await findConnection(router, wait));
};

/** The first place that turns out to be a gateway's. */
function findConnection(router: Router, wait: Wait): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const late = (): void => {
      finish();
      reject(new DcpipeError("TIMEOUT", `no UPnP gateway answers at ${router.address}`));
    };
    const stop = search(router, wait, {
      onlocation: (location) => {
        // One that is no gateway's is passed over: the next may be.
        openLocation(router, location, wait).then((connection) => {
          finish();
          resolve(connection);
        }, ignore);
      },
      onerror: (error) => {
        finish();
        reject(new DcpipeError("UNREACHABLE", "no search for UPnP can be sent", { cause: error }));
      },
    });
    function finish(): void {
      stop();
      wait.signal.removeEventListener("abort", late);
    }
    wait.signal.addEventListener("abort", late);
    if (wait.signal.aborted) late();
  });
}

function ignore(): void {
  // Said already by the absence of a result.
}

async function openLocation(router: Router, location: URL, wait: Wait): Promise<Connection> {
  const { status, body } = await exchangeHttp({ url: location, local: router.local, method: "GET" }, wait);
  if (status !== 200) throw new DcpipeError("PROTOCOL", `the router answers with ${status}`);
  // A router with two lines has a service for each, and one that is up knows its address.
  const connections = await Promise.all(
    readServices(body, location)
      .slice(0, MAX_CONNECTIONS)
      .map((service) => readAddress(router, service, wait)),
  );
  const found = connections.filter((each) => each !== undefined);
  const best = found.find(({ address }) => address !== undefined) ?? found[0];
  if (!best) throw new DcpipeError("PROTOCOL", "the router has no service that opens ports");
  return best;
}

/** The services of a description that can open ports, the best first; only places at the host that it comes from. */
export function readServices(description: string, location: URL): Service[] {
  const base = placeAt(location.hostname, textOf(description, "URLBase") ?? "") ?? location;
  const services = elementsOf(description, "service", MAX_SERVICES).flatMap((each) => {
    const type = textOf(each, "serviceType") ?? "";
    const path = textOf(each, "controlURL") ?? "";
    const control = SERVICE_TYPES.includes(type) ? placeAt(location.hostname, path, base) : undefined;
    return control ? [{ type, control }] : [];
  });
  return services.sort((a, b) => SERVICE_TYPES.indexOf(a.type) - SERVICE_TYPES.indexOf(b.type));
}

/** Undefined when the service does not work. */
async function readAddress(router: Router, service: Service, wait: Wait): Promise<Connection | undefined> {
  const { fault, xml } = await call(router, service, "GetExternalIPAddress", {}, wait).catch(() => BROKEN);
  if (fault !== undefined) return undefined;
  const address = textOf(xml, "NewExternalIPAddress") ?? "";
  return { service, address: isIPv4(address) && address !== "0.0.0.0" ? address : undefined };
}

function createClient(router: Router, first: Connection): MappingClient {
  let { service, address } = first;
  /** Ports outside that are ours, or may be. */
  const ours = new Set<number>();
  return {
    protocol: "upnp",
    address,
    map: async (request, wait) => {
      try {
        return await open(request, wait);
      } catch (error) {
        if ((error instanceof DcpipeError && error.code === "REFUSED") || wait.signal.aborted) throw error;
        // A router that has started anew has its services at another port.
        ({ service, address } = await findConnection(router, wait));
        return await open(request, wait);
      }
    },
    unmap: async (wait) => {
      await Promise.all(
        [...ours].map((external) => call(router, service, "DeletePortMapping", key(external), wait)),
      );
    },
  };

  async function open({ port, external, lifetime }: MapRequest, wait: Wait): Promise<Grant> {
    let wanted = external;
    for (let tries = 1; ; tries++) {
      const isTaken = await isOthers(wanted, port, wait);
      const fault = isTaken ? CONFLICT[0] : await add(wanted, port, lifetime, wait);
      if (fault === undefined) return { port: wanted, address, lifetime, hasRestarted: false };
      if (!CONFLICT.includes(fault) || tries === MAX_PORTS)
        throw new DcpipeError("REFUSED", `the router refuses by UPnP (${fault})`);
      ours.delete(wanted);
      wanted = randomInt(FIRST_DYNAMIC, BEHIND_DYNAMIC);
    }
  }

  /**
   * Whether the port is another host's, or another program's of this one. A router of version 1 gives the latter away without
   * asking (AddPortMapping replaces what the same host has), and some give the former. When it cannot say, the port is tried.
   */
  async function isOthers(external: number, port: number, wait: Wait): Promise<boolean> {
    const { fault, xml } = await call(
      router,
      service,
      "GetSpecificPortMappingEntry",
      key(external),
      wait,
    ).catch(() => BROKEN);
    if (fault !== undefined) return false;
    return (
      textOf(xml, "NewInternalClient") !== router.local || textOf(xml, "NewInternalPort") !== String(port)
    );
  }

  /** The fault, undefined for none. */
  async function add(
    external: number,
    port: number,
    lifetime: number,
    wait: Wait,
  ): Promise<number | undefined> {
    const send = async (lease: number): Promise<number | undefined> => {
      const { fault } = await call(
        router,
        service,
        "AddPortMapping",
        {
          ...key(external),
          NewInternalPort: port,
          NewInternalClient: router.local,
          NewEnabled: 1,
          NewPortMappingDescription: DESCRIPTION,
          NewLeaseDuration: lease,
        },
        wait,
      );
      return fault;
    };
    const had = ours.has(external);
    // From now on: an answer that does not come says nothing.
    ours.add(external);
    let fault = await send(lifetime);
    // A mapping without an end is worse than one with it, and better than none: it is deleted when we leave, if we can.
    if (fault === ONLY_PERMANENT_LEASES || fault === INVALID_ARGS) fault = await send(0);
    if (fault !== undefined && !had) ours.delete(external);
    return fault;
  }
}

/** What a mapping is named by, in the order of the specification. */
function key(external: number): Record<string, string | number> {
  return { NewRemoteHost: "", NewExternalPort: external, NewProtocol: "UDP" };
}

interface Outcome {
  /** Undefined for success. */
  readonly fault: number | undefined;
  readonly xml: string;
}

const BROKEN: Outcome = { fault: 0, xml: "" };

/** One action of a service (UPnP Device Architecture 1.1, section 3.2). Arguments are our own, and need no escapes. */
async function call(
  router: Router,
  { type, control }: Service,
  action: string,
  args: Readonly<Record<string, string | number>>,
  wait: Wait,
): Promise<Outcome> {
  const list = Object.entries(args).map(([name, value]) => `<${name}>${value}</${name}>`);
  const { status, body: xml } = await exchangeHttp(
    {
      url: control,
      local: router.local,
      method: "POST",
      headers: { "content-type": 'text/xml; charset="utf-8"', soapaction: `"${type}#${action}"` },
      body:
        '<?xml version="1.0"?>\r\n' +
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" ' +
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">' +
        `<s:Body><u:${action} xmlns:u="${type}">${list.join("")}</u:${action}></s:Body></s:Envelope>\r\n`,
    },
    wait,
  );
  if (status === 200) {
    // Also what a page that asks for a password has for a status.
    if (textOf(xml, `${action}Response`) === undefined)
      throw new DcpipeError("PROTOCOL", `the router does not answer to ${action}`);
    return { fault: undefined, xml };
  }
  const code = textOf(xml, "errorCode") ?? "";
  if (!/^\d{1,4}$/.test(code)) throw new DcpipeError("PROTOCOL", `the router answers with ${status}`);
  return { fault: Number(code), xml };
}
