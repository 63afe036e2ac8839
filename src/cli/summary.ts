/** What came of a transfer: a sentence for people, the fields of the `done` event, and the error when not all went well. */
import {
  DcpipeError,
  escapeText,
  type ConnectedPath,
  type ErrorCode,
  type Problem,
  type TransferResult,
} from "../index.ts";
import { countOf, formatBytes, formatCount, formatSeconds } from "./format.ts";

export interface Ending {
  readonly side: "send" | "receive";
  /** What was sent: the name of the only PATH, or of the only thing that came; undefined for several. */
  readonly what: string | undefined;
  /** Where it went is a place of its own, not stdout. */
  readonly disk: boolean;
  readonly seconds: number;
  readonly path: ConnectedPath["path"] | undefined;
  readonly result: TransferResult;
}

/** A transfer that came to its end, with entries that were refused or failed. */
export class TransferError extends DcpipeError {
  /** For the `error` event. */
  readonly fields: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, fields: Readonly<Record<string, unknown>>) {
    super(code, message);
    this.fields = fields;
  }
}

/** The fields of the `done` event, and of the `error` event where entries are missing. */
export function fieldsOf({ result, seconds, path }: Ending): {
  bytes: number;
  files: number;
  seconds: number;
  [field: string]: unknown;
} {
  const { bytes, files, moved, unchanged, directories, passed, problems } = result;
  return {
    bytes,
    files,
    seconds: Math.round(seconds * 1000) / 1000,
    moved,
    unchanged,
    directories,
    passed,
    refused: problems.refused,
    failed: problems.failed,
    ...(path === undefined ? {} : { path }),
  };
}

/** `Sent photos: 1,234 files, 3.4 GiB in 1 min 3 s (55 MiB/s, direct); all verified and on the other side's disk` */
export function summary(ending: Ending): string {
  const { side, result } = ending;
  const { files, directories, unchanged, passed } = result;
  const verb = side === "send" ? "Sent" : "Received";
  if (files + directories === 0) return `${verb} nothing${passed > 0 ? `: ${passedOver(ending)}` : ""}`;
  const lone = files === 1 && directories === 0 && ending.what !== undefined;
  const counts = [
    ...(lone || files === 0 ? [] : [countOf(files, "file")]),
    files === 0 ? countOf(directories, "directory", "directories") : formatBytes(result.bytes),
  ].join(", ");
  const name = ending.what === undefined ? "" : `${escapeText(ending.what)}: `;
  const there = result.bytes - result.moved;
  const already = [
    ...(there > 0 ? [`${formatBytes(there)} of it there already`] : []),
    ...(unchanged > 0 && files > 1 ? [`${countOf(unchanged, "file")} unchanged`] : []),
  ];
  const disk = side === "send" ? "on the other side's disk" : "on disk";
  return [
    `${verb} ${name}${counts}${duration(ending)}`,
    ...(already.length > 0 ? [already.join(", ")] : []),
    ...(passed > 0 ? [passedOver(ending)] : []),
    `${files > 1 ? "all " : ""}verified${ending.disk ? ` and ${disk}` : ""}`,
  ].join("; ");
}

/** ` in 1 min 3 s (55 MiB/s, direct)` */
function duration({ result, seconds, path }: Ending): string {
  const time = seconds < 10 ? `${Math.max(0.1, seconds).toFixed(1)} s` : formatSeconds(seconds);
  const rate =
    result.moved > 0 && seconds > 0 ? [`${formatBytes(result.moved / Math.max(0.1, seconds))}/s`] : [];
  const way = path === undefined ? [] : [path === "direct" ? path : path === "turn" ? "TURN relay" : "relay"];
  const details = [...rate, ...way];
  return ` in ${time}${details.length > 0 ? ` (${details.join(", ")})` : ""}`;
}

function passedOver({ side, result }: Ending): string {
  const entries = countOf(result.passed, "entry", "entries");
  return side === "send" ? `the other side passed over ${entries}` : `${entries} passed over`;
}

/** The error that ends a transfer of which something is missing; undefined when nothing is. */
export function errorOf(ending: Ending): TransferError | undefined {
  const { refused, failed, list } = ending.result.problems;
  if (refused + failed === 0) return undefined;
  const { files } = ending.result;
  const code =
    failed > 0
      ? "INCOMPLETE"
      : list.length > 0 && list.every(({ reason }) => reason === "EXISTS")
        ? "EXISTS"
        : "REFUSED";
  const total = formatCount(files + refused + failed);
  const what = files + refused + failed === 1 ? "file" : "files";
  const sides = ending.side === "send" ? "sent" : "received";
  const no = (count: number): string => (count === 1 ? "was" : "were");
  const alone = lonely(ending);
  const message =
    (alone && sentence(alone)) ??
    (failed > 0
      ? `${formatCount(failed)} of ${total} ${what} could not be ${sides}` +
        (refused > 0 ? `, and ${formatCount(refused)} ${no(refused)} refused` : "")
      : code === "EXISTS"
        ? `${formatCount(refused)} of ${total} ${what} ` +
          (refused === 1 ? "exists already, and is left as it is" : "exist already, and are left as they are")
        : `${formatCount(refused)} of ${total} ${what} ${no(refused)} refused`);
  return new TransferError(code, message, fieldsOf(ending));
}

/** The problem of the only thing that there was. */
function lonely({ result: { files, directories, passed, problems } }: Ending): Problem | undefined {
  const only = problems.refused + problems.failed === 1 && files + directories + passed === 0;
  return only ? problems.list[0] : undefined;
}

/** The problems, a line each, escaped. None where the error itself says it. */
export function problemLines(ending: Ending): string[] {
  const { refused, failed, list } = ending.result.problems;
  if (lonely(ending)) return [];
  const more = refused + failed - list.length;
  return [
    ...list.map((problem) => escapeText(sentence(problem))),
    ...(more > 0 ? [`and ${formatCount(more)} more`] : []),
  ];
}

/** What happened to which entry: many texts name it already, without the directories around it. */
function sentence({ name, text }: Problem): string {
  const own = name.slice(name.lastIndexOf("/") + 1);
  if (own === "") return text;
  for (const said of [name, own]) {
    if (text.startsWith(`${said} `)) return name + text.slice(said.length);
    const end = `: ${escapeText(said)}`;
    if (text.endsWith(end)) return `${name}: ${text.slice(0, -end.length)}`;
  }
  return `${name}: ${text}`;
}
