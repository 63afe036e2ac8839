/**
 * Session descriptions of strangers (RFC 8866, RFC 8829, RFC 8841): the few parts that a data channel needs are taken out,
 * checked one by one, and written anew. Nothing else of a stranger's text reaches the WebRTC library, which is C++.
 */
import { DcpipeError } from "../errors.ts";

/** What a description says, checked. */
export interface Description {
  readonly type: "offer" | "answer";
  readonly mid: string;
  readonly ufrag: string;
  readonly pwd: string;
  /** SHA-256 of the certificate, `AB:CD:...` in capitals. */
  readonly fingerprint: string;
  readonly setup: "actpass" | "active" | "passive";
  readonly sctpPort: number;
  /** Bytes of the longest message that it takes, 0 for any. */
  readonly maxMessageSize: number;
  /** Written by libdatachannel, as ours are: its ICE replies to our checks before it has our description. */
  readonly early: boolean;
  /** Candidate attributes as they stand, without `a=`; not checked. */
  readonly candidates: readonly string[];
}

/** Lines of a description, and candidates in it. Browsers write some thirty lines, and a candidate for each address. */
const MAX_LINES = 512;
/** libjuice takes thirty, and what is found by checks adds to them. */
export const MAX_REMOTE_CANDIDATES = 24;
/** RFC 8841, section 6.1: what holds where nothing is said. */
const DEFAULT_MESSAGE_SIZE = 65_536;
/** What Firefox says; nobody means more. */
const MAX_MESSAGE_SIZE = 2 ** 30 - 1;

/** Reads the SDP of a description with one data channel and nothing else. Throws TOKEN_MALFORMED. */
export function parseDescription(type: "offer" | "answer", sdp: string): Description {
  const lines = sdp.split(/\r\n|\n|\r/);
  const wrong = (what: string): DcpipeError => new DcpipeError("TOKEN_MALFORMED", `the ${type} ${what}`);
  if (!sdp.startsWith("v=0")) throw wrong("holds no SDP");
  if (lines.length > MAX_LINES) throw wrong("is too long");
  const starts = lines.flatMap((line, i) => (line.startsWith("m=") ? [i] : []));
  const [start, second] = starts;
  const media = start === undefined ? undefined : lines[start];
  if (media === undefined)
    throw wrong(`has no data channel in it: the page calls createDataChannel before createOffer`);
  if (second !== undefined) throw wrong("has other media beside the data channel");
  // Today's form, and that of the drafts before RFC 8841, with the SCTP port in it: aiortc offers so.
  const [, port, protocol, format] =
    /^m=application (\d{1,5}) (\S+) (webrtc-datachannel|\d{1,5})$/.exec(media.trimEnd()) ?? [];
  if (protocol === undefined) throw wrong("has no data channel in it, but other media");
  if (!(format === "webrtc-datachannel" ? /^(UDP|TCP)\/DTLS\/SCTP$/ : /^DTLS\/SCTP$/).test(protocol))
    throw wrong("is not of WebRTC as browsers speak it today");
  // RFC 8829, section 5.3.1: port 0 says no to it.
  if (type === "answer" && port === "0") throw wrong("refuses the data channel");
  const session = lines.slice(0, start);
  const section = lines.slice(start);
  /** An attribute of the section, or else of the session. */
  const attribute = (name: string): string | undefined =>
    [...section, ...session]
      .find((line) => line.startsWith(`a=${name}:`))
      ?.slice(name.length + 3)
      .trim();
  const ufrag = attribute("ice-ufrag");
  const pwd = attribute("ice-pwd");
  // RFC 8839, section 5.4.
  if (ufrag === undefined || !/^[A-Za-z\d+/]{4,256}$/.test(ufrag)) throw wrong("has no proper a=ice-ufrag");
  if (pwd === undefined || !/^[A-Za-z\d+/]{22,256}$/.test(pwd)) throw wrong("has no proper a=ice-pwd");
  const fingerprint = [...section, ...session]
    .map((line) => /^a=fingerprint:sha-256 ((?:[\dA-F]{2}:){31}[\dA-F]{2})\s*$/i.exec(line)?.[1])
    .find((found) => found !== undefined);
  if (fingerprint === undefined) throw wrong("has no SHA-256 fingerprint");
  const setup = attribute("setup") ?? (type === "offer" ? "actpass" : "active");
  if (setup !== "active" && setup !== "passive" && !(setup === "actpass" && type === "offer"))
    throw wrong("has no proper a=setup");
  const mid = attribute("mid") ?? "0";
  if (!/^[!#$%&'*+.^`{|}~\w-]{1,32}$/.test(mid)) throw wrong("has no proper a=mid");
  const sctpPort = number(format === "webrtc-datachannel" ? attribute("sctp-port") : format, 5000);
  if (!(sctpPort >= 1 && sctpPort <= 65_535)) throw wrong("has no proper a=sctp-port");
  const maxMessageSize = number(attribute("max-message-size"), DEFAULT_MESSAGE_SIZE);
  if (Number.isNaN(maxMessageSize)) throw wrong("has no proper a=max-message-size");
  const candidates = section
    .filter((line) => line.startsWith("a=candidate:"))
    .map((line) => line.slice("a=".length).trim());
  return {
    type,
    mid,
    ufrag,
    pwd,
    fingerprint: fingerprint.toUpperCase(),
    setup,
    sctpPort,
    maxMessageSize: Math.min(maxMessageSize, MAX_MESSAGE_SIZE),
    early: /^o=rtc /m.test(sdp),
    candidates,
  };
}

/** Digits, at most 2^53 or so; NaN for anything else. */
function number(text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  return /^\d{1,15}$/.test(text) ? Number(text) : NaN;
}

/**
 * The description for our own library, without candidates: those are added one by one. `lite` makes it the controlling side
 * (RFC 8445, section 6.1.1).
 */
export function writeDescription(description: Description, lite = false): string {
  const { mid, ufrag, pwd, fingerprint, setup, sctpPort, maxMessageSize, early } = description;
  return [
    "v=0",
    "o=- 1 1 IN IP4 127.0.0.1",
    "s=-",
    "t=0 0",
    ...(lite ? ["a=ice-lite"] : []),
    `a=group:BUNDLE ${mid}`,
    "a=msid-semantic: WMS",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "c=IN IP4 0.0.0.0",
    `a=mid:${mid}`,
    `a=sctp-port:${sctpPort}`,
    `a=max-message-size:${maxMessageSize}`,
    `a=ice-ufrag:${ufrag}`,
    `a=ice-pwd:${pwd}`,
    `a=fingerprint:sha-256 ${fingerprint}`,
    // The answering side decides. It is the DTLS client, as in browsers (werift knows no other way), but not where its
    // ClientHello would go out long before the other side can read it: the next one may come half a minute too late.
    `a=setup:${early && setup === "actpass" ? "active" : setup}`,
    "",
  ].join("\r\n");
}

/** Our own description as the library wrote it, with other candidates and another limit for messages. */
export function finishDescription(
  sdp: string,
  candidates: readonly string[],
  maxMessageSize: number,
): string {
  const lines = sdp
    .split(/\r?\n/)
    .filter((line) => line !== "" && !/^a=(candidate:|end-of-candidates)/.test(line))
    .map((line) => (line.startsWith("a=max-message-size:") ? `a=max-message-size:${maxMessageSize}` : line));
  return [...lines, ...candidates.map((line) => `a=${line}`), "a=end-of-candidates", ""].join("\r\n");
}
