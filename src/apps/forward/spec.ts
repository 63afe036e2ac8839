/**
 * What people write to say what is forwarded: TARGETs, and the arguments of -L, -R and -D, which are those of ssh. Everything here
 * throws USAGE with the option, the text, and the form it should have.
 *
 *   TARGET    [host:]port[/udp]                                 unix:/path
 *   -L, -R    [bind:]port:host:hostport[/udp]                   either end may be /path or unix:/path
 *   -D        [bind:]port                                       /path or unix:/path
 *
 * A port may be a range, 8000-8010. IPv6 addresses stand in brackets. A path that listens ends at the first colon, one that is
 * dialled at the end of the text, so a suffix behind it would be a part of it.
 */
import { DcpipeError } from "../../errors.ts";
import { MAX_OFFERS, type Place, type Protocol } from "../../wire/forward.ts";
import type { Target } from "../../wire/header.ts";
import { formatHostPort, isHost, isPath, readPorts, splitProtocol, type Ports } from "./host.ts";

/** Something that the other side may reach. */
export interface Offer {
  readonly protocol: Protocol;
  /** A host or a unix socket. */
  readonly target: Target;
}

export interface Forward {
  readonly protocol: Protocol;
  /** The address is "" for loopback and "*" for all addresses of the machine; port 0 picks one. */
  readonly place: Place;
  /** A host or a unix socket. */
  readonly target: Target;
}

const TARGET_FORM = "PORT or HOST:PORT, with /udp behind it for UDP, or unix:/PATH";
const FORWARD_FORM = "[bind:]port:host:hostport";
const DYNAMIC_FORM = "[bind:]port";

/** Makes the error for one argument; `why` says what is wrong when the form alone would not. */
type Complain = (why?: string) => DcpipeError;

function complaint(option: string, text: string, form: string): Complain {
  return (why) =>
    new DcpipeError(
      "USAGE",
      `${option} ${text === "" ? '""' : text}: ${why === undefined ? "" : `${why}; `}write ${form}`,
    );
}

/** A TARGET: one offer for each port of it. Throws USAGE. */
export function parseTarget(text: string): Offer[] {
  const complain = complaint("TARGET", text, TARGET_FORM);
  if (text.startsWith("unix:"))
    return [{ protocol: "tcp", target: { type: "unix", path: readPath(text, complain) } }];
  const { rest, protocol = "tcp" } = splitProtocol(text);
  const [first = "", second, ...more] = fields(rest);
  if (more.length > 0) throw complain(BRACKETS);
  const host = second === undefined ? "localhost" : readHost(first, complain);
  const ports = readRange(second ?? first, 1, complain);
  return each(ports).map((port) => ({ protocol, target: { type: "host", host, port } }));
}

/** Whether parseTarget takes it. A code, a link, a token or a name has no port at its end, so PEER is none of these. */
export function looksLikeTarget(text: string): boolean {
  try {
    parseTarget(text);
    return true;
  } catch {
    return false;
  }
}

/** The argument of -L or -R: one forward for each port of it. Throws USAGE. */
export function parseForward(option: "-L" | "-R", text: string): Forward[] {
  const complain = complaint(option, text, FORWARD_FORM);
  const [listen, dial] = halves(text, complain);
  if (startsPath(dial)) {
    const target: Target = { type: "unix", path: readPath(dial, complain) };
    return [{ protocol: "tcp", place: readPlace(listen, complain), target }];
  }
  const { rest, protocol = "tcp" } = splitProtocol(dial);
  const [hostText = "", portText = ""] = fields(rest);
  const host = readHost(hostText, complain);
  const targets = each(readRange(portText, 1, complain));
  if (startsPath(listen) && protocol === "udp") throw complain("a unix socket takes connections, not UDP");
  const places = readPlaces(listen, complain);
  if (places.length !== targets.length) throw complain("both ends need equally many ports");
  return places.map((place, i) => ({
    protocol,
    place,
    target: { type: "host", host, port: targets[i] ?? 0 },
  }));
}

