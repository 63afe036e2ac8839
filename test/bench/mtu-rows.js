/** The rows of paths that carry larger packets than Ethernet does: what those are worth. */
import { PREFIX, createNamespaces, removeNamespace, run, undoOnExit } from "../lab/exec.js";
import { createVeth } from "../lab/veth.js";
import * as drive from "./drive.js";
import { median, withRuns } from "./statistics.js";

const JUMBO = 9000;
const ETHERNET = 1500;
/** Of the loopback interface, as Linux makes it. */
const LOOPBACK = 65_536;

let count = 0;

/** A machine without a network; both ends run there. */
async function createLoopback(mtu) {
  const name = `${PREFIX}lo${++count}`;
  const destroy = undoOnExit(() => removeNamespace(name));
  await createNamespaces(name);
  await run("ip", "-n", name, "link", "set", "lo", "mtu", String(mtu));
  return { a: name, b: name, addressB: "127.0.0.1", destroy };
}

/** The same pipe by turns over both paths. @returns {Promise<import("./page.js").Figure[]>} */
async function compare(what, create, large, { runs, bulk }) {
  const nets = [await create(large), await create(ETHERNET)];
  try {
    const results = nets.map(() => []);
    for (let round = 0; round < runs; round++)
      for (const [i, net] of nets.entries()) results[i].push(await drive.runPipe(net, bulk));
    const of = (key) => results.map((transfers) => transfers.map((transfer) => transfer[key]));
    const [fast, slow] = of("rate");
    const [cheap, dear] = of("cpu");
    const gain = median(fast) / median(slow);
    return [
      {
        what: `pipe of ${bulk / drive.MIB} MiB over ${what}, rate in MiB/s`,
        dcpipe: withRuns(fast),
        reference: `the same with an MTU of ${ETHERNET} ${withRuns(slow)}`,
        result: `${gain.toFixed(2)}x`,
        target: ">= 1.40x",
        met: gain >= 1.4,
      },
      {
        what: "the same, CPU of both ends in s/GiB",
        dcpipe: withRuns(cheap),
        reference: `the same with an MTU of ${ETHERNET} ${withRuns(dear)}`,
        result: `${(median(cheap) / median(dear)).toFixed(2)}x`,
        target: "none",
        met: undefined,
      },
    ];
  } finally {
    for (const net of nets) net.destroy();
  }
}

/** @type {import("./rows.js").Row[]} */
export const MTU_ROWS = [
  {
    name: "mtu",
    title: "Larger packets",
    how:
      "A pipe as over veth, through two cables by turns: one with an MTU of 9000 and one with 1500; and between two processes on one " +
      "machine without a network, whose loopback interface has its 65536 or 1500. dcpipe finds out by itself: it begins with 1500 in " +
      "each of them.",
    measure: async (scale) => [
      ...(await compare("veth with an MTU of 9000", (mtu) => createVeth({ mtu }), JUMBO, scale)),
      ...(await compare("loopback", createLoopback, LOOPBACK, scale)),
    ],
  },
];
