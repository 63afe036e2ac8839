/**
 * Which targets the other side may reach: the ones offered, and what `--allow` names. Everything else is refused.
 *
 *   HOST:PORT[/udp|/tcp]     HOST: a name, a glob (*.example.com, 10.0.0.*), an address, a network (10.0.0.0/8, [fd00::/8]), or *
 *                            PORT: a number, a range, or *
 *   unix:/path/*             a glob of paths; neither * nor ? stands for a slash
 *
 * Names are checked as they were asked for and by the addresses they stand for. Whoever runs a zone says what its names resolve
 * to: so a rule that names names leads to this machine itself, to its links, or to many machines at once only if another rule
 * names such an address (DNS rebinding).
 */
import { DcpipeError } from "../../errors.ts";
import { parseAddress } from "../../wire/candidate.ts";
import type { Protocol } from "../../wire/forward.ts";
import { MAX_HOST, type Target } from "../../wire/header.ts";
import {
  isHost,
  plainName,
  readAddress,
  readPorts,
  splitProtocol,
  unmapped,
  type IpAddress,
} from "./host.ts";
import type { Address } from "./network.ts";
import { formatTarget, type Offer } from "./spec.ts";

interface AddressBlock {
  /** 4 or 16 bytes; only the first `bits` count. */
  readonly bytes: Uint8Array;
  readonly bits: number;
}

type HostPattern =
  | { readonly type: "any" }
  /** Matches what was asked for. */
  | { readonly type: "name"; readonly glob: string }
  /** `localhost`: the name, and the addresses 127.0.0.1 and ::1. */
  | { readonly type: "localhost" }
  /** These two match addresses, whatever name led there. */
  | { readonly type: "block"; readonly block: AddressBlock }
  | { readonly type: "address"; readonly glob: string };

interface HostRule {
  readonly type: "host";
  readonly host: HostPattern;
  readonly from: number;
  readonly to: number;
  /** Undefined for both. */
  readonly protocol: Protocol | undefined;
}

/** What one `--allow` says. */
export type Rule = HostRule | { readonly type: "unix"; readonly glob: string };

/** A name may stand for very many addresses, and each may take a connection's whole time to fail. */
export const MAX_ADDRESSES = 16;

/** What a name must not lead to unless a rule names the address: RFC 6890, and the same behind NAT64 (RFC 6052). */
const SPECIAL: readonly AddressBlock[] = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/4",
  "240.0.0.0/4",
  "::/96",
  "64:ff9b::/104",
  "64:ff9b::127.0.0.0/104",
  "64:ff9b::169.254.0.0/112",
  "64:ff9b::224.0.0.0/99",
  "fe80::/10",
  "ff00::/8",
].map((text) => {
  const block = readBlock(text);
  if (!block) throw new RangeError(`no network: ${text}`);
  return block;
});

const RULE_FORM =
  "HOST:PORT, as in db.example.com:5432, 10.0.0.0/8:22, [fd00::/8]:443 or 10.0.0.5:* for every port";

/** The argument of `--allow`. Throws USAGE. */
export function parseRule(text: string): Rule {
  const complain = (why?: string): DcpipeError =>
    new DcpipeError("USAGE", `--allow ${text === "" ? '""' : text}: ${why ?? `write ${RULE_FORM}`}`);
  // Longer than what anybody can ask for; and it bounds the work of matching.
  if (text.length > MAX_HOST) throw complain("it is too long");
  if (text.startsWith("unix:")) {
    const glob = text.slice(5);
    if (!components(glob))
      throw complain("write unix:/PATH, whole and without .., as in unix:/run/app/*.sock");
    return { type: "unix", glob };
  }
  const { rest, protocol } = splitProtocol(text);
  const match = /^(.*):([^:\]]*)$/s.exec(rest);
  const [host = "", portText = ""] = match?.slice(1) ?? [];
  const ports = portText === "*" ? { from: 1, to: 65535 } : readPorts(portText);
  if (!match) throw complain(`a port is missing; write ${RULE_FORM}`);
  if (!ports || ports.from === 0) throw complain(`the port is none; write ${RULE_FORM}`);
  const pattern = readPattern(host);
  if (!pattern) throw complain(`the host is none (IPv6 stands in brackets); write ${RULE_FORM}`);
  return { type: "host", host: pattern, ...ports, protocol };
}

