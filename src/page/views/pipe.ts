/** A pipe: lines of text, or the bytes of files, both ways; each direction ends on its own. */
import { pipe as join, writableSink, type Sink } from "../../browser.ts";
import { GivenBytes } from "../bytes.ts";
import type { Met } from "../connect.ts";
import { button, h, uniqueId } from "../dom.ts";
import { formatBytes } from "../format.ts";
import { findSaving, MAX_IN_MEMORY, type Saving } from "../save.ts";
import type { Screen } from "../screen.ts";
import { Speed } from "../speed.ts";
import { plainText, type Kept, type Outcome } from "./over.ts";

/** Characters that stay on the screen; what came before goes. */
const SCROLLBACK = 100_000;
/** Milliseconds from one drawing to the next. */
const DRAW_MS = 60;
/** Pixels: who reads further up is left there. */
const NEAR_BOTTOM = 40;
const SHOW_MS = 250;
/** The other side reads lines. */
const LINE_END = "\n";

export async function pipe(screen: Screen, { session, role }: Met, kept: Kept): Promise<Outcome> {
  const saving = await findSaving();
  const source = new GivenBytes();
  const log = new Log();
  const incoming = new Incoming(log, saving);
  kept.log = log.root;
  const view = showPipe(screen, source, incoming, log, saving);
  const speed = new Speed();
  let [sent, received] = [0, 0];
  const timer = setInterval(() => {
    speed.add(performance.now(), sent + received);
    screen.line.rate(speed.rate);
    view.figures.textContent = `${formatBytes(sent)} sent, ${formatBytes(received)} received`;
  }, SHOW_MS);
  try {
    await join(session, role, {
      source,
      sink: incoming,
      onprogress: (out, back) => {
        [sent, received] = [out, back];
      },
    });
    return {
      title: "Both ends are closed",
      text: `${formatBytes(sent)} sent, ${formatBytes(received)} received.`,
    };
  } finally {
    clearInterval(timer);
    await incoming.release();
    saving.close();
    screen.line.rate(0);
  }
}

function showPipe(
  screen: Screen,
  source: GivenBytes,
  incoming: Incoming,
  log: Log,
  saving: Saving,
): { figures: HTMLElement } {
  const id = uniqueId();
  const input = h("input", { id, type: "text", autocomplete: "off", enterkeyhint: "send" });
  const figures = h("p", { class: "figures" });
  const file = h("input", {
    type: "file",
    class: "unseen",
    tabindex: -1,
    "aria-label": "File to send into the pipe",
    onchange: () => {
      const [chosen] = file.files ?? [];
      if (!chosen) return;
      source.give(chosen);
      log.note(`sending the bytes of ${plainText(chosen.name)}, ${formatBytes(chosen.size)}`);
      file.value = "";
    },
  });
  const sendFile = button("Send a file's bytes", () => {
    file.click();
  });
  const save = button("Save what comes", () => {
    save.disabled = true;
    incoming.save().then(
      () => {
        log.note("what comes from here on goes into a download, pipe.bin");
      },
      () => {
        save.disabled = false;
        log.note("it cannot be saved here");
      },
    );
  });
  const end = button("End input", () => {
    source.end();
    input.disabled = sendFile.disabled = end.disabled = submit.disabled = true;
    log.note("your end is closed");
    if (incoming.open) log.root.focus();
  });
  const submit = h("button", { type: "submit", class: "primary" }, "Send");
  screen.show({
    title: "Pipe",
    body: [
      log.root,
      h(
        "form",
        {
          class: "enter",
          onsubmit: (event: Event) => {
            event.preventDefault();
            source.give(new TextEncoder().encode(input.value + LINE_END));
            log.add(input.value + LINE_END, "mine");
            input.value = "";
          },
        },
        h("div", { class: "field" }, h("label", { for: id }, "Line to send"), input),
        submit,
      ),
      h("div", { class: "row" }, sendFile, save, end, file),
      saving.streamed
        ? undefined
        : h(
            "p",
            { class: "note" },
            `What is saved is held in memory here, ${formatBytes(MAX_IN_MEMORY)} at most.`,
          ),
      figures,
    ],
    focus: input,
  });
  return { figures };
}

/** What comes: text on the screen, or bytes into a download. */
class Incoming implements Sink {
  open = true;
  readonly #log: Log;
  readonly #saving: Saving;
  readonly #decoder = new TextDecoder();
  #saved: ReturnType<typeof writableSink> | undefined;

  constructor(log: Log, saving: Saving) {
    this.#log = log;
    this.#saving = saving;
  }

  async save(): Promise<void> {
    this.#saved = writableSink(await this.#saving.open("pipe.bin"));
  }

  async write(chunk: Uint8Array): Promise<void> {
    if (this.#saved) await this.#saved.write(chunk);
    else this.#log.add(this.#decoder.decode(chunk, { stream: true }), "theirs");
  }

  async end(): Promise<void> {
    this.open = false;
    await this.#saved?.end();
    this.#saved = undefined;
    this.#log.note("the other side has closed its end");
  }

  /** What was not ended is no whole file. */
  async release(): Promise<void> {
    await this.#saved?.abort();
    this.#saved = undefined;
  }
}

/** What went and came, the last of it. It is drawn now and then: a flood must cost the screen little. */
class Log {
  readonly root = h("div", {
    class: "log scroll",
    role: "log",
    tabindex: 0,
    "aria-label": "What went through the pipe",
  });
  #waiting: { readonly text: string; readonly whose: string }[] = [];
  #waitingLength = 0;
  #length = 0;
  #last: { readonly whose: string; readonly node: Text } | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  add(text: string, whose: "mine" | "theirs"): void {
    this.#put(text.replaceAll("\r\n", "\n"), whose);
  }

  note(text: string): void {
    this.#put(text, "note");
  }

  #put(text: string, whose: string): void {
    if (text === "") return;
    this.#waiting.push({ text: text.slice(-SCROLLBACK), whose });
    this.#waitingLength += Math.min(text.length, SCROLLBACK);
    // What would not be seen for a moment is not drawn at all.
    while (this.#waitingLength > 2 * SCROLLBACK)
      this.#waitingLength -= this.#waiting.shift()?.text.length ?? this.#waitingLength;
    this.#timer ??= setTimeout(() => {
      this.#draw();
    }, DRAW_MS);
  }

  #draw(): void {
    this.#timer = undefined;
    const { scrollHeight, scrollTop, clientHeight } = this.root;
    const bottom = scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM;
    for (const { text, whose } of this.#waiting) this.#append(plainText(text), whose);
    this.#waiting = [];
    this.#waitingLength = 0;
    while (this.#length > SCROLLBACK) this.#forget();
    if (bottom) this.root.scrollTop = this.root.scrollHeight;
  }

  #append(text: string, whose: string): void {
    this.#length += text.length;
    // What comes in pieces is one text still, until a line of the other side's stands between.
    if (whose !== "note" && this.#last?.whose === whose && !this.#last.node.data.endsWith("\n")) {
      this.#last.node.appendData(text);
      return;
    }
    const node = document.createTextNode(text);
    this.root.append(h("p", { class: whose }, node));
    this.#last = { whose, node };
  }

  #forget(): void {
    const oldest = this.root.firstElementChild;
    const text = oldest?.firstChild;
    if (!oldest || !(text instanceof Text)) {
      this.#length = 0;
      return;
    }
    const gone = Math.min(text.length, this.#length - SCROLLBACK);
    if (gone < text.length) text.deleteData(0, gone);
    else oldest.remove();
    this.#length -= gone;
  }
}
