/** Shows how far a transfer is: one line that moves on a terminal; elsewhere, and in JSON, a line now and then. */
import type { Progress } from "../index.ts";
import { countOf, formatBytes } from "./format.ts";
import { progressLine, type Pace } from "./progress-line.ts";

export interface ProgressOutput {
  readonly style: "json" | "terminal" | "plain";
  /** Columns of the terminal. */
  columns(): number;
  /** A line of text in place of the one before it on a terminal, a line of its own elsewhere. */
  line(text: string): void;
  event(event: object): void;
}

/** Milliseconds from one line to the next. */
const INTERVALS = { json: 500, terminal: 100, plain: 10_000 } as const;
/** The rate shown is the one over the last seconds; when nothing came in them, it has stalled. */
const WINDOW_MS = 5000;
const SAMPLE_MS = 100;

export class ProgressShow {
  readonly #output: ProgressOutput;
  readonly #speed = new Speedometer();
  #latest: Progress | undefined;
  /** When a line was shown last, and whether it said that all stands still. */
  #time: number | undefined;
  #saidStalled = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(output: ProgressOutput) {
    this.#output = output;
  }

  /** Call as often as you like. */
  update(progress: Progress): void {
    this.#latest = progress;
    const now = performance.now();
    this.#speed.add(now, progress.bytes);
    // A standstill is seen by the clock alone.
    this.#timer ??= setInterval(() => {
      this.#tick(performance.now());
    }, 1000).unref();
    this.#show(now);
  }

  /** The sender is still finding out how much there is. */
  counting(entries: number, bytes: number): void {
    if (!this.#due(performance.now())) return;
    if (this.#output.style === "json") this.#output.event({ event: "counting", entries, bytes });
    else this.#output.line(`counting ... ${countOf(entries, "entry", "entries")}, ${formatBytes(bytes)}`);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#latest = undefined;
  }

  #tick(now: number): void {
    if (!this.#latest) return;
    this.#speed.add(now, this.#latest.bytes);
    const { stalled } = this.#speed.pace(now);
    // Who reads lines is told once.
    if (this.#output.style === "terminal" || (stalled && !this.#saidStalled)) this.#show(now);
  }

  #show(now: number): void {
    if (!this.#latest) return;
    const pace = this.#speed.pace(now);
    const standstill = pace.stalled && !this.#saidStalled;
    if (!this.#due(now) && !standstill) return;
    this.#saidStalled = pace.stalled;
    const { style } = this.#output;
    if (style === "json") this.#output.event(progressEvent(this.#latest, pace));
    else
      this.#output.line(
        progressLine(this.#latest, pace, style === "terminal" ? this.#output.columns() : Infinity),
      );
  }

  /** Whether a line is due, which it then is no more. In text without a terminal the first has to wait for its time too. */
  #due(now: number): boolean {
    const { style } = this.#output;
    const due = this.#time === undefined ? style !== "plain" : now - this.#time >= INTERVALS[style];
    if (due || this.#time === undefined) this.#time = now;
    return due;
  }
}

export function progressEvent(progress: Progress, pace: Pace): object {
  const { name, bytes, total, files, totalFiles } = progress;
  return {
    event: "progress",
    bytes,
    ...(total === undefined ? {} : { total }),
    bytesPerSecond: Math.round(pace.bytesPerSecond),
    files,
    ...(totalFiles === undefined ? {} : { totalFiles }),
    ...(name === "" ? {} : { file: name }),
  };
}

/** The rate over the last seconds. */
export class Speedometer {
  #samples: { readonly time: number; readonly bytes: number }[] = [];
  #moved = -Infinity;

  add(time: number, bytes: number): void {
    const last = this.#samples.at(-1);
    if (last?.bytes !== bytes) this.#moved = time;
    if (last && time - last.time < SAMPLE_MS) return;
    this.#samples.push({ time, bytes });
    while (this.#samples.length > 2 && time - (this.#samples[0]?.time ?? time) > WINDOW_MS)
      this.#samples.shift();
  }

  pace(now: number): Pace {
    const stalled = this.#samples.length > 0 && now - this.#moved >= WINDOW_MS;
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (stalled || !first || !last || last.time === first.time) return { bytesPerSecond: 0, stalled };
    return {
      bytesPerSecond: Math.max(0, ((last.bytes - first.bytes) / (last.time - first.time)) * 1000),
      stalled,
    };
  }
}
