/** Builds what browsers get of sites, below dist/site/: the outer page's script, the bridge's, and the worker's, which has the one for documents in it. */
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const common = { bundle: true, minify: true, target: "es2022", legalComments: "none", logLevel: "warning" };
const source = (name) => fileURLToPath(new URL(name, import.meta.url));
const product = (name) => fileURLToPath(new URL(`../../dist/site/${name}`, import.meta.url));

// Other encodings than UTF-8 have it in them, too: ASCII alone.
const page = await build({
  ...common,
  entryPoints: [source("page/main.ts")],
  format: "iife",
  charset: "ascii",
  write: false,
});
const script = page.outputFiles[0].text;
if (/<\/script|<!--/i.test(script)) throw new Error("the script for documents would end before its end");
await build({
  ...common,
  entryPoints: [source("worker/main.ts")],
  format: "iife",
  define: { PAGE_SCRIPT: JSON.stringify(script) },
  outfile: product("worker.js"),
});
for (const [name, entry] of [
  ["outer.js", "outer/main.ts"],
  ["bridge.js", "bridge.ts"],
])
  await build({ ...common, entryPoints: [source(entry)], format: "iife", outfile: product(name) });
