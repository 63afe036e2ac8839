/** docs/performance.md: the table, the machine it comes from, and how each figure was measured. */
import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { versions } from "./rivals.js";

/**
 * @typedef {object} Figure one line of the table
 * @property {string} what
 * @property {string} dcpipe what dcpipe did
 * @property {string} reference what it is compared with, measured in the same run
 * @property {string} result
 * @property {string} target
 * @property {boolean | undefined} met undefined for an aim that was missed
 */

const COLUMNS = ["what", "dcpipe", "reference", "result", "target", "met"];

function cells({ met, ...figure }) {
  return COLUMNS.map((column) =>
    column === "met" ? (met === undefined ? "-" : met ? "yes" : "**no**") : figure[column],
  );
}

/** A Markdown table, its columns aligned for reading as it is. @param {Figure[]} figures */
export function table(figures) {
  const rows = [COLUMNS, ...figures.map(cells)].map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row) => `| ${row.map((cell, column) => cell.padEnd(widths[column])).join(" | ")} |`;
  const rule = line(widths.map((width) => "-".repeat(width)));
  return [line(rows[0]), rule, ...rows.slice(1).map(line)].join("\n");
}

/** Where and when, as a list of facts. */
export function describeMachine() {
  const read = (path) => readFileSync(path, "utf8").trim();
  const own = JSON.parse(read(new URL("../../package.json", import.meta.url)));
  return [
    `Date: ${new Date().toISOString().slice(0, 10)}`,
    `Machine: ${cpus().length} CPUs, ${cpus()[0].model}, ${Math.round(totalmem() / 2 ** 30)} GiB; load before the start ${loadavg()[0].toFixed(2)}`,
    `Kernel: Linux ${release()}; largest socket buffer (net.core.rmem_max) ${read("/proc/sys/net/core/rmem_max")} bytes`,
    `TCP congestion control: this kernel's default is ${read("/proc/sys/net/ipv4/tcp_congestion_control")}; each row names the one it used`,
    `Node ${process.versions.node}, node-datachannel ${own.dependencies["node-datachannel"]}, dcpipe ${own.version}; ${versions()}`,
  ];
}

/**
 * @param {string[]} machine
 * @param {Figure[]} figures
 * @param {import("./rows.js").Row[]} rows
 */
export function page(machine, figures, rows) {
  const how = new Map(rows.map(({ title, how }) => [title, how]));
  return `# Performance

Written by \`npm run bench\` (root, Linux; gcc, iproute2, iperf3 and time installed; for the rows of files OpenSSH, rsync, and
magic-wormhole with its mailbox server and transit relay; for those of forwards OpenSSH and wrk). The yardstick of each row was measured in the same run, in turns with
dcpipe; of several runs the median counts, and all of them stand in brackets.

${machine.map((fact) => `- ${fact}`).join("\n")}

${table(figures)}

## How each figure is measured

${[...how].map(([title, text]) => `**${title}.** ${text}`).join("\n\n")}
`;
}
