/**
 * The page at the rendezvous' URL: what this is, and with a code in the fragment, which browsers keep to themselves, what to type.
 * It loads nothing, stores nothing, sends nothing; whatever comes from the URL is shown as text.
 */
import { createHash } from "node:crypto";

const STYLE = `
:root { color-scheme: light dark; --edge: color-mix(in srgb, currentColor 25%, transparent); }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 0 auto; padding: 1.5rem 1rem; }
h1 { font-size: 1.4rem; }
h2 { font-size: 1.05rem; margin: 1.5rem 0 0.25rem; }
.code { font: 600 1.6rem/1.3 ui-monospace, monospace; overflow-wrap: anywhere; margin: 0.5rem 0; }
.command { display: flex; gap: 0.5rem; align-items: stretch; margin: 0.25rem 0; }
pre { flex: 1; min-width: 0; margin: 0; padding: 0.5rem 0.75rem; border: 1px solid var(--edge); border-radius: 0.4rem;
  white-space: pre-wrap; overflow-wrap: anywhere; font: 0.95rem/1.5 ui-monospace, monospace; }
button { font: inherit; min-width: 5rem; border: 1px solid var(--edge); border-radius: 0.4rem; cursor: pointer; }
[hidden] { display: none; }
`;

const SCRIPT = `
"use strict";
const CODE = /^[1-9][0-9]{0,5}(-[a-z]+){2,12}$/;
const $ = (id) => document.getElementById(id);
// A path may hold what a shell takes for more than a path, and the one who made the link chose it.
const url = location.origin + location.pathname.replace(/%(?![0-9A-Fa-f]{2})|[^\\w/.~%-]/g,
  (c) => "%" + c.charCodeAt(0).toString(16).padStart(2, "0"));
function read() {
  let text = location.hash.slice(1);
  try { text = decodeURIComponent(text); } catch { /* Shown as it is. */ }
  return text;
}
function show() {
  const text = read();
  const code = text.trim().toLowerCase().replace(/[\\s_]+/g, "-");
  const good = CODE.test(code);
  $("with").hidden = !good;
  $("bad").hidden = good || text === "";
  $("without").hidden = good;
  $("wrong").textContent = text.slice(0, 200);
  $("code").textContent = good ? code : "";
  const at = " --rendezvous " + url;
  $("receive").textContent = "dcpipe receive " + code + at;
  $("send").textContent = "dcpipe send FILE --to " + code + at;
  $("pipe").textContent = "dcpipe pipe " + code + at;
  $("forward").textContent = "dcpipe forward " + code + at;
  $("start").textContent = "dcpipe send FILE" + at;
  for (const button of document.querySelectorAll("button")) button.textContent = "Copy";
  document.title = good ? code + " - dcpipe" : "dcpipe rendezvous";
}
async function copy(event) {
  const button = event.currentTarget;
  const source = $(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    // Without a secure origin there is no clipboard: mark it, for the keyboard.
    getSelection().selectAllChildren(source);
    button.textContent = "Marked";
  }
}
for (const button of document.querySelectorAll("button")) button.addEventListener("click", copy);
addEventListener("hashchange", show);
show();
`;

function command(id: string, label: string): string {
  return `<div class="command"><pre id="${id}"></pre><button type="button" data-copies="${id}" aria-label="Copy ${label}" aria-live="polite">Copy</button></div>`;
}

/** Self-contained HTML. */
export const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>dcpipe rendezvous</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>dcpipe rendezvous</h1>
<noscript><p>The part of the address behind # is the code. Without JavaScript this page cannot show it; on a terminal:
dcpipe receive CODE --rendezvous URL</p></noscript>
<section id="with" aria-live="polite" hidden>
<p>Somebody waits for you with this code. It works once.</p>
<p class="code" id="code"></p>
<p>Run one of these in a terminal, whichever they told you:</p>
<h2>Receive files</h2>
${command("receive", "the command to receive")}
<h2>Send a file</h2>
${command("send", "the command to send")}
<h2>Join a pipe</h2>
${command("pipe", "the command to join a pipe")}
<h2>Reach forwarded ports</h2>
${command("forward", "the command to reach forwarded ports")}
</section>
<section id="bad" role="alert" hidden>
<p>What stands behind the # in this address is no code; a code looks like 7-guitar-sandwich:</p>
<p class="code" id="wrong"></p>
<p>Ask for the link again.</p>
</section>
<section id="without">
<p>This server introduces two machines to each other. Then they talk directly, end-to-end encrypted; what they say does not
come here. To send a file:</p>
${command("start", "the command to send a file")}
<p>It prints what to run on the other machine.</p>
</section>
<h2>dcpipe is not installed?</h2>
<p>It needs Node.js 20.19 or newer:</p>
<div class="command"><pre id="install">npm install -g dcpipe</pre><button type="button" data-copies="install" aria-label="Copy the command to install" aria-live="polite">Copy</button></div>
</main>
<script>${SCRIPT}</script>
</body>
</html>
`;

function hash(text: string): string {
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}

export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  `style-src ${hash(STYLE)}`,
  `script-src ${hash(SCRIPT)}`,
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");
