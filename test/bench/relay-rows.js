/** The rows of the relay: what the way round by a rendezvous costs. */
import * as drive from "./drive.js";
import { onWan } from "./shared.js";
import { median, withRuns } from "./statistics.js";

const PATH = { rttMs: 20, mbit: 100 };

/** @type {import("./rows.js").Row[]} */
export const RELAY_ROWS = [
  {
    name: "relay",
    title: "By the relay",
    how:
      "A pipe by code over the emulated path, direct (`--relay off`) and by the rendezvous' relay (`--relay only`) in turns. The rendezvous " +
      "runs beside the waiting side, so what is relayed crosses the path once, too, in TCP connections; and its process shares the two cores.",
    measure: ({ runs, wan }) =>
      onWan(PATH, async (net) => {
        const { url, stop } = await drive.startRendezvous(net);
        const run = async (relay) =>
          (await drive.runPipe(net, wan, { flags: ["--no-lan", "--rendezvous", url, "--relay", relay] }))
            .rate;
        try {
          const [direct, relayed] = [[], []];
          for (let round = 0; round < runs; round++) {
            direct.push(await run("off"));
            relayed.push(await run("only"));
          }
          const ratio = median(relayed) / median(direct);
          return [
            {
              what: `pipe of ${wan / drive.MIB} MiB by the relay, ${PATH.mbit} Mbit/s, ${PATH.rttMs} ms, MiB/s`,
              dcpipe: withRuns(relayed),
              reference: `direct ${withRuns(direct)}`,
              result: `${ratio.toFixed(2)}x`,
              target: ">= 0.50x",
              met: ratio >= 0.5,
            },
          ];
        } finally {
          await stop();
        }
      }),
  },
];