/** The argument of -D: where the SOCKS proxy listens. Throws USAGE. */
export function parseDynamic(text: string): Place {
  return readPlace(text, complaint("-D", text, DYNAMIC_FORM));
}

/** `localhost:5432`, `[::1]:80`, `host:53/udp`, `unix:/path`: for host and unix socket what parseTarget reads. */
export function formatTarget(target: Target, protocol: Protocol): string {
  if (target.type === "unix") return `unix:${target.path}`;
  if (target.type === "listener") return `listener ${target.id}`;
  return formatHostPort(target.host, target.port) + suffix(protocol);
}

/** `localhost:8080` for loopback, `*:8080` for all addresses, `[::1]:53/udp`, `unix:/path`. */
export function formatPlace(place: Place, protocol: Protocol = "tcp"): string {
  if (place.type === "unix") return `unix:${place.path}`;
  return formatHostPort(place.address === "" ? "localhost" : place.address, place.port) + suffix(protocol);
}

function suffix(protocol: Protocol): string {
  return protocol === "udp" ? "/udp" : "";
}

const BRACKETS = "an IPv6 address stands in brackets, [::1]";

/** What stands between colons, brackets kept whole. */
function fields(text: string): string[] {
  return text.split(/:(?![^[]*\])/);
}

/** Where to listen and what to dial. */
function halves(text: string, complain: Complain): [listen: string, dial: string] {
  let middle: number;
  if (startsPath(text)) {
    middle = text.indexOf(":", text.indexOf("/"));
  } else {
    middle = text.search(/:(unix:)?\//);
    // No path: the last two fields are the host and its port.
    if (middle < 0) {
      const parts = fields(text);
      if (parts.length > 4) throw complain(BRACKETS);
      middle = parts.slice(0, -2).join(":").length;
      if (parts.length < 3) throw complain();
    }
  }
  const dial = text.slice(middle + 1);
  if (middle < 0 || (!startsPath(dial) && fields(dial).length !== 2)) throw complain();
  return [text.slice(0, middle), dial];
}

function startsPath(text: string): boolean {
  return text.startsWith("/") || text.startsWith("unix:");
}

function readPath(text: string, complain: Complain): string {
  const path = text.startsWith("unix:") ? text.slice(5) : text;
  if (!isPath(path)) throw complain("the path of a unix socket begins with / and has at most 255 bytes");
  return path;
}

function readHost(text: string, complain: Complain): string {
  const bare = text.startsWith("[") && text.endsWith("]") ? text.slice(1, -1) : text;
  if (!isHost(bare)) throw complain(bare === "" ? undefined : `${bare} is no host`);
  return bare;
}

function readRange(text: string, min: 0 | 1, complain: Complain): Ports {
  const ports = readPorts(text);
  if (!ports && !/^[\d-]+$/.test(text)) throw complain();
  // Port 0 picks one, which a range cannot mean.
  const least = ports?.from === ports?.to ? min : 1;
  if (!ports || ports.from < least) throw complain(`ports are ${least} to 65535, a range goes upwards`);
  if (ports.to - ports.from >= MAX_OFFERS) throw complain(`a range has at most ${MAX_OFFERS} ports`);
  return ports;
}

function each({ from, to }: Ports): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

function readPlaces(text: string, complain: Complain): Place[] {
  if (startsPath(text)) return [{ type: "unix", path: readPath(text, complain) }];
  const parts = fields(text);
  if (parts.length > 2) throw complain(BRACKETS);
  const address = parts.length === 1 ? "" : readBind(parts[0] ?? "", complain);
  return each(readRange(parts.at(-1) ?? "", 0, complain)).map((port) => ({ type: "host", address, port }));
}

function readPlace(text: string, complain: Complain): Place {
  const [place, ...more] = readPlaces(text, complain);
  if (!place || more.length > 0) throw complain("one port, not a range");
  return place;
}

/** As in ssh: nothing or `*` before the port's colon is every address, `localhost` the loopback ones. */
function readBind(text: string, complain: Complain): string {
  if (text === "" || text === "*") return "*";
  return text.toLowerCase() === "localhost" ? "" : readHost(text, complain);
}
