/**
 * Measures dcpipe against its yardsticks, side by side, between two network namespaces on this machine.
 *
 *   npm run bench                        everything (about an hour; root, Linux), writes docs/performance.md
 *   npm run bench -- --only pipe,loss    rows whose name begins so; prints only
 *   npm run bench -- --quick             small sizes and few runs: does it work at all? Prints only
 *   npm run bench -- --out FILE          writes the page there
 *
 * Exit status: 0 when every figure meets its target, 1 when one misses it or could not be measured, 2 for wrong usage.
 */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { checkBuild } from "./drive.js";
import { describeMachine, page, table } from "./page.js";
import { FULL, QUICK, ROWS } from "./rows.js";
import { reasonOf } from "./shared.js";

const PAGE = fileURLToPath(new URL("../../docs/performance.md", import.meta.url));

function parse() {
  const { values } = parseArgs({
    options: { only: { type: "string" }, quick: { type: "boolean" }, out: { type: "string" } },
  });
  const wanted = values.only?.split(",");
  const rows = ROWS.filter(({ name }) => !wanted || wanted.some((start) => name.startsWith(start)));
  if (rows.length === 0) throw new Error(`no such row; there are ${ROWS.map(({ name }) => name).join(", ")}`);
  const complete = !wanted && !values.quick;
  return { rows, scale: values.quick ? QUICK : FULL, out: values.out ?? (complete ? PAGE : undefined) };
}

/** A row that can not be measured is a figure that misses its target, and the others still get their turn. */
async function measure(row, scale) {
  const begun = performance.now();
  process.stderr.write(`${row.name} ... `);
  try {
    const figures = await row.measure(scale);
    process.stderr.write(`${((performance.now() - begun) / 1000).toFixed(0)} s\n`);
    return figures;
  } catch (error) {
    process.stderr.write(`failed: ${error.message}\n`);
    const result = `failed: ${reasonOf(error)}`;
    return [{ what: row.name, dcpipe: "", reference: "", result, target: "", met: false }];
  }
}

async function main() {
  let options;
  try {
    options = parse();
    checkBuild();
    if (process.getuid?.() !== 0) throw new Error("the bench needs root, for network namespaces");
  } catch (error) {
    console.error(error.message);
    return 2;
  }
  const machine = describeMachine(); // Before our own load shows in it.
  console.error(machine.join("\n"));
  const figures = [];
  for (const row of options.rows) figures.push(...(await measure(row, options.scale)));
  console.log(table(figures));
  if (options.out) writeFileSync(options.out, page(machine, figures, options.rows));
  return figures.every(({ met }) => met !== false) ? 0 : 1;
}

process.exitCode = await main();
