/** dcpipe doctor: the report is what was asked for, so it goes to stdout. */
import {
  DcpipeError,
  decodeReport,
  decodeToken,
  diagnose,
  encodeReport,
  looksLikeReport,
  looksLikeToken,
  parsePeer,
  predict,
  reportOf,
  reportOfAddresses,
  verdictOf,
  type Report,
} from "../index.ts";
import type { DoctorArguments } from "./doctor-options.ts";
import { reportEvent, reportLines, type Diagnosis } from "./doctor-report.ts";
import { findRendezvous, parsePortRange, stunServers } from "./options.ts";
import { escapeJson, Ui } from "./ui.ts";

/** As for a connection that cannot be made: nothing leads out of here. */
const NO_WAY_OUT = 3;

export async function runDoctor(options: DoctorArguments): Promise<never> {
  const { json, quiet, verbose, color, turn, bind } = options;
  const ui = new Ui({ json, quiet, verbose, color: color && process.env["NO_COLOR"] === undefined });
  const there = otherSide(options);
  const examined = diagnose({
    stun: stunServers(options),
    turn,
    rendezvous: findRendezvous(options),
    portRange: parsePortRange(options.portRange),
    bind,
  });
  // What is wrong with an option is said by now, and nothing else.
  await Promise.race([examined, Promise.resolve()]);
  await ui.wait("Looking at this network");
  const findings = await examined;
  ui.end();
  const here = reportOf(findings);
  const diagnosis: Diagnosis = {
    findings,
    verdict: verdictOf(findings),
    report: encodeReport(here),
    other: there && { report: there, prediction: predict(here, there) },
  };
  await print(
    json ? `${escapeJson(JSON.stringify(reportEvent(diagnosis)))}\n` : reportLines(diagnosis).join(""),
  );
  // A name that is still being looked up would hold the process for long.
  process.exit(diagnosis.verdict.wayOut ? 0 : NO_WAY_OUT);
}

/** What PEER says about the other side's network. Throws USAGE, or an error of tokens. */
function otherSide({ peer, to }: DoctorArguments): Report | undefined {
  if (peer !== undefined && to !== undefined) throw new DcpipeError("USAGE", "PEER is given more than once");
  const text = peer ?? to;
  if (text === undefined) return undefined;
  if (looksLikeReport(text)) return decodeReport(text);
  const other = parsePeer(text);
  if (other.kind !== "token")
    throw new DcpipeError(
      "USAGE",
      "a code serves once, and looking at it would use it up: run dcpipe doctor on both sides, and give each the other's report",
    );
  if (looksLikeToken(text)) return reportOfAddresses(candidatesOf(text));
  throw new DcpipeError(
    "USAGE",
    `${JSON.stringify(text.slice(0, 40))} is no report of a doctor (dcr1...) and no token (dc1...): run dcpipe doctor there, and give its report here`,
  );
}

/** Either kind of token has addresses. */
function candidatesOf(text: string): ReturnType<typeof decodeToken>["candidates"] {
  try {
    return decodeToken(text, "offer").candidates;
  } catch (error) {
    if (!(error instanceof DcpipeError) || error.code !== "TOKEN_KIND") throw error;
    return decodeToken(text, "answer").candidates;
  }
}

/** Resolves when all is written, or nobody reads it any more. */
function print(text: string): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.on("error", () => {
      resolve();
    });
    process.stdout.write(text, () => {
      resolve();
    });
  });
}
