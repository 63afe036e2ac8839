/** Where this page comes from, and the rendezvous that follows from it. */

export interface Place {
  /** Served by a rendezvous; else a file of the user's. */
  readonly hosted: boolean;
  /** Its rendezvous' URL, ending with a slash; undefined when the user has to name one. */
  readonly rendezvous: string | undefined;
  /** Why nothing can be done here, for people. */
  readonly unable: string | undefined;
}

/** What `dcpipe page --rendezvous` has written into a file. */
const GIVEN = 'meta[name="dcpipe-rendezvous"]';

export function findPlace(): Place {
  if (location.protocol === "http:" || location.protocol === "https:")
    return { hosted: true, rendezvous: plain(new URL(".", location.href)), unable: findObstacle() };
  const given = document.querySelector<HTMLMetaElement>(GIVEN)?.content ?? "";
  return { hosted: false, rendezvous: given === "" ? undefined : given, unable: findObstacle() };
}

function findObstacle(): string | undefined {
  if (!isSecureContext)
    return "Browsers keep what this page needs (cryptography, files) to pages that come by https, or from this very machine. This one came by http.";
  if (!("RTCPeerConnection" in globalThis))
    return "This browser has no WebRTC, or a setting or an extension has switched it off.";
  return undefined;
}

/** What stands behind the # of the address, which no server sees. At most as long as anybody should look at. */
export function fragment(): string {
  const text = location.hash.slice(1, 2048);
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * A path may hold what a shell takes for more than a path, and whoever made the link chose it. The commands that the page shows are to be
 * pasted.
 */
function plain(url: URL): string {
  const path = url.pathname.replace(
    /%(?![0-9A-Fa-f]{2})|[^\w/.~%-]/g,
    (c) => "%" + c.charCodeAt(0).toString(16).padStart(2, "0"),
  );
  return url.origin + path;
}

/** A rendezvous on this machine introduces this machine to itself: no server has to be asked for its address. */
export function isLoopback(url: string): boolean {
  const { hostname } = new URL(url);
  return /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}
