/** node-datachannel (libdatachannel, libjuice), for the two files that make connections of it. */
import { createRequire } from "node:module";
import type * as NodeDataChannel from "node-datachannel";
import { DcpipeError } from "../../errors.ts";
import type { Certificate, PemCertificate } from "../../transport/certificate.ts";

export type { DataChannel, PeerConnection, RtcConfig, SelectedCandidateInfo } from "node-datachannel";

type Rtc = typeof NodeDataChannel;

let loaded: Rtc | undefined;

/** Loads the native module on first use: commands that never connect should not pay for it. */
export function load(): Rtc {
  try {
    loaded ??= createRequire(import.meta.url)("node-datachannel") as Rtc;
    return loaded;
  } catch (cause) {
    throw new DcpipeError(
      "NO_WEBRTC",
      `the native module node-datachannel could not be loaded for ${process.platform} ${process.arch}`,
      { cause },
    );
  }
}

/** Loads the native module ahead of its first use. Throws NO_WEBRTC. */
export function preload(): void {
  load();
}

/** All that are made here are such. Throws NO_WEBRTC. */
export function pemOf(certificate: Certificate): PemCertificate {
  if (!("keyPem" in certificate))
    throw new DcpipeError("NO_WEBRTC", "this certificate was made for another WebRTC library");
  return certificate as PemCertificate;
}