function readPattern(text: string): HostPattern | undefined {
  // [fd00::1], [fd00::/8] and [fd00::]/8
  const bracketed = /^\[([^[\]]*)\](\/\d+)?$/.exec(text);
  if (!bracketed && /[:[\]]/.test(text)) return undefined;
  const host = plainName(bracketed ? `${bracketed[1] ?? ""}${bracketed[2] ?? ""}` : text);
  if (host === "*") return { type: "any" };
  if (host === "localhost") return { type: "localhost" };
  if (host.includes("/")) {
    const block = readBlock(host);
    return block && { type: "block", block };
  }
  const address = readAddress(host);
  // A zone is a matter of the machine that dials: rules are about addresses.
  if (address) return host.includes("%") ? undefined : { type: "block", block: whole(address) };
  if (/^[\d.*?]*\d[\d.*?]*$/.test(host) || /^[\da-f:.*?]*:[\da-f:.*?]*$/.test(host))
    // 127.1 is an address to some programs and a name to others: it would never match.
    return /[*?]/.test(host) ? { type: "address", glob: host } : undefined;
  return /^[\p{L}\p{N}\p{M}_.*?-]+$/u.test(host) ? { type: "name", glob: host } : undefined;
}

function whole({ bytes }: IpAddress): AddressBlock {
  return { bytes, bits: bytes.length * 8 };
}

/** `10.0.0.0/8`; that of IPv4-mapped addresses as IPv4. */
function readBlock(text: string): AddressBlock | undefined {
  const match = /^([^/]*)\/(\d{1,3})$/.exec(text);
  const parsed = match && parseAddress(match[1] ?? "");
  const bits = Number(match?.[2]);
  if (!parsed || bits > parsed.length * 8) return undefined;
  const bytes = bits < 96 ? parsed : unmapped(parsed);
  return { bytes, bits: bits - (parsed.length - bytes.length) * 8 };
}

function within(address: Uint8Array, { bytes, bits }: AddressBlock): boolean {
  if (address.length !== bytes.length) return false;
  for (let at = 0; at * 8 < bits; at++) {
    const left = bits - at * 8;
    const mask = left >= 8 ? 0xff : 0xff & (0xff << (8 - left));
    if (((address[at] ?? 0) & mask) !== ((bytes[at] ?? 0) & mask)) return false;
  }
  return true;
}

function isLoopback({ text }: IpAddress): boolean {
  return text === "127.0.0.1" || text === "::1";
}

/**
 * Whether `pattern` stands for all of `text`. On a mismatch only the last `*` is tried again, so that it takes at most the product of
 * both lengths, which are limited, however many there are.
 */
