/** The joining side of a code: tries the rendezvous and whoever answers on the local network, each by itself. */
import { asDcpipeError, DcpipeError } from "../errors.ts";
import { JoiningIntroduction } from "../signalling/introduction.ts";
import type { Code } from "../wire/code.ts";
import { Attempt } from "./attempt.ts";
import { Ending } from "./ending.ts";
import { DEFAULT_TIMEOUT_JOINING, seconds, type CodeOptions, type Lan, type Platform } from "./options.ts";

/** Who is on the local network answers within this; after it, no from all ways tried is the last word. */
const LAN_MS = 2000;
/**
 * The rendezvous, and two answers from the local network: one may be an old one, or not meant for us. Each answer that is taken is a
 * guess allowed to somebody, so there are no more.
 */
const MAX_WAYS = 3;

interface Way {
  readonly introduction: JoiningIntroduction;
  readonly attempt: Attempt;
}

export class JoiningSide {
  readonly ending: Ending;
  readonly #platform: Platform;
  readonly #code: Code;
  readonly #options: CodeOptions;
  readonly #search = new AbortController();
  /** By URL: those that have come to nothing are no longer in it ... */
  readonly #ways = new Map<string, Way>();
  /** ... but in here. */
  readonly #tried = new Set<string>();
  #searching = true;
  #verdict: DcpipeError | undefined;

  /** Throws USAGE. */
  constructor(platform: Platform, code: Code, options: CodeOptions) {
    this.#platform = platform;
    this.#code = code;
    this.#options = options;
    const lan = options.lan === false ? undefined : platform.lan;
    const { rendezvous } = options;
    if (rendezvous === undefined && !lan)
      throw new DcpipeError("USAGE", "a code needs a rendezvous: name one with --rendezvous, or allow --lan");
    const timeoutMs = seconds(options.timeout, DEFAULT_TIMEOUT_JOINING, "timeout");
    this.ending = new Ending(options.signal, timeoutMs, () =>
      this.#tried.size === 0
        ? `nobody on this network waits with this code, and no rendezvous is named (${timeoutMs / 1000} s)`
        : `the other side did not connect within ${timeoutMs / 1000} s`,
    );
    this.ending.session.then(
      () => {
        this.#end(new DcpipeError("ABORTED", "another way was faster"));
      },
      (error: unknown) => {
        this.#end(asDcpipeError(error, "SIGNALLING"));
      },
    );
    if (this.ending.isOver()) return;
    if (rendezvous !== undefined) void this.#try(rendezvous);
    if (lan) this.#look(lan);
    else this.#searching = false;
  }

  #look(lan: Lan): void {
    void lan.find({
      nameplate: this.#code.nameplate,
      bind: this.#options.bind,
      signal: this.#search.signal,
      onfound: (url) => void this.#try(url),
      onlog: (text) => {
        this.#options.onevent?.({ event: "log", text });
      },
    });
    const timer = setTimeout(() => {
      this.#searching = false;
      this.#judge();
    }, LAN_MS);
    this.#search.signal.addEventListener("abort", () => {
      clearTimeout(timer);
    });
  }

  async #try(url: string): Promise<void> {
    if (this.ending.isOver() || this.#tried.has(url) || this.#tried.size >= MAX_WAYS) return;
    this.#tried.add(url);
    const certificate = await this.#platform.createCertificate();
    if (this.ending.isOver()) return;
    const attempt = new Attempt(this.#platform, this.#options, "joining", certificate);
    const onfailed = (error: DcpipeError): void => {
      this.#failed(url, error);
    };
    const introduction = new JoiningIntroduction({
      openSocket: this.#platform.openSocket,
      url,
      code: this.#code,
      direct: url !== this.#options.rendezvous,
      fingerprint: certificate.fingerprint,
      onintroduced: (introduced) => {
        attempt.begin(introduced, {
          post: (candidates) => {
            introduction.post(candidates);
          },
          onsession: (session, verifier) => {
            this.#ways.delete(url);
            void introduction.release(attempt.outcome());
            this.ending.resolve(session, verifier);
          },
          onfailed,
        });
      },
      oncandidates: (candidates) => {
        attempt.connection?.addCandidates(candidates);
      },
      onfailed,
      ontrouble: (trouble) => {
        if (url === this.#options.rendezvous) this.#options.onevent?.({ event: "rendezvous", trouble });
      },
    });
    this.#ways.set(url, { introduction, attempt });
  }

  #failed(url: string, error: DcpipeError): void {
    const way = this.#ways.get(url);
    if (!way) return;
    this.#ways.delete(url);
    leave(way, error);
    const { rendezvous, onevent } = this.#options;
    if (error.code === "CODE_WRONG" && url !== rendezvous)
      onevent?.({ event: "warning", text: "a machine on the local network answered with another code" });
    else way.attempt.log(`${url}: ${error.message}`);
    // The rendezvous' word is better than that of some machine on the local network.
    if (url === rendezvous || !this.#verdict) this.#verdict = error;
    this.#judge();
  }

  #judge(): void {
    if (this.#ways.size === 0 && !this.#searching && this.#verdict) this.ending.reject(this.#verdict);
  }

  #end(error: DcpipeError): void {
    this.#search.abort();
    for (const way of this.#ways.values()) leave(way, error);
    this.#ways.clear();
  }
}

function leave({ introduction, attempt }: Way, error: DcpipeError): void {
  attempt.connection?.fail(error);
  void introduction.release(attempt.outcome(error));
}
