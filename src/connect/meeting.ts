/** Two sides of a session that has lost all channels tell each other where they are now, in a mailbox that only they can name. */
import { asDcpipeError } from "../errors.ts";
import { SealedMailbox } from "../signalling/introduction.ts";
import type { Keys } from "../signalling/keys.ts";
import { Mailbox } from "../signalling/mailbox.ts";
import type { OpenSocket } from "../signalling/socket.ts";
import type { Candidate } from "../transport/peer.ts";
import type { Role } from "../wire/hello.ts";
import { decodeIntroduction } from "../wire/introduction.ts";
import type { Meeting } from "./connection.ts";

export function meetAgain(options: {
  readonly openSocket: OpenSocket;
  readonly url: string;
  /** It is on this network, and this side's key there, when it holds the mailbox itself. */
  readonly direct?: boolean | undefined;
  readonly key?: Uint8Array | undefined;
  readonly keys: Keys;
  readonly role: Role;
  readonly oncandidates: (candidates: readonly Candidate[]) => void;
  readonly onlog: (text: string) => void;
  /** It has come to an end that was not of our making. */
  readonly onover?: (() => void) | undefined;
  /** The other side has given up. */
  readonly onleft?: (() => void) | undefined;
}): Meeting {
  const { keys, role, onlog } = options;
  let told: Candidate[] = [];
  const mailbox = new Mailbox({
    openSocket: options.openSocket,
    url: options.url,
    direct: options.direct,
    key: options.key,
    place: { type: "open", role, name: keys.mailboxName },
    onbody: (body, index) => {
      options.oncandidates(sealed.open(decodeIntroduction(body), index));
    },
    onrestart: () => {
      if (told.length > 0) sealed.post(told);
    },
    onclosed: (error) => {
      if (error) onlog(`the rendezvous does not help to meet again: ${error.message}`);
      if (error?.code === "INTERRUPTED") options.onleft?.();
      options.onover?.();
    },
    ontrouble: (trouble) => {
      if (trouble !== undefined) onlog(trouble);
    },
  });
  const sealed = new SealedMailbox(mailbox, keys, role);
  return {
    post: (candidates) => {
      const fresh = candidates.filter(
        ({ address, port }) => !told.some((known) => known.address === address && known.port === port),
      );
      if (fresh.length === 0) return;
      told = [...told, ...fresh].slice(-32);
      try {
        sealed.post(fresh);
      } catch (error) {
        onlog(asDcpipeError(error, "SIGNALLING").message);
      }
    },
    close: (met) => {
      void mailbox.release(met ? "direct" : "left");
    },
  };
}
