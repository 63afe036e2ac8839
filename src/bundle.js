/**
 * What runs in browsers, as files that load nothing else: `npm run bundle`.
 *
 *   dist/browser.js          the library for web pages
 *   dist/page/page.html      the page, with its style, its script and the policy that allows these two and nothing else
 *   dist/page/download.js    its service worker
 *   dist/site/outer.js       the page around a site; bridge.js, in its hidden frame
 *   dist/site/worker.js      the service worker of a site, with the script for documents in it
 *
 * The same sources give the same bytes: people compare their hash.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

/** In the project. */
const at = (path) => new URL(`../${path}`, import.meta.url);

async function bundle(entry, options) {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(at(entry))],
    absWorkingDir: fileURLToPath(at(".")),
    bundle: true,
    minify: true,
    target: "es2022",
    legalComments: "eof",
    logLevel: "warning",
    write: false,
    ...options,
  });
  return outputFiles[0].text;
}

function sourceOf(text) {
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}

async function page() {
  // Nothing in it may end its element.
  const script = await bundle("src/page/main.ts", { format: "iife" });
  const style = (await bundle("src/page/page.css", {})).trim();
  if (/<\/(script|style)/i.test(script + style))
    throw new Error("the page's script or style ends its element");
  const policy = [
    "default-src 'none'",
    `script-src ${sourceOf(script)}`,
    `style-src ${sourceOf(style)}`,
    // Where it goes is the user's choice; what a rendezvous serves goes nowhere else (src/server/page.ts).
    "connect-src ws: wss:",
    "img-src data:",
    "worker-src 'self'",
    "frame-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types dcpipe",
  ].join("; ");
  const places = {
    'Policy" content="': policy,
    "<style>": style,
    "<script>": script,
  };
  let html = readFileSync(at("src/page/page.html"), "utf8");
  for (const [place, text] of Object.entries(places)) html = html.replace(place, (found) => found + text);
  return html;
}

/** The script for a site's documents. In those of other encodings than UTF-8, too: ASCII alone. */
async function siteScript() {
  const script = await bundle("src/site/page/main.ts", {
    format: "iife",
    charset: "ascii",
    legalComments: "none",
  });
  if (/<\/script|<!--/i.test(script)) throw new Error("the script for documents would end before its end");
  return script;
}

mkdirSync(at("dist/page"), { recursive: true });
mkdirSync(at("dist/site"), { recursive: true });
writeFileSync(at("dist/browser.js"), await bundle("src/browser.ts", { format: "esm" }));
writeFileSync(at("dist/page/download.js"), await bundle("src/page/worker.ts", { format: "iife" }));
writeFileSync(at("dist/page/page.html"), await page());
const define = { PAGE_SCRIPT: JSON.stringify(await siteScript()) };
for (const [name, entry, options] of [
  ["outer.js", "src/site/outer/main.ts", {}],
  ["bridge.js", "src/site/bridge.ts", {}],
  ["worker.js", "src/site/worker/main.ts", { define }],
])
  writeFileSync(at(`dist/site/${name}`), await bundle(entry, { format: "iife", ...options }));