function matches(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  let star = -1;
  let taken = 0;
  while (t < text.length) {
    // The star first: a star in the text is an ordinary character, and must not be taken for the pattern's.
    if (pattern[p] === "*") {
      star = p++;
      taken = t;
    } else if (p < pattern.length && (pattern[p] === "?" || pattern[p] === text[t])) {
      p++;
      t++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++taken;
    } else {
      return false;
    }
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}

/** The components of an absolute path in its plain form, or undefined: with `..`, `.` or `//` in it a path is another than it looks. */
function components(path: string): string[] | undefined {
  const [root, ...rest] = path.split("/");
  const plain = rest.length > 0 && rest.every((part) => part !== "" && part !== "." && part !== "..");
  return root === "" && plain && !path.includes("\0") ? rest : undefined;
}

function matchesPath(glob: string, path: string): boolean {
  const patterns = components(glob);
  const parts = components(path);
  if (patterns?.length !== parts?.length) return false;
  return !!parts && parts.every((part, i) => matches(patterns?.[i] ?? "", part));
}

/** What may be part of a command that we propose to people: peers choose names, and people paste commands. */
const HARMLESS_PATH = /^[\p{L}\p{N}\p{M}_./@+,-]+$/u;

function refused(asked: string, allow: string | undefined, why = "is not offered here"): DcpipeError {
  const hint = allow === undefined || !isRule(allow) ? "" : `; --allow ${allow} would allow it`;
  return new DcpipeError("REFUSED", `${asked} ${why}${hint}`);
}

function isRule(text: string): boolean {
  try {
    parseRule(text);
    return true;
  } catch {
    return false;
  }
}

/** Which host it is for the comparison with offers: loopback by whatever name is one. */
function hostKey(host: string): string {
  const name = plainName(host);
  const address = readAddress(name);
  if (address) return isLoopback(address) ? "localhost" : address.text;
  return name;
}

function offerKey(protocol: Protocol, target: Target): string {
  if (target.type === "host") return `${protocol} ${hostKey(target.host)} ${target.port}`;
  return target.type === "unix" ? `${protocol} ${target.path}` : "";
}

export class Access {
  readonly #offers: ReadonlyMap<string, Target>;
  readonly #rules: readonly Rule[];
  readonly #resolve: (host: string) => Promise<readonly string[]>;

  constructor(options: {
    readonly offers: readonly Offer[];
    readonly rules: readonly Rule[];
    /** The IP addresses of a name. Rejects with NAME_UNKNOWN. */
    readonly resolve: (host: string) => Promise<readonly string[]>;
  }) {
    this.#offers = new Map(
      options.offers.map(({ protocol, target }) => [offerKey(protocol, target), target]),
    );
    this.#rules = options.rules;
    this.#resolve = options.resolve;
  }

  /**
   * Where to dial for what the other side asks, in this order. Rejects with REFUSED, in words for both sides, or NAME_UNKNOWN. What
   * is returned was checked, and is dialled: an address is not looked up again, so there is nothing to check at the connect.
   */
  async check(protocol: Protocol, target: Target): Promise<readonly Address[]> {
    if (target.type === "listener") throw refused(formatTarget(target, protocol), undefined);
    if (target.type === "unix") return [this.#checkPath(protocol, target)];
    // Names that no resolver takes are not shown to it, nor put into a command that somebody may paste.
    if (!isHost(target.host)) throw refused("what was asked for", undefined, "is no host name");
    const offered = this.#offers.get(offerKey(protocol, target));
    if (offered?.type === "host") {
      // Whatever its name stands for: who offered it named it, and it is that name which is looked up.
      return dialable(await this.#addresses(offered.host), target.port);
    }
    return dialable(await this.#checkHost(protocol, target), target.port);
  }

  #checkPath(protocol: Protocol, target: Target & { type: "unix" }): Address {
    const { path } = target;
    const allowed =
      this.#offers.has(offerKey(protocol, target)) ||
      (protocol === "tcp" &&
        this.#rules.some((rule) => rule.type === "unix" && matchesPath(rule.glob, path)));
    if (allowed) return { type: "unix", path };
    const asked = formatTarget(target, protocol);
    const harmless = protocol === "tcp" && HARMLESS_PATH.test(path);
    throw refused(asked, harmless ? asked : undefined);
  }

  async #checkHost(protocol: Protocol, target: Target & { type: "host" }): Promise<readonly IpAddress[]> {
    const { port } = target;
    const asked = formatTarget(target, protocol);
    const name = plainName(target.host);
    const literal = readAddress(name);
    const rules = this.#rules.filter(
      (rule): rule is HostRule =>
        rule.type === "host" &&
        (rule.protocol ?? protocol) === protocol &&
        rule.from <= port &&
        port <= rule.to,
    );
    // Nothing is looked up for a name that is refused whatever it stands for: lookups can be seen, and their answers tell things.
    if (!literal && !rules.some(({ host }) => mayMatch(host, name))) throw refused(asked, asked);
    const addresses = literal ? [literal] : await this.#addresses(target.host);
    const allowed = addresses.filter((address) => rules.some(({ host }) => allows(host, name, address)));
    const [first] = addresses;
    if (allowed.length > 0 || !first) return allowed;
    // Rules have no zones.
    const host = first.text.replace(/%.*/, "");
    const hint = formatTarget({ type: "host", host, port }, protocol);
    if (literal) throw refused(asked, hint);
    const list = addresses.slice(0, 3).map(({ text }) => text);
    if (addresses.length > list.length) list.push("others");
    throw refused(asked, hint, `is ${list.join(", ")} here, which no rule allows`);
  }

  /** The addresses of a host, each once, at least one. */
  async #addresses(host: string): Promise<readonly IpAddress[]> {
    const literal = readAddress(plainName(host));
    if (literal) return [literal];
    const found = new Map<string, IpAddress>();
    for (const text of await this.#resolve(host)) {
      const address = readAddress(text);
      if (address && found.size < MAX_ADDRESSES) found.set(address.text, address);
    }
    if (found.size === 0) throw new DcpipeError("NAME_UNKNOWN", `${host} stands for no address here`);
    return [...found.values()];
  }
}

function dialable(addresses: readonly IpAddress[], port: number): Address[] {
  return addresses.map(({ text }) => ({ type: "host", address: text, port }));
}

/** Whether the rule may allow some address of that name. */
function mayMatch(host: HostPattern, name: string): boolean {
  if (host.type === "name") return matches(host.glob, name);
  return host.type !== "localhost" || name === "localhost";
}

function allows(host: HostPattern, name: string, address: IpAddress): boolean {
  switch (host.type) {
    case "any":
      return true;
    case "name":
      return matches(host.glob, name) && !SPECIAL.some((block) => within(address.bytes, block));
    case "localhost":
      return isLoopback(address);
    case "block":
      return within(address.bytes, host.block);
    case "address":
      return matches(host.glob, address.text);
  }
}
