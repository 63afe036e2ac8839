/** Tells of each change of this machine's addresses, and of its waking up; returns how to stop. */
export type WatchNetwork = (onchange: (addresses: ReadonlySet<string>) => void) => () => void;
