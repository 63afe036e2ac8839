/**
 * How the two sides meet, as the command line asks for it:
 *
 *   PEER is the name of a remembered one         ->  join it (cli/known.ts)
 *   PEER is a code or a link                     ->  join by code (cli/code.ts)
 *   PEER is a token, --via, an offer file there  ->  join by token (cli/token.ts)
 *   none of them, and a rendezvous or --lan      ->  wait by code; receive waits for remembered peers, too
 *   none of them                                 ->  wait by token
 */
import { findOffer, parsePeer, parseRendezvousUrl } from "../index.ts";
import { joinByCode, waitByCode } from "./code.ts";
import type { Command, Met } from "./command.ts";
import { findRemembered, joinRemembered } from "./known.ts";
import { networkOf } from "./network.ts";
import { findPeer, findRendezvous } from "./options.ts";
import { joinByToken, viaOffer, waitByToken } from "./token.ts";
import type { Ui } from "./ui.ts";

export async function meet(command: Command, ui: Ui, signal: AbortSignal): Promise<Met> {
  const { options, argument } = command;
  const network = networkOf(command, ui, signal);
  const text = await findPeer(argument, options, command.stdinIsPayload);
  if (options.via !== undefined)
    return joinByToken(await viaOffer(options.via, signal), network, command, ui, signal);
  if (text !== undefined) {
    const remembered = findRemembered(text, ui);
    if (remembered) return joinRemembered(remembered, network, command, ui);
    const peer = parsePeer(text);
    if (peer.kind === "token") return joinByToken({ text: peer.token }, network, command, ui, signal);
    const rendezvous = peer.kind === "link" ? parseRendezvousUrl(peer.rendezvous) : findRendezvous(options);
    return joinByCode(peer.code, rendezvous, network, command, ui);
  }
  if (options.offerFile !== undefined) {
    const offer = await findOffer(options.offerFile, { signal });
    if (offer !== undefined) return joinByToken({ text: offer }, network, command, ui, signal);
  }
  // Who names a means of carrying tokens wants tokens.
  const byToken = options.offerFile !== undefined || options.answerFile !== undefined || options.stdioSignal;
  const rendezvous = byToken ? undefined : findRendezvous(options);
  if (rendezvous !== undefined || (options.lan === true && !byToken))
    return waitByCode(rendezvous, network, command, ui);
  return waitByToken(network, command, ui, signal);
}
