/** Sees this machine change networks: Node tells nobody, so its addresses are looked at. */
import { networkInterfaces } from "node:os";
import type { WatchNetwork } from "../transport/watch.ts";

/** How often. A look takes a fraction of a millisecond. */
const LOOK_MS = 1000;
/** The clock on the wall goes on while a machine sleeps; a late timer alone means a busy machine. */
const SLEPT_MS = 5000;

type OnChange = Parameters<WatchNetwork>[0];

const watchers = new Set<OnChange>();
let timer: NodeJS.Timeout | undefined;
let known = "";
let wall = 0;

export const watchNetwork: WatchNetwork = (onchange) => {
  watchers.add(onchange);
  if (!timer) {
    known = [...addresses()].sort().join();
    wall = Date.now();
    timer = setInterval(look, LOOK_MS).unref();
  }
  return () => {
    watchers.delete(onchange);
    if (watchers.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  };
};

function look(): void {
  const now = Date.now();
  const slept = now - wall > LOOK_MS + SLEPT_MS;
  wall = now;
  const current = addresses();
  const text = [...current].sort().join();
  if (text === known && !slept) return;
  known = text;
  for (const onchange of [...watchers]) onchange(current);
}

/** Those that another machine could use, as far as can be told here.  */
function addresses(): Set<string> {
  const found = new Set<string>();
  for (const entries of Object.values(networkInterfaces()))
    for (const { address, internal } of entries ?? [])
      if (!internal && !address.startsWith("fe80:")) found.add(address);
  return found;
}
