/** The standard streams as the two ends of a pipe, and what is said of them. */
import {
  DcpipeError,
  limitSource,
  readableSource,
  stdinSource,
  stdoutSink,
  type Progress,
  type Sink,
  type Source,
} from "../index.ts";
import { formatBytes } from "./format.ts";
import { parseRate, type CommonOptions } from "./options.ts";
import type { Ui } from "./ui.ts";

/** stdin at the rate that is wanted, stdout without binary on a terminal, and progress. Throws USAGE. */
export function standardStreams(
  options: CommonOptions & { readonly output?: string | undefined },
  ui: Ui,
): {
  readonly source: Source;
  readonly sink: Sink;
  readonly onprogress: (sent: number, received: number) => void;
} {
  const rate = parseRate(options.limit);
  // --stdio-signal has read from process.stdin, and a descriptor has one reader only.
  const stdin = options.stdioSignal ? readableSource(process.stdin) : stdinSource();
  // Where both appear on one terminal the payload has it for itself.
  const show = options.json || !process.stdout.isTTY;
  return {
    source: rate === undefined ? stdin : limitSource(stdin, rate),
    sink: process.stdout.isTTY && options.output !== "-" ? textOnly(stdoutSink()) : stdoutSink(),
    onprogress: (sent, received) => {
      if (show) ui.progress(progressOf(sent + received));
    },
  };
}

export function pipeDone({ sent, received }: { sent: number; received: number }, ui: Ui): void {
  const text = `Done: ${formatBytes(sent)} sent, ${formatBytes(received)} received`;
  ui.done({ bytes: sent + received, files: 0, sent, received }, text);
}

/** A pipe has neither files nor an end that is known. */
function progressOf(bytes: number): Progress {
  return {
    name: "",
    bytes,
    total: undefined,
    files: 0,
    totalFiles: undefined,
    file: { bytes, total: undefined },
  };
}

/** Keeps binary off a terminal, which takes some of it for commands. */
function textOnly(sink: Sink): Sink {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  return {
    write: (chunk) => {
      let text: string;
      try {
        text = decoder.decode(chunk, { stream: true });
      } catch {
        text = "\0";
      }

      if (/[\u0000-\u0006\u000e-\u001a\u001c-\u001f\u007f]/.test(text)) {
        return Promise.reject(
          new DcpipeError(
            "USAGE",
            "binary data is coming and stdout is a terminal: redirect it, or force it with -o -",
          ),
        );
      }
      return sink.write(chunk);
    },
    end: () => sink.end(),
  };
}
