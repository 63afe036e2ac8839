/** What the rows of the bench share: a net for the time of a measurement, and the figure of memory. */
import { createVeth } from "../lab/veth.js";
import { createWan } from "../lab/wan.js";

/** Memory either side may use, whatever the amount of data, MiB. */
const MAX_RSS = 160;

/**
 * @template T
 * @param {(net: Awaited<ReturnType<typeof createVeth>>) => Promise<T>} measure
 */
export async function onVeth(measure) {
  const net = await createVeth();
  try {
    return await measure(net);
  } finally {
    net.destroy();
  }
}

/**
 * @template T
 * @param {import("../lab/wan.js").Path} path
 * @param {(net: Awaited<ReturnType<typeof createWan>>) => Promise<T>} measure
 */
export async function onWan(path, measure) {
  const net = await createWan(path);
  try {
    return await measure(net);
  } finally {
    net.destroy();
  }
}

/**
 * @param {string} what
 * @param {number[]} peaks of sender and receiver, MiB
 * @returns {import("./page.js").Figure}
 */
export function rssFigure(what, [sender, receiver], most = MAX_RSS) {
  const peak = Math.max(sender, receiver);
  return {
    what,
    dcpipe: `${sender.toFixed(0)} and ${receiver.toFixed(0)}`,
    reference: "",
    result: `${peak.toFixed(0)} MiB`,
    target: `<= ${most} MiB`,
    met: peak <= most,
  };
}

/** Why something could not be measured, short enough for the table: what failed and the last that it said. */
export function reasonOf(error) {
  const lines = error.message.split(/\r?\n/).filter(Boolean);
  return (lines.length > 1 ? `${lines[0]} ${lines.at(-1)}` : lines[0]).slice(0, 160);
}
