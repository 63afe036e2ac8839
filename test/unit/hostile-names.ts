/** Names and link targets that a hostile sender may send, and what must come of each on Linux and on Windows. */

/** "broken": it is no text that a record may hold, so the protocol is broken. "either": harmless, so both are right. */
export type Verdict = "taken" | "refused" | "broken" | "either";

export interface HostileName {
  readonly what: string;
  /** Bytes are sent as they are. */
  readonly name: string | Uint8Array;
  readonly linux: Verdict;
  readonly windows: Verdict;
  readonly why: string;
}

export interface HostileTarget {
  readonly what: string;
  readonly target: string | Uint8Array;
  /** Directories below the target's root in which the link stands. */
  readonly depth: number;
  readonly linux: Verdict;
  readonly windows: Verdict;
  readonly why: string;
}

const refused = (what: string, name: string, why: string): HostileName => ({
  what,
  name,
  linux: "refused",
  windows: "refused",
  why,
});
const windowsOnly = (what: string, name: string, why: string): HostileName => ({
  what,
  name,
  linux: "taken",
  windows: "refused",
  why,
});
const taken = (what: string, name: string, why: string): HostileName => ({
  what,
  name,
  linux: "taken",
  windows: "taken",
  why,
});
const broken = (what: string, name: string | Uint8Array, why: string): HostileName => ({
  what,
  name,
  linux: "broken",
  windows: "broken",
  why,
});

const PATH = "it is a path, and not one component";
const TERMINAL = "it rewrites what a terminal shows";
const HIDDEN = "it looks like another name";
const DEVICE = "it is a device on Windows, with any extension";
const WINDOWS = "Windows cannot hold it, or holds it under another name";
const UTF8 = "names are UTF-8";

/** A character that must not be in any name, in the middle of one. */
function inside(what: string, character: string, why: string): HostileName {
  return refused(what, `a${character}b`, why);
}

