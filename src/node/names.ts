/** The addresses that names stand for, as this machine sees it. */
import { lookup } from "node:dns/promises";
import { isIP, isIPv6, SocketAddress } from "node:net";
import { DcpipeError } from "../errors.ts";

/** The system's resolver asks several servers, each several times; nobody waits longer for a connection to begin. */
const TIMEOUT_MS = 10_000;
/** Addresses of one name that are worth a try. */
const MAX_ADDRESSES = 16;

/** Never asked of a server (RFC 6761, section 6.3): nobody else may say that our loopback is somewhere else. */
const LOCALHOST = /^(?:.*\.)?localhost\.?$/i;
const LOOPBACK = ["127.0.0.1", "::1"];

/**
 * The IP addresses of a host, each once, in the order of preference and in their canonical text: `[::1]`, `0:0::1` and `::1%lo`
 * are `::1`, and `::ffff:127.0.0.1` is `127.0.0.1`, so that a rule about addresses meets each in one form. Only link-local
 * addresses keep their zone (RFC 4007, section 11). Rejects with NAME_UNKNOWN.
 */
export async function resolveName(host: string): Promise<readonly string[]> {
  // In the brackets of a URL, the % before a zone is written %25 (RFC 6874, section 2).
  const bare = host.replace(/^\[(.*)\]$/, (_, inner: string) => inner.replace("%25", "%"));
  if (isIP(bare) !== 0) return [canonical(bare)];
  if (LOCALHOST.test(bare)) return LOOPBACK;
  // The C library would read such a name up to the NUL; no name of a host has any of these.
  if (bare === "" || /[\s\p{Cc}]/u.test(bare)) throw unknown("is no name of a host");
  const addresses = await within(lookup(bare, { all: true, order: "verbatim" })).catch((cause: unknown) => {
    if (cause instanceof DcpipeError) throw cause;
    const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
    throw unknown(
      code === "ENOTFOUND"
        ? "stands for no address"
        : code === "EAI_AGAIN"
          ? "cannot be looked up: no name server answers"
          : `cannot be looked up: ${String(code ?? cause)}`,
      cause,
    );
  });
  const found = [...new Set(addresses.map(({ address }) => canonical(address)))];
  if (found.length === 0) throw unknown("stands for no address");
  return found.slice(0, MAX_ADDRESSES);

  function unknown(what: string, cause?: unknown): DcpipeError {
    return new DcpipeError("NAME_UNKNOWN", `the name ${JSON.stringify(bare)} ${what}`, { cause });
  }

  /** The system's resolver cannot be stopped; its answer, when it comes, is for nobody. */
  function within<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(unknown(`could not be looked up in ${TIMEOUT_MS / 1000} seconds`));
      }, TIMEOUT_MS);
      work.then(resolve, reject).finally(() => {
        clearTimeout(timer);
      });
    });
  }
}

function canonical(text: string): string {
  if (!isIPv6(text)) return text;
  const [address = text, zone] = text.split("%");
  const plain = new SocketAddress({ address, family: "ipv6" }).address;
  if (plain.startsWith("::ffff:") && plain.includes(".")) return plain.slice("::ffff:".length);
  return zone !== undefined && /^fe[89ab]/.test(plain) ? `${plain}%${zone}` : plain;
}
