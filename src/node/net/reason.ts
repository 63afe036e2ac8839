/** Why a connection by TCP or TLS was not made, for people. */

/** By Node's error codes. */
const REASONS: Readonly<Record<string, string>> = {
  ENOTFOUND: "there is no host of this name",
  EAI_AGAIN: "its name cannot be looked up at the moment",
  ECONNREFUSED: "the connection was refused",
  ECONNRESET: "the connection was cut",
  EPIPE: "the connection was cut",
  ETIMEDOUT: "it does not answer",
  EHOSTUNREACH: "there is no way to it",
  ENETUNREACH: "there is no way to its network",
  CERT_HAS_EXPIRED: "its certificate has expired",
  CERT_NOT_YET_VALID: "its certificate is not valid yet",
  DEPTH_ZERO_SELF_SIGNED_CERT: "its certificate is self-signed",
  SELF_SIGNED_CERT_IN_CHAIN: "its certificate is signed by an authority that is not known here",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "its certificate is signed by an authority that is not known here",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    "its certificate is signed by an authority that is not known here, or comes without those in between",
  ERR_TLS_CERT_ALTNAME_INVALID: "its certificate is for another host",
};

/** What OpenSSL says of records that are none. */
const NO_TLS = ["wrong version number", "packet length too long"];

export function reasonOf(error: Error): string {
  const { code = "" } = error as NodeJS.ErrnoException;
  // error:0A00010B:SSL routines:ssl3_get_record:wrong version number:../deps/openssl/...
  const tls = /SSL routines:[^:]*:([^:]+)/.exec(error.message)?.[1];
  if (tls !== undefined) return NO_TLS.includes(tls) ? "it does not speak TLS" : `TLS failed: ${tls}`;
  return REASONS[code] ?? (error.message || code);
}
