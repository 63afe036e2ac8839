/**
 * The networks of the lab, in the words of RFC 4787 (NAT behaviour for UDP): what each does to addresses, and what it lets
 * through. The topology is built from these descriptions, and the outcomes are reasoned from them.
 *
 * @typedef {object} Nat
 * @property {"endpoint-independent" | "address-and-port-dependent"} mapping which outer port an inner one gets (section 4.1)
 * @property {"endpoint-independent" | "address-dependent" | "address-and-port-dependent"} filtering who may answer (section 5)
 *
 * @typedef {object} Kind
 * @property {string} says one sentence for people
 * @property {Nat[] | undefined} ipv4 the NATs from the inside out, none for a public address; undefined without IPv4
 * @property {boolean} ipv6 addresses that are routed, behind a firewall that lets in only what answers
 * @property {"all" | "tcp-443" | "proxy"} out what may leave: anything, TCP to port 443, or only what a proxy on the router carries
 * @property {boolean} opensPorts the router opens ports on request (PCP, NAT-PMP, UPnP IGD)
 */

/** @type {Nat} */
const FULL_CONE = { mapping: "endpoint-independent", filtering: "endpoint-independent" };
/** @type {Nat} */
const ADDRESS_RESTRICTED = { mapping: "endpoint-independent", filtering: "address-dependent" };
/** @type {Nat} */
const PORT_RESTRICTED = { mapping: "endpoint-independent", filtering: "address-and-port-dependent" };
/** @type {Nat} */
const SYMMETRIC = { mapping: "address-and-port-dependent", filtering: "address-and-port-dependent" };

/** @returns {Kind} */
function kind(says, ipv4, { ipv6 = false, out = "all", opensPorts = false } = {}) {
  return { says, ipv4, ipv6, out, opensPorts };
}

/** @type {Readonly<Record<string, Kind>>} */
export const KINDS = {
  open: kind("a public address, no NAT and no firewall", []),
  "full-cone": kind("a NAT with endpoint-independent mapping and endpoint-independent filtering", [
    FULL_CONE,
  ]),
  "address-restricted": kind("a NAT with endpoint-independent mapping and address-dependent filtering", [
    ADDRESS_RESTRICTED,
  ]),
  "port-restricted": kind(
    "a NAT with endpoint-independent mapping and address-and-port-dependent filtering: most home routers",
    [PORT_RESTRICTED],
  ),
  symmetric: kind("a NAT with address-and-port-dependent mapping and filtering: many a company's", [
    SYMMETRIC,
  ]),
  cgn: kind("a port-restricted home router behind a port-restricted carrier-grade NAT (RFC 6888)", [
    PORT_RESTRICTED,
    PORT_RESTRICTED,
  ]),
  "cgn-symmetric": kind(
    "a port-restricted home router behind a symmetric carrier-grade NAT: mobile networks",
    [PORT_RESTRICTED, SYMMETRIC],
  ),
  "udp-blocked": kind("a NAT that lets out TCP to port 443 and nothing else", [PORT_RESTRICTED], {
    out: "tcp-443",
  }),
  "proxy-only": kind("no way out but an HTTP proxy, which allows CONNECT to port 443", [PORT_RESTRICTED], {
    out: "proxy",
  }),
  "ipv6-only": kind("IPv6 behind a firewall that lets in what answers, and no IPv4 address", undefined, {
    ipv6: true,
  }),
  "dual-stack": kind("port-restricted for IPv4, and IPv6 as in ipv6-only", [PORT_RESTRICTED], { ipv6: true }),
  upnp: kind("port-restricted, and the router opens ports by UPnP IGD, NAT-PMP and PCP", [PORT_RESTRICTED], {
    opensPorts: true,
  }),
};

/**
 * Two hosts behind one router.
 *
 * @typedef {object} Pair
 * @property {string} says
 * @property {Nat} nat
 * @property {boolean} separate each host has a subnet of its own, and the router lets nothing pass between them but by its outer address
 */

/** @type {Readonly<Record<string, Pair>>} */
export const PAIRS = {
  "same-lan": {
    says: "two hosts on one network behind one port-restricted NAT",
    nat: PORT_RESTRICTED,
    separate: false,
  },
  hairpin: {
    says: "two hosts on separate subnets behind one port-restricted NAT, which reach each other only by its outer address (hairpinning, RFC 4787, section 6)",
    nat: PORT_RESTRICTED,
    separate: true,
  },
};
