/**
 * The site's own Content-Security-Policy, kept, but for what stands against its being here: our script in its documents, and the outer
 * page around it (CSP 3).
 */

/** About frames, which is ours to say; about plain HTTP, which may be what this origin is reached by; and to whom to report, who would learn of this origin. */
const DROPPED = new Set([
  "frame-ancestors",
  "upgrade-insecure-requests",
  "block-all-mixed-content",
  "report-uri",
  "report-to",
]);

/** One field, which may hold several policies. `hash`: of an inline script, as `sha256-...`; undefined when there is none. */
export function amendPolicy(value: string, hash: string | undefined): string {
  return value
    .split(",")
    .map((policy) => amendOne(policy, hash))
    .filter((policy) => policy !== "")
    .join(", ");
}

/** Who may frame a document of the site: itself and the outer page. */
export function framePolicy(outer: string): string {
  return `frame-ancestors 'self' ${outer}`;
}

function amendOne(policy: string, hash: string | undefined): string {
  const directives: (readonly [name: string, sources: string[]])[] = [];
  for (const text of policy.split(";")) {
    const [name = "", ...sources] = text.trim().split(/[\t\n\f\r ]+/);
    const lower = name.toLowerCase();
    // The first of a name counts, as in browsers.
    if (lower === "" || DROPPED.has(lower) || directives.some(([each]) => each === lower)) continue;
    directives.push([lower, sources]);
  }
  const find = (name: string): string[] | undefined => directives.find(([each]) => each === name)?.[1];
  // A <script> with text is of the first of these that is there.
  const scripts = find("script-src-elem") ?? find("script-src") ?? find("default-src");
  if (hash !== undefined && scripts && !allowsInline(scripts)) {
    const isNone = scripts.length === 1 && scripts[0]?.toLowerCase() === "'none'";
    const allowed = [...(isNone ? [] : scripts), `'${hash}'`];
    // What default-src says of all else stays.
    if (scripts === find("default-src")) directives.push(["script-src-elem", allowed]);
    else scripts.splice(0, scripts.length, ...allowed);
  }
  return directives.map(([name, sources]) => [name, ...sources].join(" ")).join("; ");
}

/** A hash or a nonce in the list takes 'unsafe-inline' its meaning: then none is added, which would do so, too. */
function allowsInline(sources: readonly string[]): boolean {
  const lower = sources.map((source) => source.toLowerCase());
  const strict = /^'(?:nonce-|sha(?:256|384|512)-|strict-dynamic')/;
  return lower.includes("'unsafe-inline'") && !lower.some((source) => strict.test(source));
}
