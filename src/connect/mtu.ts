/**
 * Which packet size comes next (docs/protocol.md, section 3.2). Nothing below finds the path MTU: libjuice forbids fragments, and usrsctp
 * hears of no "fragmentation needed", so a packet that is too large is sent again until the association is given up. Therefore each
 * channel begins with a HELLO as long as its packets will be, and what becomes of that tells the size of the next one.
 *
 *   control   1280 --no HELLO--> 1200 --> 1000 --> 640 --> 1280: then it was not the size
 *   bulk      1500 --no READY--> that of the control channel, or one step below --> ...
 *             1500 --stands, on a short path--> one of 4144 beside it --stands--> 4144 from now on
 */

/** What libjuice and libdatachannel take: both receive into 4,096 bytes, so 4,155 passes and 4,156 does not. Less by a cipher's difference. */
export const JUMBO_MTU = 4144;
/** The MTU of Ethernet; used for bulk once a packet of that size has been seen to pass both ways. */
export const ETHERNET_MTU = 1500;
/** What every IPv6 path must carry (RFC 8200, section 5). */
export const SAFE_MTU = 1280;
/**
 * Below SAFE_MTU there are tunnels in tunnels. The last one is near the least with which usrsctp makes an association at all: its
 * handshake is not divided (620 does, 600 does not).
 */
const STEPS = [ETHERNET_MTU, SAFE_MTU, 1200, 1000, 640] as const;
/**
 * Round-trip time, in ms, up to which larger packets than Ethernet's are tried: cables and this machine itself. Farther away nothing
 * carries them, and the processor, to which they matter, is not the limit.
 */
const SHORT_MS = 5;
/** A size that has passed before is doubted only after so many failures in a row: losses look the same. */
const MAX_DOUBTS = 2;

/** What one session knows of its path. */
export class PathMtu {
  #control: number = SAFE_MTU;
  #bulk: number = ETHERNET_MTU;
  /** The largest at which a bulk channel has stood. */
  #proven = 0;
  #doubts = 0;
  #jumboTried = false;

  /** MTU for the next control channel. */
  get control(): number {
    return this.#control;
  }

  /** MTU for the next bulk or datagram channel. */
  get bulk(): number {
    return this.#bulk;
  }

  /** A control channel of that MTU opened, and no HELLO came. */
  controlFailed(mtu: number): void {
    if (mtu === this.#control) this.#control = below(mtu) ?? SAFE_MTU;
  }

  /** A channel of that MTU stands. */
  bulkStood(mtu: number): void {
    this.#proven = Math.max(this.#proven, mtu);
    this.#bulk = Math.max(this.#bulk, mtu);
    this.#doubts = 0;
  }

  /**
   * A channel of that MTU opened, and no READY came, while the session was alive. False when that need not be the size's fault: then the
   * next one should wait.
   */
  bulkFailed(mtu: number): boolean {
    // One of several, or the larger one beside those that stand.
    if (mtu > this.#bulk) return true;
    if (mtu <= Math.max(this.#proven, this.#control) && ++this.#doubts < MAX_DOUBTS) return false;
    this.#doubts = 0;
    const next = below(mtu);
    // From the control channel's size up to SAFE_MTU nothing has passed.
    const capped = next !== undefined && next <= SAFE_MTU ? Math.min(next, this.#control) : next;
    this.#bulk = capped ?? ETHERNET_MTU;
    this.#proven = Math.min(this.#proven, this.#bulk);
    return next !== undefined;
  }

  /** The size to try beside the channels that stand, at a round-trip time of `rtt` ms; undefined for none. Once for each path. */
  larger(rtt: number): number | undefined {
    if (this.#jumboTried || rtt > SHORT_MS || this.#bulk !== ETHERNET_MTU || this.#proven < ETHERNET_MTU)
      return undefined;
    this.#jumboTried = true;
    return JUMBO_MTU;
  }

  /** The path is another one: bulk begins anew. What the control channel had was good for it, and costs little. */
  renew(): void {
    this.#bulk = ETHERNET_MTU;
    this.#proven = 0;
    this.#doubts = 0;
    this.#jumboTried = false;
  }
}

function below(mtu: number): number | undefined {
  return STEPS.find((step) => step < mtu);
}