export const NAMES: readonly HostileName[] = [
  refused("nothing", "", "it is no name"),
  refused("the directory itself", ".", "it is no name"),
  refused("the directory above", "..", "it leads out"),
  windowsOnly("three dots", "...", "Windows takes dots at the end away"),
  refused("an absolute path", "/etc/passwd", PATH),
  refused("a slash", "/", PATH),
  refused("a path down", "a/b", PATH),
  refused("a path up", "../x", PATH),
  refused("a path up in the middle", "a/../../x", PATH),
  refused("a slash at the end", "a/", PATH),
  refused("a slash twice", "a//b", PATH),
  refused("a path from here", "./a", PATH),
  refused("a backslash", "a\\b", PATH),
  refused("a path up with backslashes", "..\\x", PATH),
  refused("a backslash in front", "\\x", PATH),
  refused("a share", "\\\\server\\share", PATH),
  refused("a long path of Windows", "\\\\?\\C:\\x", PATH),
  refused("a device path of Windows", "\\\\.\\PhysicalDrive0", PATH),
  refused("a path of the NT kernel", "\\??\\C:\\x", PATH),
  refused("a drive", "C:", "it is another place on Windows"),
  refused("a path on a drive", "C:\\x", "it is another place on Windows"),
  refused("a path on a drive with a slash", "c:/x", "it is another place on Windows"),
  refused("a path from where a drive stands", "c:foo", "it is another place on Windows"),
  refused("a NUL at the end", "a.txt\0", "system calls end names there"),
  refused("a NUL in front of an extension", "a.exe\0.txt", "system calls end names there"),
  refused("only a NUL", "\0", "system calls end names there"),
  ...["con", "CON", "PRN", "aux", "AUX", "nul", "NUL", "COM1", "com9", "LPT1", "lpt9"].map((name) =>
    windowsOnly(`the device ${name}`, name, DEVICE),
  ),
  ...["nul.txt", "CON.tar.gz", "LPT9.log", "aux .txt", "com1  .x", "COM0"].map((name) =>
    windowsOnly(`the device ${name}`, name, DEVICE),
  ),
  windowsOnly("the device COM1 with a raised digit", "COM\u00b9", DEVICE),
  windowsOnly("the device COM2 with a raised digit", "com\u00b2.txt", DEVICE),
  windowsOnly("the device LPT3 with a raised digit", "LPT\u00b3", DEVICE),
  taken("almost the device COM", "com10", "there is no such device"),
  taken("almost the device NUL", "null", "there is no such device"),
  taken("the device NUL as an extension", "x.nul", "only the stem counts"),
  windowsOnly("a dot at the end", "a.", WINDOWS),
  windowsOnly("dots at the end", "a...", WINDOWS),
  windowsOnly("a space at the end", "a ", WINDOWS),
  windowsOnly("a dot and a space at the end", "a. ", WINDOWS),
  windowsOnly("two dots and a space", ".. ", "Windows takes it for the directory above"),
  windowsOnly("a dot and a space", ". ", "Windows takes it for the directory itself"),
  taken("a space in front", " a", "it is a name like another"),
  windowsOnly("a stream of a file", "file.txt:stream", WINDOWS),
  windowsOnly("the main stream of a file", "file.txt::$DATA", WINDOWS),
  ...["*", "?", '"', "<", ">", "|"].map((character) =>
    windowsOnly(`a ${character}`, `a${character}b`, WINDOWS),
  ),
  taken("an option", "-rf", "no shell sees it"),
  taken("a long option", "--force", "no shell sees it"),
  taken("a command", "$(reboot)", "no shell sees it"),
  taken("a command with semicolons", "a;reboot", "no shell sees it"),
  taken("a percent sign", "%2e%2e%2fx", "nobody decodes it"),
  taken("a format", "%s%n", "nobody formats it"),
  taken("somebody's home", "~", "no shell sees it"),
  taken("a hidden file", ".bashrc", "it is a name like another: what may be overwritten is asked elsewhere"),
  taken("a shortcut of Windows", "photo.jpg.lnk", "it is a file like another"),
  taken("a page of the web", "x.url", "it is a file like another"),
  taken("a constructor", "constructor", "no object has it for a key"),
  taken("a prototype", "__proto__", "no object has it for a key"),
  inside("a line break", "\n", TERMINAL),
  inside("a carriage return", "\r", TERMINAL),
  inside("a tab", "\t", TERMINAL),
  inside("a bell", "\u0007", TERMINAL),
  inside("a backspace", "\b", TERMINAL),
  inside("a DEL", "\u007f", TERMINAL),
  inside("a colour (CSI)", "\u001b[31m", TERMINAL),
  inside("a title (OSC)", "\u001b]0;evil\u0007", TERMINAL),
  inside("a link for terminals (OSC 8)", "\u001b]8;;http://example.com\u001b\\", TERMINAL),
  inside("the clipboard (OSC 52)", "\u001b]52;c;eA==\u0007", TERMINAL),
  inside("a device control string", "\u001bPq\u001b", TERMINAL),
  inside("a bare ESC", "\u001b", TERMINAL),
  inside("an 8-bit CSI", "\u009b31m", TERMINAL),
  inside("an 8-bit OSC", "\u009d0;evil\u009c", TERMINAL),
  inside("a next line (C1)", "\u0085", TERMINAL),
  inside("a bidi override", "\u202egnp.exe", HIDDEN),
  inside("a bidi embedding", "\u202a", HIDDEN),
  inside("the end of a bidi embedding", "\u202c", HIDDEN),
  inside("a bidi isolate", "\u2066", HIDDEN),
  inside("the end of a bidi isolate", "\u2069", HIDDEN),
  inside("a left-to-right mark", "\u200e", HIDDEN),
  inside("a right-to-left mark", "\u200f", HIDDEN),
  inside("an Arabic letter mark", "\u061c", HIDDEN),
  inside("a zero-width space", "\u200b", HIDDEN),
  inside("a word joiner", "\u2060", HIDDEN),
  inside("an invisible plus", "\u2064", HIDDEN),
  inside("a byte order mark", "\ufeff", HIDDEN),
  inside("an interlinear annotation", "\ufff9", HIDDEN),
  inside("a line separator", "\u2028", TERMINAL),
  inside("a paragraph separator", "\u2029", TERMINAL),
  taken("an emoji of three people", "👩\u200d👩\u200d👧.png", "it takes joiners to write"),
  taken("a Persian word", "می\u200cخواهم.txt", "it takes a non-joiner to write"),
  taken("Hebrew", "שלום.txt", "letters may go from right to left"),
  taken("accents", "e\u0301\u0308", "letters may have them"),
  taken("255 bytes", "x".repeat(255), "filesystems take as much"),
  refused("256 bytes", "x".repeat(256), "filesystems do not take it"),
  refused("256 bytes in 128 letters", "é".repeat(128), "filesystems do not take it"),
  refused("1,024 bytes", "x".repeat(1024), "filesystems do not take it"),
  broken("1,025 bytes", "x".repeat(1025), "a record does not hold it"),
  refused("a partial file", "x.123-456.dcpipe-part", "it would pass for what an earlier try left"),
  refused("nothing but the end of a partial file", ".dcpipe-part", "it would pass for one of ours"),
  refused("a partial file in capitals", "x.1-2.DCPIPE-PART", "case does not count everywhere"),
  taken("almost a partial file", "x.dcpipe-parts", "it is none"),
  broken("bytes that are no UTF-8", Uint8Array.of(0x61, 0xff), UTF8),
  broken("half a surrogate pair", Uint8Array.of(0xed, 0xa0, 0x80), UTF8),
  broken("a surrogate pair as two characters", Uint8Array.of(0xed, 0xa0, 0xbd, 0xed, 0xb2, 0xa9), UTF8),
  broken("an overlong slash", Uint8Array.of(0xc0, 0xaf), UTF8),
  broken("an overlong dot, twice", Uint8Array.of(0xc0, 0xae, 0xc0, 0xae), UTF8),
  broken("an overlong NUL", Uint8Array.of(0x61, 0xc0, 0x80), UTF8),
  broken("a character above U+10FFFF", Uint8Array.of(0xf4, 0x90, 0x80, 0x80), UTF8),
  broken("a character that is cut", Uint8Array.of(0xe2, 0x80), UTF8),
];

