/** Certificates that the browser makes and keeps the keys of. */
import { DcpipeError } from "../../errors.ts";
import type { Certificate } from "../../transport/certificate.ts";

interface BrowserCertificate extends Certificate {
  readonly rtc: RTCCertificate;
}

/** A certificate with a random key; good for a month. Rejects with NO_WEBRTC. */
export async function randomCertificate(): Promise<BrowserCertificate> {
  if (typeof RTCPeerConnection === "undefined")
    throw new DcpipeError("NO_WEBRTC", "this browser has no WebRTC, or it is switched off");
  const algorithm = { name: "ECDSA", namedCurve: "P-256" };
  try {
    const rtc = await RTCPeerConnection.generateCertificate(algorithm);
    return { rtc, fingerprint: fingerprintIn(toldBy(rtc) ?? (await offeredWith(rtc))) };
  } catch (cause) {
    throw new DcpipeError("NO_WEBRTC", "this browser makes no certificate for WebRTC", { cause });
  }
}

/** Throws NO_WEBRTC for one that was made by somebody else. */
export function rtcOf(certificate: Certificate): RTCCertificate {
  if (!("rtc" in certificate))
    throw new DcpipeError("NO_WEBRTC", "this certificate was not made by the browser");
  return (certificate as BrowserCertificate).rtc;
}

/** `sha-256 AB:CD:...`; undefined in browsers that do not tell (Firefox). */
function toldBy(rtc: Partial<RTCCertificate>): string | undefined {
  const fingerprints = rtc.getFingerprints?.() ?? [];
  const { value } = fingerprints.find(({ algorithm }) => algorithm === "sha-256") ?? {};
  return value === undefined ? undefined : `sha-256 ${value}`;
}

/** The description of a connection that is never made has it, too. */
async function offeredWith(rtc: RTCCertificate): Promise<string> {
  const connection = new RTCPeerConnection({ certificates: [rtc] });
  try {
    connection.createDataChannel("");
    return (await connection.createOffer()).sdp ?? "";
  } finally {
    connection.close();
  }
}

/** Throws when there is none. */
function fingerprintIn(text: string): Uint8Array {
  const hex = /\bsha-256 ([0-9a-f]{2}(?::[0-9a-f]{2}){31})\b/i.exec(text)?.[1];
  if (hex === undefined) throw new TypeError("no fingerprint");
  return Uint8Array.from(hex.split(":"), (byte) => parseInt(byte, 16));
}
