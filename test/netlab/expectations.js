/**
 * What theory says of two networks: whether packets can go directly between them, through TURN, through the rendezvous, or not at all.
 * Nothing in here was learnt from watching dcpipe.
 *
 * A direct path needs one packet that gets in. The side that it reaches answers to where it came from, and that passes: the sender's
 * NAT has just let this packet out to the same place. Addresses are exchanged, so both sides send to what the other one has told. So
 * two networks can meet directly when either of them can be reached by the other, which is (RFC 4787, sections 4 and 5):
 *
 *   without NAT                            always
 *   with address-and-port-dependent        never: the port that STUN saw is open to the STUN server alone
 *     mapping
 *   with endpoint-independent mapping and filtering that is
 *     endpoint-independent                 always
 *     address-dependent                    always: we have sent to the other's address, whatever the port
 *     address-and-port-dependent           if we have sent to the very port that the packet comes from, which is the one we were told
 *                                          unless the other's mapping depends on the destination
 *
 * Several NATs in a row map as the worst of them, and filter as the strictest.
 */
import { KINDS, PAIRS } from "./kinds.js";

/** @typedef {"direct" | "turn" | "relay" | "none"} Way */

/** What this dcpipe can do. @typedef {"mapping" | "turn-streams" | "relay"} Capability */
export const CAPABILITIES = {
  mapping: "asks routers for ports",
  "turn-streams": "TURN over TCP and TLS, through proxies where there are any",
  relay: "a sealed relay through the rendezvous",
};

/**
 * How the sides of a cell meet, and with what help.
 * @typedef {"paste" | "paste-turn" | "code"} Means
 */
export const MEANS = {
  paste: "tokens by files; STUN",
  "paste-turn": "tokens by files; STUN and a TURN server on both sides",
  code: "a code through the rendezvous at https://rendezvous.test/, which relays where nothing else works; STUN, no TURN",
};

/**
 * The way that the packets go in the end.
 * @param {string} one a kind of network, or the name of a pair
 * @param {string} other
 * @param {Means} means
 * @param {Set<string>} [capabilities]
 * @returns {Way}
 */
export function expectedWay(one, other, means, capabilities = new Set(Object.keys(CAPABILITIES))) {
  // Hosts of one network reach each other as they are; a hairpin has endpoint-independent mappings for both.
  if (one in PAIRS) return "direct";
  const [a, b] = [KINDS[one], KINDS[other]];
  if (direct(a, b, capabilities)) return "direct";
  if (means === "paste-turn" && throughTurn(a, b, capabilities)) return "turn";
  // Whatever lets out TCP to port 443, by a proxy or not, lets it out to the rendezvous.
  if (means === "code" && capabilities.has("relay")) return "relay";
  return "none";
}

function direct(a, b, capabilities) {
  if (!sendsUdp(a) || !sendsUdp(b)) return false;
  // Both firewalls let in what answers, addresses are what they are, and both sides send.
  if (a.ipv6 && b.ipv6) return true;
  if (!a.ipv4 || !b.ipv4) return false;
  return reachable(a, b, capabilities) || reachable(b, a, capabilities);
}

/** Whether a packet of the other one's, to where we were seen, gets in over IPv4. */
function reachable({ ipv4, opensPorts }, other, capabilities) {
  if (ipv4.length === 0) return true;
  if (opensPorts && capabilities.has("mapping")) return true;
  if (dependsOnDestination(ipv4)) return false;
  const strictest = (filtering) => ipv4.some((nat) => nat.filtering === filtering);
  return !strictest("address-and-port-dependent") || !dependsOnDestination(other.ipv4);
}

function dependsOnDestination(nats) {
  return nats.some(({ mapping }) => mapping === "address-and-port-dependent");
}

/**
 * Each side has a relayed address if it gets to the TURN server, by UDP or by TLS on port 443. The addresses are public IPv4 ones,
 * and the server sends from one to the other; so both sides need one, or the other must be able to call it.
 */
function throughTurn(a, b, capabilities) {
  const relayed = (kind) => sendsUdp(kind) || capabilities.has("turn-streams");
  const calls = (kind) => sendsUdp(kind) && kind.ipv4 !== undefined;
  return (relayed(a) && (relayed(b) || calls(b))) || (relayed(b) && calls(a));
}

export function sendsUdp({ out }) {
  return out === "all";
}

/** How both commands end, given the way: exit status, and error codes of which each side has one (docs/dcpipe.1.md). @param {Way} way */
export function expectedEnd(way) {
  return way === "none"
    ? { status: 3, errors: ["TIMEOUT", "ICE_FAILED"] }
    : { status: 0, errors: [undefined] };
}
