/** How far a transfer is, as one line. */
import { escapeText, type Progress } from "../index.ts";
import { clipMiddle, formatBytes, formatCount, formatSeconds, widthOf } from "./format.ts";

/** Speed at this moment. */
export interface Pace {
  readonly bytesPerSecond: number;
  /** Nothing has moved for some seconds. */
  readonly stalled: boolean;
}

const GAP = "  ";
/** Fewer columns say nothing of a name. */
const LEAST_NAME = 10;
/** A file of so many bytes is worth its own percentage. */
const LARGE_FILE = 16 * 1024 * 1024;

/**
 * One line that fits into `columns`; Infinity for no terminal. Where there is little room, what matters least is left out; what
 * remains keeps its order, and the name takes what is left.
 */
export function progressLine(progress: Progress, pace: Pace, columns: number): string {
  const { bytes, total, files, totalFiles } = progress;
  const least = formatBytes(bytes);
  const most = total === undefined ? least : `${least} of ${formatBytes(total)}`;
  // The last column stays free: some terminals wrap when it is taken.
  let room = columns - 1;
  const take = (text: string): string => {
    const needed = widthOf(text) + GAP.length;
    if (text === "" || room + GAP.length < needed) return "";
    room -= needed;
    return text;
  };
  const share = take(total === undefined ? "" : percent(bytes, total).padStart(5));
  const speed = take(speedOf(progress, pace));
  const amount = take(most) || take(least);
  const left = take(timeLeft(progress, pace));
  const at = Math.min(files + 1, totalFiles ?? Infinity);
  const count = take(
    totalFiles === 1 || (totalFiles === undefined && files === 0)
      ? ""
      : totalFiles === undefined
        ? `file ${formatCount(at)}`
        : `file ${formatCount(at)} of ${formatCount(totalFiles)}`,
  );
  const name = take(nameOf(progress, room));
  return [share, amount, speed, left, count, name].filter(Boolean).join(GAP);
}

function speedOf({ bytes, total }: Progress, { bytesPerSecond, stalled }: Pace): string {
  // All has arrived; what is awaited is a disk.
  if (stalled) return bytes === total ? "finishing" : "stalled";
  return `${formatBytes(bytesPerSecond)}/s`;
}

function timeLeft({ bytes, total }: Progress, { bytesPerSecond, stalled }: Pace): string {
  if (total === undefined || bytes >= total || stalled || bytesPerSecond < 1) return "";
  return `${formatSeconds((total - bytes) / bytesPerSecond)} left`;
}

/** The file at work in so many columns, with its own percentage when it is a large one of several. */
function nameOf({ name, file, totalFiles }: Progress, columns: number): string {
  if (name === "") return "";
  const own =
    totalFiles !== 1 && (file.total ?? 0) >= LARGE_FILE ? ` ${percent(file.bytes, file.total ?? 0)}` : "";
  const shown = escapeText(name);
  for (const suffix of [own, ""]) {
    const rest = columns - suffix.length;
    if (widthOf(shown) <= rest || rest >= LEAST_NAME) return clipMiddle(shown, rest) + suffix;
  }
  return "";
}

function percent(bytes: number, total: number): string {
  const share = total === 0 ? 100 : Math.floor((bytes / total) * 100);
  return `${Math.min(share, 100)} %`;
}
