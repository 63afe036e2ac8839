/** Tells of each change of this machine's addresses, undefined where nobody may know them, and of its waking up; returns how to stop. */
export type WatchNetwork = (onchange: (addresses: ReadonlySet<string> | undefined) => void) => () => void;
