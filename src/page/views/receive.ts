/** Receiving: the list is shown and agreed to before anything is written. */
import {
  asDcpipeError,
  codec,
  createDigest,
  DcpipeError,
  escapeText,
  receiveFiles,
  type Conflict,
  type Listed,
  type Offer,
  type TargetDirectory,
} from "../../browser.ts";
import type { Met } from "../connect.ts";
import { button, h } from "../dom.ts";
import { countOf, formatBytes } from "../format.ts";
import { createProgress, type ProgressBar } from "../progress.ts";
import { findSaving, LaterTarget, MAX_IN_MEMORY, objectionTo, type Saving } from "../save.ts";
import type { Screen } from "../screen.ts";
import { describeResult, type Kept, type Outcome } from "./over.ts";

/** Entries shown; a list may have 4,096, and nobody reads them. */
const MAX_SHOWN = 200;

export async function receive(screen: Screen, { session, role }: Met, { texts }: Kept): Promise<Outcome> {
  screen.show({
    title: "Connected",
    body: [h("p", { class: "lead" }, "The other side says what it has.")],
  });
  const saving = await findSaving();
  const target = new LaterTarget();
  const answered = { no: false, downloads: false };
  const progress = createProgress(screen);
  try {
    const result = await receiveFiles(session, role, {
      target,
      approve: async (offer) => {
        const place = await Promise.race([
          askWhere(screen, offer, saving),
          session.closed.then(() => undefined),
        ]);
        answered.no = place === undefined;
        if (!place) return false;
        answered.downloads = place.downloads;
        target.set(place.target);
        showProgress(screen, progress, place.downloads);
        return true;
      },
      conflict: async (path) => {
        const answer = await Promise.race([askConflict(screen, path), session.closed.then(() => undefined)]);
        showProgress(screen, progress, answered.downloads);
        if (answer !== undefined) return answer;
        const error = new DcpipeError("REFUSED", "stopped at a name that is taken here");
        void session.abort("REFUSED", "stopped at a name that is taken there", error);
        throw error;
      },
      ontext: (text) => {
        texts.push(text);
        return Promise.resolve();
      },
      windows: /\bWindows\b/.test(navigator.userAgent),
      // Downloads come one after the other.
      stores: 1,
      createDigest,
      codec,
      onprogress: (each) => {
        progress.update(each);
      },
    });
    const { list, failed, refused } = result.problems;
    const only = texts.length > 0 && result.files === texts.length;
    return {
      title: failed + refused > 0 ? "Received, but not everything" : "Received",
      text: only
        ? "A text, which stands nowhere but here: copy it if you need it."
        : `${describeResult(result)} All of it is verified.`,
      problems: list,
    };
  } catch (cause) {
    if (answered.no && asDcpipeError(cause, "IO").code === "REFUSED")
      throw new DcpipeError("REFUSED", "you refused it: nothing was written", { cause });
    throw cause;
  } finally {
    progress.stop();
    saving.close();
  }
}

interface Where {
  readonly target: TargetDirectory;
  readonly downloads: boolean;
}

/** Undefined when the user wants none of it. */
function askWhere(screen: Screen, offer: Offer, saving: Saving): Promise<Where | undefined> {
  return new Promise((resolve) => {
    const trouble = h("p", { class: "problem", role: "alert" });
    const objection = objectionTo(offer, saving);
    const tree = offer.entries.some(({ kind }) => kind === "directory");
    const inFolder = button(
      "Save to a folder",
      () => {
        saving.chooseFolder().then(
          (target) => {
            resolve({ target, downloads: false });
          },
          (error: unknown) => {
            // Who closes the picker may choose again.
            if (!(error instanceof DOMException && error.name === "AbortError"))
              trouble.textContent = "That folder cannot be used. Choose another one.";
          },
        );
      },
      tree || objection !== undefined ? "primary" : "plain",
    );
    const asDownload = button(
      "Download",
      () => {
        resolve({ target: saving.downloads(), downloads: true });
      },
      saving.folder && tree ? "plain" : "primary",
    );
    screen.show({
      title: `Receive ${totalsOf(offer)}?`,
      body: [
        listOf(offer),
        ...notesOf(offer, saving, tree).map((note) => h("p", { class: "note" }, note)),
        trouble,
        h(
          "div",
          { class: "row" },
          saving.folder && tree ? inFolder : undefined,
          objection === undefined ? asDownload : undefined,
          saving.folder && !tree ? inFolder : undefined,
          button(
            "Refuse",
            () => {
              resolve(undefined);
            },
            "quiet",
          ),
        ),
      ],
    });
  });
}

