/** The pages of sites: HTML without a script in it, but for the one that leads on. Everything loaded is of the same origin. */
import type { SitePlace } from "./site.ts";

export const STYLE = `
:root { color-scheme: light dark; --edge: color-mix(in srgb, currentColor 22%, transparent); --bar: color-mix(in srgb, Canvas 92%, currentColor);
  --good: light-dark(#1a7f37, #3fb950); --wait: light-dark(#9a6700, #d29922); --bad: light-dark(#cf222e, #f85149); --dot: var(--wait); }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0; }
h1 { font-size: 1.35rem; line-height: 1.3; margin: 0 0 0.5rem; }
.text { max-width: 36rem; margin: 0 auto; padding: 2rem 1.25rem; }
.text p { margin: 0.5rem 0; overflow-wrap: anywhere; }
pre { padding: 0.5rem 0.75rem; border: 1px solid var(--edge); border-radius: 0.4rem; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 0.95rem/1.5 ui-monospace, monospace; }
.outer { display: flex; flex-direction: column; height: 100vh; height: 100dvh; }
[data-state=shown] { --dot: var(--good); }
[data-state=lost], [data-state=none] { --dot: var(--bad); }
header { display: flex; align-items: center; gap: 0.6rem; min-height: 2.25rem; padding: 0 0.75rem; background: var(--bar);
  border-bottom: 1px solid var(--edge); font-size: 0.875rem; white-space: nowrap; }
header::before { content: ""; flex: none; width: 0.6rem; height: 0.6rem; border-radius: 50%; background: var(--dot); }
#name { font-weight: 600; overflow: hidden; text-overflow: ellipsis; }
#path { opacity: 0.75; }
#tab { margin-left: auto; padding: 0.35rem 0; }
a { color: LinkText; }
#notice { display: flex; flex-wrap: wrap; gap: 0.25rem 0.75rem; padding: 0.5rem 0.75rem; border-bottom: 1px solid var(--edge);
  border-left: 0.3rem solid var(--dot); font-size: 0.925rem; }
.outer main { flex: 1; min-height: 0; display: flex; overflow: auto; }
#panel { margin: 12vh auto auto; width: 100%; }
#site { flex: 1; border: 0; width: 100%; background: Canvas; }
#choice ul { list-style: none; padding: 0; display: grid; gap: 0.5rem; }
#back { font: inherit; padding: 0; border: 0; background: none; color: LinkText; text-decoration: underline; cursor: pointer; }
#choice button { font: inherit; width: 100%; padding: 0.5rem 0.75rem; text-align: left; border: 1px solid var(--edge); border-radius: 0.4rem;
  background: var(--bar); color: inherit; cursor: pointer; overflow-wrap: anywhere; }
#choice button:hover { border-color: currentColor; }
.words { font: 600 1.05rem/1.4 ui-monospace, monospace; }
.quiet { opacity: 0.8; font-size: 0.9rem; }
`;

function head(title: string, data = ""): string {
  return `<!doctype html>
<html lang="en"${data}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${title}</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>`;
}

/** What of the TARGET's site may be done in a frame: all but to lead the page around it elsewhere. */
const SANDBOX =
  "allow-scripts allow-same-origin allow-forms allow-popups allow-popups-to-escape-sandbox allow-modals allow-downloads allow-pointer-lock";

/** The outer page. Its script fills in what there is to say. */
export function outerPage({ inner, rendezvous }: SitePlace): string {
  return `${head("dcpipe", ` data-inner="${attribute(inner)}" data-rendezvous="${attribute(rendezvous)}" data-state="connecting"`)}
<body class="outer">
<header>
<span id="state" role="status">Loading</span>
<span id="name"></span>
<span id="path"></span>
<a id="tab" target="_blank" rel="noopener noreferrer" hidden>Open in a tab</a>
</header>
<div id="notice" role="alert" hidden><span id="said"></span> <a id="leave" target="_blank" rel="noopener noreferrer" hidden></a>
<button id="back" type="button" hidden>Back to the site</button></div>
<main>
<div id="panel" class="text" aria-live="polite">
<h1 id="headline">Loading</h1>
<p id="detail"></p>
<noscript><p>This page needs JavaScript: it brings the site from another machine.</p></noscript>
<div id="choice" hidden><ul id="targets"></ul></div>
<div id="verify" hidden><p class="quiet">If the other side asks, it must show the same words:</p><p class="words" id="words"></p></div>
</div>
<iframe id="site" hidden sandbox="${SANDBOX}" allow="autoplay; clipboard-write; encrypted-media; fullscreen; picture-in-picture" referrerpolicy="no-referrer"></iframe>
</main>
<iframe src="${attribute(inner)}/.dcpipe/bridge" hidden title="Connection" tabindex="-1"></iframe>
<script src="/.dcpipe/outer.js"></script>
</body>
</html>
`;
}

export function bridgePage({ outer }: SitePlace): string {
  return `<!doctype html>
<html lang="en" data-outer="${attribute(outer)}">
<meta charset="utf-8">
<title>dcpipe</title>
<script src="/.dcpipe/bridge.js"></script>
</html>
`;
}

/** At the inner origin, where no worker answers. */
export const ABSENT_PAGE = `${head("No connection - dcpipe")}
<body>
<main class="text">
<h1>No connection to the site</h1>
<p>It comes through another tab, the one that the link has opened, and that tab has to stay open.</p>
<p>If it is open: <a href="">load this page again</a>, without holding Shift. If not, open the site with a new link; links work once.</p>
</main>
</body>
</html>
`;

/** At a rendezvous without names for sites. */
export const NO_SITES_PAGE = `${head("No sites here - dcpipe")}
<body>
<main class="text">
<h1>This server cannot show sites</h1>
<p>Each site needs a name of its own, so that it can read neither another site nor this page. This server has none to give.</p>
<p>Whoever runs it can add them: a wildcard name with its certificate, and</p>
<pre>dcpipe rendezvous --public-url https://HOST/ --site-url 'https://*.sites.HOST'</pre>
<p>Without that, the site can be reached from a terminal:</p>
<pre>dcpipe forward CODE --rendezvous URL</pre>
<p class="quiet">CODE is what stands behind the # in the address of this page. It was not sent to the server, and is not used up.</p>
</main>
</body>
</html>
`;

/** Leads on to an outer origin with a new LABEL. Nothing of the fragment is sent. */
export const TO_OUTER_SCRIPT = `
"use strict";
const bytes = crypto.getRandomValues(new Uint8Array(12));
const label = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
location.replace(document.documentElement.dataset.outer.replace("*", label) + "/" + location.hash);
`;

export function toOuterPage(pattern: string): string {
  return `${head("dcpipe", ` data-outer="${attribute(pattern)}"`)}
<body>
<main class="text"><h1>One moment</h1><noscript><p>This page needs JavaScript: it brings a site from another machine.</p></noscript></main>
<script>${TO_OUTER_SCRIPT}</script>
</body>
</html>
`;
}

function attribute(text: string): string {
  return text.replace(/[&<>"']/g, (each) => `&#${each.charCodeAt(0)};`);
}
