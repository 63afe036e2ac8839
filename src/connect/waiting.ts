/** The waiting side of a code: at a rendezvous, on the local network, or at both with the same code. */
import { asDcpipeError, type DcpipeError } from "../errors.ts";
import { WaitingIntroduction, type Introduced } from "../signalling/introduction.ts";
import { randomKey } from "../signalling/mailbox.ts";
import type { Certificate } from "../transport/certificate.ts";
import type { Code } from "../wire/code.ts";
import { Attempt } from "./attempt.ts";
import { Ending } from "./ending.ts";
import { Lead } from "./lead.ts";
import { seconds, type CodeOptions, type Lan, type Platform } from "./options.ts";
import { publicUrl } from "./servers.ts";

/** A code, and the URL that people may be shown with it. */
interface Given {
  readonly code: Code;
  readonly rendezvous: string | undefined;
}

export class WaitingSide {
  readonly ending: Ending;
  /** The first code; rejects when there will be none. */
  readonly code: Promise<Given>;
  readonly #options: CodeOptions;
  readonly #lan: Lan | undefined;
  readonly #password: string;
  readonly #attempt: Attempt;
  readonly #introduction: WaitingIntroduction;
  #give!: (given: Given) => void;
  #shown: Given | undefined;
  readonly #lead = new Lead((candidates) => {
    this.#attempt.connection?.addCandidates(candidates);
  });
  /** The nameplate at which the local network was last called. */
  #announced: number | undefined;
  #held: { close(): void } | undefined;

  constructor(platform: Platform, options: CodeOptions, password: string, certificate: Certificate) {
    this.#options = options;
    this.#lan = platform.lan;
    this.#password = password;
    this.#attempt = new Attempt(platform, options, "waiting", certificate);
    this.ending = new Ending(options.signal, seconds(options.timeout, 0, "timeout"));
    const given = new Promise<Given>((resolve) => (this.#give = resolve));
    this.code = Promise.race([given, this.ending.session.then(() => given)]);
    this.#introduction = new WaitingIntroduction({
      openSocket: platform.openSocket,
      password,
      fingerprint: certificate.fingerprint,
      onjoined: () => {
        this.#attempt.log("somebody has claimed the code");
      },
      onintroduced: (introduced) => {
        this.#begin(introduced);
      },
      onconfirmed: (roundTripMs) => {
        this.#lead.wayMs = roundTripMs / 2;
      },
      oncandidates: (candidates) => {
        this.#lead.take(candidates);
      },
      onfailed: this.ending.reject,
      ontrouble: (trouble) => {
        options.onevent?.({ event: "rendezvous", trouble });
      },
    });
    this.ending.session.then(
      () => {
        this.#end();
      },
      (error: unknown) => {
        this.#end(asDcpipeError(error, "SIGNALLING"));
      },
    );
    if (this.ending.isOver()) return;
    const { rendezvous } = options;
    if (rendezvous === undefined) this.#call(0).catch(this.ending.reject);
    else this.#waitAt(rendezvous);
  }

  #waitAt(rendezvous: string): void {
    this.#introduction.addWay({
      url: rendezvous,
      nameplate: 0,
      onallocated: (nameplate, link) => {
        this.#show(nameplate, publicUrl(link) ?? rendezvous);
        if (this.#options.lan === false) return;
        this.#call(nameplate).catch((error: unknown) => {
          this.#attempt.log(`the local network is not called: ${asDcpipeError(error, "SIGNALLING").message}`);
        });
      },
    });
  }

  /** Waits on the local network, with a nameplate (0 for any). Rejects when that cannot be. */
  async #call(nameplate: number): Promise<void> {
    if (!this.#lan || this.#announced === nameplate) return;
    this.#announced = nameplate;
    this.#held?.close();
    const key = randomKey();
    const held = await this.#lan.hold({
      nameplate,
      key,
      bind: this.#options.bind,
      onlog: this.#attempt.log,
    });
    if (this.ending.isOver()) {
      held.close();
      return;
    }
    this.#held = held;
    this.#introduction.addWay({
      url: held.url,
      nameplate: held.nameplate,
      key,
      direct: true,
      onallocated: (given) => {
        if (this.#options.rendezvous === undefined) this.#show(given, undefined);
      },
    });
  }

  #show(nameplate: number, rendezvous: string | undefined): void {
    const given = { code: { nameplate, password: this.#password }, rendezvous };
    const same = this.#shown?.code.nameplate === nameplate && this.#shown.rendezvous === rendezvous;
    if (same) return;
    this.#shown = given;
    this.#give(given);
    this.#options.onevent?.({ event: "code", ...given });
  }

  #begin(introduced: Introduced): void {
    this.ending.hurry();
    this.#attempt.begin(introduced, {
      post: (candidates) => {
        this.#introduction.post(candidates);
        this.#lead.tell(candidates);
      },
      onsession: this.ending.resolve,
      onfailed: this.ending.reject,
    });
  }

  #end(error?: DcpipeError): void {
    if (error) this.#attempt.connection?.fail(error);
    void this.#introduction.release(this.#attempt.outcome(error)).finally(() => this.#held?.close());
  }
}
