/** Time, as the command line needs it. */

/** A farewell must not hold up an exit that the user asked for. Milliseconds. */
export const FAREWELL_MS = 1000;

export function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
