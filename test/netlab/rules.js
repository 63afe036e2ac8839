/** nftables rulesets: what a router of the lab does to packets. */

/** Outer ports of a NAT after each of its boots but the first: ranges of this size, one after the other. */
const PORTS = 5000;
const FIRST_PORT = 10_000;
const RANGES = 10;

/**
 * @typedef {object} Routing
 * @property {import("./kinds.js").Nat | undefined} nat undefined without IPv4
 * @property {string | undefined} outer the outer IPv4 address
 * @property {"all" | "tcp-443" | "proxy"} out
 * @property {boolean} hairpin
 * @property {number} boots how often it has booted before
 * @property {number} udpTimeout seconds for which a mapping without traffic lives
 * @property {boolean} told senders of what is too large are told so by ICMP
 */

/**
 * The ruleset of a router whose outer interface is "wan", and whose inner ones begin with "lan".
 *
 * Linux by itself is a port-restricted NAT: it keeps an inner port's outer one whatever the place (mapping), and lets in what
 * answers (filtering). For more than that the outer ports in use are learnt from what goes out.
 *
 * @param {Routing} routing
 */
export function rules(routing) {
  return `
    ${afresh("ip nat", "inet filter")}
    ${routing.nat ? translation(routing.nat, routing) : ""}
    table inet filter {
      chain inp {
        type filter hook input priority filter;
        ct state established,related accept
        meta l4proto { icmp, ipv6-icmp } accept
        # An early packet must not become a conversation of the router's own, which would take the port of the one to come.
        iifname wan drop
        ${routing.outer === undefined ? "" : `ip daddr ${routing.outer} drop`}
      }
      chain outp {
        type filter hook output priority filter;
        ${routing.told ? "" : UNTOLD}
      }
      chain forw {
        type filter hook forward priority filter; policy drop;
        ${routing.told ? "" : UNTOLD}
        ct state established,related accept
        ct status dnat accept
        ${leaving(routing)}
      }
    }
  `;
}

/** Removes these tables, whether they are there or not; those of others stay. */
export function afresh(...tables) {
  return tables.map((table) => `table ${table}; delete table ${table};`).join("\n    ");
}

/** Drops the messages by which path MTUs are found (RFC 1191, RFC 8201). */
export const UNTOLD = `
        icmp type destination-unreachable icmp code frag-needed drop
        icmpv6 type packet-too-big drop`;

function leaving({ out }) {
  if (out === "proxy") return "";
  if (out === "tcp-443") return 'iifname "lan*" oifname wan tcp dport 443 accept';
  return 'iifname "lan*" oifname wan accept';
}

function translation({ mapping, filtering }, { hairpin, outer, boots, udpTimeout }) {
  const random = mapping === "address-and-port-dependent";
  const restricted = filtering === "address-dependent";
  const learns = hairpin || filtering !== "address-and-port-dependent";
  const incoming = [
    ...(learns && !hairpin
      ? [`iifname wan dnat ip to udp dport ${restricted ? ". ip saddr" : ""} map @mapped`]
      : []),
    ...(hairpin ? [`iifname "lan*" ip daddr ${outer} dnat ip to udp dport map @mapped`] : []),
  ];
  const inner = "ct original ip saddr . ct original proto-src";
  const key = `ct reply proto-dst ${restricted ? ". ip daddr" : ""}`;
  const recording = `oifname wan meta l4proto udp ct direction original update @mapped { ${key} : ${inner} }`;
  const table = `
      map mapped {
        type inet_service ${restricted ? ". ipv4_addr" : ""} : ipv4_addr . inet_service
        flags dynamic, timeout
        timeout ${udpTimeout}s
      }
      chain learn {
        type filter hook postrouting priority srcnat + 50;
        ${recording}
      }
      chain pre {
        type nat hook prerouting priority dstnat;
        ${incoming.join("\n        ")}
      }`;
  return `
    table ip nat {
      ${learns ? table : ""}
      chain post {
        type nat hook postrouting priority srcnat;
        ${hairpin ? `iifname "lan*" oifname "lan*" ct status dnat snat to ${outer}` : ""}
        oifname wan meta l4proto { tcp, udp } masquerade ${random ? "fully-random" : ports(boots)}
        oifname wan masquerade
      }
    }`;
}

/** A router that has booted gives other ports than before; in its first life it keeps the inner ones, as most do. */
function ports(boots) {
  if (boots === 0) return "";
  const first = FIRST_PORT + ((boots - 1) % RANGES) * PORTS;
  return `to :${first}-${first + PORTS - 1}`;
}

/** The internet: it delivers to public addresses, and what is sent elsewhere is never heard of again. */
export function internetRules({ told }) {
  return `
    ${afresh("inet filter")}
    table inet filter {
      chain forw {
        type filter hook forward priority filter;
        oifname lo drop
      }
      chain outp {
        type filter hook output priority filter;
        ${told ? "" : UNTOLD}
      }
    }
  `;
}

/** Counts the bytes that go from home to home, to and through the TURN server, and to the rendezvous. */
export function countingRules([first, first6], [second, second6]) {
  return `
    table inet count {
      counter direct { }
      counter turn { }
      counter relay { }
      chain forw {
        type filter hook forward priority filter;
        meta l4proto udp counter name direct
      }
      chain inp {
        type filter hook input priority filter;
        ip daddr ${second} counter name turn
        ip6 daddr ${second6} counter name turn
        ip daddr ${first} tcp dport 443 counter name relay
        ip6 daddr ${first6} tcp dport 443 counter name relay
      }
    }
  `;
}
