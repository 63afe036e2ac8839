/** What the grid found, as a page: tables of ways and times, and the machine they come from. */
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { format } from "prettier";
import { MEANS } from "./expectations.js";
import { KINDS, PAIRS } from "./kinds.js";

const BEGIN = "<!-- written by test/netlab/grid.js: begin -->";
const END = "<!-- end -->";

/** The machine, without a date: a page that says the same stays the same. */
export function describeMachine(coturn) {
  const own = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  return [
    `Machine: ${cpus().length} CPUs, ${cpus()[0].model}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}`,
    `Node ${process.versions.node}, node-datachannel ${own.dependencies["node-datachannel"]}, dcpipe ${own.version}, coturn ${coturn.trim()}`,
  ];
}

/** Counts and times over all cells. @param {import("./grid.js").Result[]} results */
export function summarize(results, startSeconds, without) {
  const outcomes = results.flatMap((result) => result.outcomes);
  const good = outcomes.filter(({ faults }) => faults.length === 0);
  const lines = [`${good.length} of ${outcomes.length} runs went as expected, in ${results.length} cells`];
  for (const way of ["direct", "turn", "relay"]) {
    const times = good
      .filter((outcome) => outcome.way === way && outcome.seconds)
      .map(({ seconds }) => seconds);
    if (times.length === 0) continue;
    const [middle, late] = [quantile(times, 0.5), quantile(times, 0.95)].map((each) => each.toFixed(2));
    lines.push(`${way}: ${times.length} runs, first byte after ${middle} s (median), ${late} s (95 %)`);
  }
  lines.push(
    `Starting dcpipe takes ${startSeconds.toFixed(2)} s of each of these times (\`dcpipe --version\`)`,
  );
  if (without.length > 0) lines.push(`Not expected of this dcpipe: ${without.join(", ")}`);
  return lines;
}

function quantile(values, q) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
}

/** A table for each means: a row for each network that waits, a column for each that joins. @param {import("./grid.js").Result[]} results */
export function matrices(results) {
  const order = Object.keys({ ...KINDS, ...PAIRS });
  const kinds = order.filter((kind) =>
    results.some(({ waiting, joining }) => waiting === kind || joining === kind),
  );
  const sections = Object.entries(MEANS)
    .map(([means, says]) => ({ means, says, results: results.filter((result) => result.means === means) }))
    .filter((section) => section.results.length > 0)
    .map(({ means, says, results }) => {
      const columns = kinds.filter((kind) => !(kind in PAIRS));
      const find = (waiting, joining) =>
        results.find((each) => each.waiting === waiting && each.joining === joining);
      const rows = columns.map((kind) => [`**${kind}**`, ...columns.map((other) => cell(find(kind, other)))]);
      const matrix = columns.length > 0 ? table([["waits / joins", ...columns], ...rows]) : "";
      const pairs = kinds.filter((kind) => kind in PAIRS).map((name) => `${name}: ${cell(find(name, name))}`);
      return [`**${means}**: ${says}.`, matrix, pairs.join("; ")].filter(Boolean).join("\n\n");
    });
  return sections.join("\n\n");
}

/** Way and median time; a cell that was not as expected says so, and what was. */
function cell(result) {
  if (!result || result.outcomes.length === 0) return "";
  const { outcomes, expected } = result;
  const bad = outcomes.filter(({ faults }) => faults.length > 0);
  const times = outcomes.map(({ seconds }) => seconds).filter((seconds) => seconds !== undefined);
  const time = times.length > 0 ? ` ${quantile(times, 0.5).toFixed(1)}` : "";
  if (bad.length === 0) return `${expected}${expected === "none" ? "" : time}`;
  const share = outcomes.length > 1 ? ` (${bad.length} of ${outcomes.length})` : "";
  return `**${bad[0].way === expected ? bad[0].faults[0] : bad[0].way}**, not ${expected}${share}`;
}

function table(rows) {
  const line = (row) => `| ${row.join(" | ")} |`;
  return [line(rows[0]), line(rows[0].map(() => "---")), ...rows.slice(1).map(line)].join("\n");
}

/** Puts the findings between the markers of that page. */
export async function writePage(file, facts, text) {
  const page = readFileSync(file, "utf8");
  const [before, rest] = page.split(BEGIN);
  const after = rest?.split(END)[1];
  if (after === undefined) throw new Error(`${file} lacks the markers ${BEGIN} and ${END}`);
  const list = facts.map((fact) => `- ${fact}`).join("\n");
  const whole = `${before}${BEGIN}\n\n${list}\n\n${text}\n\n${END}${after}`;
  writeFileSync(file, await format(whole, { parser: "markdown", printWidth: 110 }));
}
