/** Pages of the worker's own, where the site has none. */

const STYLE =
  ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:0 auto;padding:2rem 1rem}h1{font-size:1.3rem}";

/** `headline` and `text` are shown as text. `again`: a link to load the same address again. */
export function page(status: number, headline: string, text: string): Response {
  const html =
    `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
    `<title>${escape(headline)}</title><link rel="icon" href="data:,"><style>${STYLE}</style>` +
    `<h1>${escape(headline)}</h1><p>${escape(text)}</p><p><a href="">Try again</a></p></html>`;
  return new Response(html, {
    status,
    headers: {
      "content-type": "text/html; charset=utf-8",
      "content-security-policy":
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'",
      "cache-control": "no-store",
    },
  });
}

/** No tab has a connection. */
export function noConnection(): Response {
  return page(
    503,
    "No connection to the site",
    "It comes through another tab, the one that the link has opened, and that tab has to stay open. Open it again with a new link.",
  );
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (each) => `&#${each.charCodeAt(0)};`);
}
