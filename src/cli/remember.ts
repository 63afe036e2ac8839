/** --remember: both sides of a session keep each other's keys, so that a name is enough the next time. */
import { hostname } from "node:os";
import {
  asDcpipeError,
  DcpipeError,
  escapeText,
  pair,
  randomCertificate,
  type PemCertificate,
  type OwnPart,
} from "../index.ts";
import type { Command, Met } from "./command.ts";
import { isName, openStore } from "./known.ts";
import { findRendezvous } from "./options.ts";
import { openLines } from "./prompt.ts";
import type { Ui } from "./ui.ts";

/** Makes sure, before anybody is met, that a peer of that name can be stored. Rejects with USAGE, IO. */
export async function prepareToRemember(command: Command, ui: Ui): Promise<void> {
  const { remember: name, yes } = command.options;
  if (name === undefined) return;
  checkName(name);
  const store = openStore(ui);
  store.prepare();
  if (!store.has(name) || yes) return;
  const answer = await ask(command, ui, [], `A peer is remembered as ${name}. Replace it? [y/N] `, (text) => {
    if (/^y(es)?$/i.test(text)) return true;
    return /^(no?)?$/i.test(text) ? false : undefined;
  });
  if (answer !== true)
    throw new DcpipeError(
      "USAGE",
      `a peer is remembered as "${name}" already; --yes replaces it, dcpipe peers forget removes it`,
    );
}

/** Throws USAGE. */
function checkName(name: string): void {
  if (!isName(name))
    throw new DcpipeError(
      "USAGE",
      `--remember ${name}: a name has up to 63 letters, digits, hyphens, dots and underscores, a letter first`,
    );
}

/**
 * Asks the other side when --remember is given, and answers it for as long as the session stands. Call it for each session, before its
 * streams are accepted. Resolves when what was asked for is settled, one way or the other; that it came to nothing is a note.
 */
export async function remember(command: Command, met: Met, ui: Ui): Promise<void> {
  const { options } = command;
  const { session, role, verifier } = met;
  const name = met.peer === undefined ? options.remember : undefined;
  const certificates = new Map<OwnPart, PemCertificate>();
  const ownPart = async (name: string): Promise<OwnPart> => {
    const certificate = await randomCertificate();
    const own = { name, fingerprint: certificate.fingerprint };
    certificates.set(own, certificate);
    return own;
  };
  const { asked } = pair(session, {
    role,
    host: hostname(),
    context: verifier,
    // Who was met by name is remembered.
    own: name === undefined ? undefined : await ownPart(name),
    decide: async ({ host }, gone) => {
      const name = await askName(command, ui, host, gone);
      if (name !== undefined) return ownPart(name);
      ui.note(
        `the other side (${host}) wants both to remember each other: refused; --remember NAME allows it`,
      );
      return undefined;
    },
    store: ({ own, side, secret, fingerprint, host, calledHere }) => {
      const certificate = certificates.get(own);
      if (!certificate) throw new DcpipeError("IO", "no certificate");
      const rendezvous = met.rendezvous ?? findRendezvous(options) ?? null;
      openStore(ui).save({
        name: own.name,
        side,
        secret,
        certificate,
        fingerprint,
        host,
        calledHere,
        rendezvous,
        created: new Date(),
      });
      ui.remembered(own.name, host);
      met.peer = own.name;
      met.onremembered?.();
      return Promise.resolve();
    },
  });
  const state = { ended: false };
  const end = (): void => {
    state.ended = true;
  };
  session.closed.then(end, end);
  if (name !== undefined) await ui.wait("Asking the other side to be remembered");
  try {
    const outcome = await asked;
    if (outcome && !outcome.confirmed)
      ui.note("the other side has not said that it stored its part; if it did not, pair once more");
  } catch (error) {
    // How a session ends is told by what runs over it.
    if (!state.ended) ui.note(`not remembered: ${asDcpipeError(error, "PROTOCOL").message}`);
  } finally {
    ui.stopWaiting();
  }
}

/** A name for the other side, typed at the terminal. Undefined for no, and where nobody can be asked. */
async function askName(
  command: Command,
  ui: Ui,
  host: string,
  gone: Promise<unknown>,
): Promise<string | undefined> {
  if (command.options.yes) return undefined;
  const store = openStore(ui);
  const lines = [
    `The other side (${escapeText(host)}) wants both to remember each other: then either connects without a code.`,
  ];
  const question = "Type a name for it, or Enter for no: ";
  const name = await ask(
    command,
    ui,
    lines,
    question,
    (text) => {
      if (/^(no?)?$/i.test(text)) return "";
      if (isName(text) && !store.has(text)) return text;
      const why = isName(text)
        ? "A peer has that name."
        : "A name has letters, digits, hyphens, dots and underscores, a letter first.";
      process.stderr.write(`${why}\n`);
      return undefined;
    },
    gone,
  );
  return name === "" ? undefined : name;
}

/** Asks at the terminal until `read` makes something of the answer. Undefined where nobody can be asked, or answers. */
async function ask<T>(
  { options, stdinIsPayload }: Command,
  ui: Ui,
  said: readonly string[],
  question: string,
  read: (text: string) => T | undefined,
  gone: Promise<unknown> = new Promise(() => undefined),
): Promise<T | undefined> {
  // What is typed on a terminal that carries payload is payload.
  if (options.json || (stdinIsPayload && process.stdin.isTTY)) return undefined;
  const lines = openLines(stdinIsPayload);
  if (!lines?.terminal || !process.stderr.isTTY) {
    lines?.close();
    return undefined;
  }
  return ui
    .asking(
      said,
      () =>
        new Promise<T | undefined>((resolve) => {
          const leave = (): void => {
            resolve(undefined);
          };
          gone.then(leave, leave);
          lines.onEnd(leave);
          lines.onLine((line) => {
            const understood = read(line.trim());
            if (understood === undefined) lines.ask(question);
            else resolve(understood);
          });
          lines.ask(question);
        }),
    )
    .finally(() => {
      lines.close();
    });
}
