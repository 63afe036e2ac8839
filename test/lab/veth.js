/**
 * Two network namespaces joined by a cable: a veth pair, no delay, no loss, as fast as the CPU.
 *
 *   a: eth0 10.78.1.1/24 ------------ eth0 10.78.1.2/24 :b
 */
import { PREFIX, createNamespaces, removeNamespace, run, undoOnExit, untilRunning } from "./exec.js";

const ADDRESS_A = "10.78.1.1";
const ADDRESS_B = "10.78.1.2";

let count = 0;

/**
 * @param {object} [options]
 * @param {number} [options.mtu]
 */
export async function createVeth({ mtu = 1500 } = {}) {
  const a = `${PREFIX}veth${++count}-a`;
  const b = `${PREFIX}veth${count}-b`;
  const undo = undoOnExit(() => [a, b].forEach(removeNamespace));
  try {
    await createNamespaces(a, b);
    await run("ip", "link", "add", "eth0", "netns", a, "type", "veth", "peer", "name", "eth0", "netns", b);
    for (const [name, address] of Object.entries({ [a]: ADDRESS_A, [b]: ADDRESS_B })) {
      await run("ip", "-n", name, "addr", "add", `${address}/24`, "dev", "eth0");
      await run("ip", "-n", name, "link", "set", "eth0", "mtu", String(mtu), "up");
    }
    // The kernel takes up to a second to call them running, and until then nobody sees an address.
    for (const name of [a, b]) await untilRunning(name, "eth0");
  } catch (error) {
    undo();
    throw error;
  }
  return {
    /** Names of the two namespaces. */
    a,
    b,
    addressA: ADDRESS_A,
    addressB: ADDRESS_B,
    /** Pulls the cable, at a's end: a has no route any more, b's packets go nowhere. */
    cut: () => run("ip", "-n", a, "link", "set", "eth0", "down"),
    restore: () => run("ip", "-n", a, "link", "set", "eth0", "up"),
    /** Ends every process inside and removes the namespaces. */
    destroy: undo,
  };
}