/** What this browser cannot do with it, said before. */
function notesOf(offer: Offer, saving: Saving, tree: boolean): string[] {
  const notes: string[] = [];
  const objection = objectionTo(offer, saving);
  const files = offer.entries.filter(({ kind }) => kind === "file").length;
  if (objection !== undefined) notes.push(objection);
  else if (!saving.streamed)
    notes.push(
      `Downloads are held in memory here until they are whole, ${formatBytes(MAX_IN_MEMORY)} at most in all.`,
    );
  if (tree)
    notes.push(
      saving.folder
        ? "Folders are kept in a folder that you choose. A download puts their names in front of each file's."
        : "This browser keeps no folders: their names stand in front of each file's.",
    );
  if (files > 1 && objection === undefined)
    notes.push("Several files are several downloads: your browser may ask whether you allow that.");
  if (offer.entries.some(({ kind }) => kind === "link"))
    notes.push("Links are left out: no browser makes them.");
  if (!saving.folder && objection !== undefined)
    notes.push("Another browser (Chromium, Chrome, Edge) can save to a folder, and so can a terminal.");
  return notes;
}

function askConflict(screen: Screen, path: string): Promise<Conflict | undefined> {
  return new Promise((resolve) => {
    const answer = (text: string, what: Conflict | undefined): HTMLElement =>
      button(text, () => {
        resolve(what);
      });
    screen.show({
      title: "A name is taken",
      body: [
        h("p", { class: "lead name" }, escapeText(path)),
        h("p", {}, "It is there with other content. What holds for this one holds for all others."),
        h(
          "div",
          { class: "row" },
          answer("Keep both", "rename"),
          answer("Skip", "skip"),
          answer("Overwrite", "overwrite"),
          answer("Stop", undefined),
        ),
      ],
    });
  });
}

function showProgress(screen: Screen, progress: ProgressBar, downloads: boolean): void {
  screen.show({
    title: "Receiving",
    body: [
      progress.root,
      downloads
        ? h("p", { class: "note" }, "The files appear among your browser's downloads. Leave this page open.")
        : undefined,
    ],
  });
}

/** "a.txt (3 B)", "12 files (3.4 MiB)" */
function totalsOf({ entries, complete, total, unknown }: Offer): string {
  const files = entries.filter(({ kind }) => kind !== "directory").length;
  const [only] = entries;
  const what =
    complete && entries.length === 1 && only
      ? labelOf(only)
      : complete
        ? countOf(files, "file")
        : `${countOf(total.entries, "entry", "entries")} or more`;
  const size = total.bytes > 0 || !unknown ? formatBytes(total.bytes) : "size not known";
  return `${what} (${size}${unknown && total.bytes > 0 ? " and more" : ""})`;
}

function listOf({ entries, total }: Offer): HTMLElement {
  // A folder with something in it is seen in the paths of that.
  const inside = new Set(entries.map(({ path }) => path.slice(0, path.lastIndexOf("/"))));
  const rows = entries.filter(({ kind, path }) => kind !== "directory" || !inside.has(path));
  const shown = rows.slice(0, MAX_SHOWN);
  const rest = rows.length - shown.length + Math.max(0, total.entries - entries.length);
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": "What comes" },
    h(
      "ul",
      { class: "list" },
      ...shown.map((entry) => {
        const label = labelOf(entry);
        const name = label.slice(label.lastIndexOf("/", label.length - 2) + 1);
        return h(
          "li",
          {},
          h("span", { class: "name" }, h("span", { class: "folder" }, label.slice(0, -name.length)), name),
          h("span", { class: "size" }, entry.kind === "file" ? sizeOf(entry) : ""),
        );
      }),
    ),
    rest > 0 ? h("p", { class: "note" }, `and ${countOf(rest, "other")}`) : undefined,
  );
}

function labelOf({ kind, path, target }: Listed): string {
  const name = escapeText(path);
  if (kind === "directory") return `${name}/`;
  return kind === "link" && target !== undefined ? `${name} -> ${escapeText(target)}` : name;
}

function sizeOf({ size }: Listed): string {
  return size === undefined ? "?" : formatBytes(size);
}