/** Names that are one where case and normalization do not count. */
export const TWINS: readonly (readonly [what: string, first: string, second: string])[] = [
  ["README and readme", "README", "readme"],
  ["composed and decomposed", "caf\u00e9", "cafe\u0301"],
  ["both at once", "CAF\u00c9", "cafe\u0301"],
  ["the angstrom sign", "\u212b", "\u00e5"],
  ["the kelvin sign", "\u212a", "k"],
];

const target = (
  what: string,
  text: string | Uint8Array,
  depth: number,
  verdict: Verdict,
  why: string,
  windows: Verdict = verdict,
): HostileTarget => ({ what, target: text, depth, linux: verdict, windows, why });

const OUT = "it leads out of what is received";
const ELSEWHERE = "it does not start from here";
const MIDDLE = "behind a name that is a link, nobody knows where .. leads";

export const TARGETS: readonly HostileTarget[] = [
  target("nothing", "", 0, "refused", "it leads nowhere"),
  target("an absolute path", "/etc/passwd", 0, "refused", ELSEWHERE),
  target("the root", "/", 3, "refused", ELSEWHERE),
  target("two slashes", "//server/share", 3, "refused", ELSEWHERE),
  target("into /proc", "/proc/self/environ", 0, "refused", ELSEWHERE),
  target("the directory above, at the top", "..", 0, "refused", OUT),
  target("the directory above with a slash", "../", 0, "refused", OUT),
  target("a file above", "../x", 0, "refused", OUT),
  target("two up", "../../x", 1, "refused", OUT),
  target("as far up as there is", `${"../".repeat(40)}etc/passwd`, 2, "refused", OUT),
  target("up behind a dot", "./../x", 0, "refused", OUT),
  target("up behind slashes", "..//..//x", 1, "refused", OUT),
  target("up in the middle", "a/../../x", 0, "refused", OUT),
  target("up in the middle, and down again", "a/../x", 1, "refused", MIDDLE),
  target("up at the end", "a/..", 2, "refused", MIDDLE),
  target("up and down and up", "../a/../../x", 1, "refused", OUT),
  target("backslashes", "..\\..\\x", 0, "refused", "it is a path on Windows"),
  target("a backslash in the middle", "a\\b", 0, "refused", "it is a path on Windows"),
  target("a drive", "C:\\x", 0, "refused", "it is another place on Windows"),
  target("a drive with a slash", "c:/x", 0, "refused", "it is another place on Windows"),
  target("a file where a drive stands", "c:x", 0, "refused", "it is another place on Windows"),
  target("a share", "\\\\server\\share", 0, "refused", "it is another place on Windows"),
  target("a long path of Windows", "\\\\?\\C:\\x", 0, "refused", "it is another place on Windows"),
  target("a NUL", "a\0/../../x", 0, "refused", "system calls end names there"),
  target("a NUL at the end", "a\0", 0, "refused", "system calls end names there"),
  target("a line break", "a\nb", 0, "refused", TERMINAL),
  target("a colour", "\u001b[31ma", 0, "refused", TERMINAL),
  target("an 8-bit CSI", "\u009b31ma", 0, "refused", TERMINAL),
  target("a bidi override", "a\u202eb", 0, "refused", HIDDEN),
  target("4,097 bytes", "x".repeat(4097), 0, "broken", "a record does not hold it"),
  target("bytes that are no UTF-8", Uint8Array.of(0x61, 0xff), 0, "broken", UTF8),
  target("an overlong path up", Uint8Array.of(0x2e, 0x2e, 0xc0, 0xaf, 0x78), 0, "broken", UTF8),
  target("a neighbour", "a", 0, "taken", "it stays here"),
  target("itself", "link", 0, "taken", "it leads nowhere, and nobody follows it"),
  target("a path down", "a/b/c", 0, "taken", "it stays here"),
  target("the directory above, one deep", "..", 1, "taken", "that is where we receive"),
  target("a neighbour of the directory above", "../a", 1, "taken", "it stays here"),
  target("two up, two deep", "../../a/b", 2, "taken", "it stays here"),
  target("a name with dots", "..a/...", 0, "taken", "these are names"),
  target("somebody's home", "~/.ssh", 0, "taken", "no shell sees it"),
  target("something like /proc", "proc/self/environ", 0, "taken", "it stays here"),
  target("the directory itself", ".", 0, "either", "it stays here"),
  target("a neighbour from here", "./x", 0, "either", "it stays here"),
  target("a slash at the end", "a/", 0, "either", "it stays here"),
  target("two slashes in the middle", "a//b", 0, "either", "it stays here"),
  target("4,096 bytes", "x/".repeat(2048).slice(0, -1) + "x", 0, "either", "no filesystem may take it"),
  target("a stream of a file", "file:stream", 0, "taken", "it stays here", "either"),
  target("the device NUL", "nul", 0, "taken", "it stays here", "either"),
];
