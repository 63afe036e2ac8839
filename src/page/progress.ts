/** How far a transfer is. */
import { escapeText, type Progress } from "../browser.ts";
import { h, uniqueId } from "./dom.ts";
import { countOf, formatBytes, formatSeconds } from "./format.ts";
import type { Screen } from "./screen.ts";
import { Speed } from "./speed.ts";

/** The screen changes so often, in ms. */
const SHOW_MS = 200;
/** Who hears the page is told of each so many percent. */
const ANNOUNCE_PERCENT = 25;

export interface ProgressBar {
  readonly root: HTMLElement;
  update(progress: Progress): void;
  /** Nothing moves any more. */
  stop(): void;
}

export function createProgress(screen: Screen): ProgressBar {
  const speed = new Speed();
  const id = uniqueId();
  const bar = h("progress", { max: 1, "aria-labelledby": id });
  const figures = h("p", { class: "figures" });
  const name = h("p", { class: "at-work" });
  const root = h(
    "div",
    { class: "progress" },
    h("p", { id, class: "unseen" }, "Progress"),
    bar,
    figures,
    name,
  );
  let latest: Progress | undefined;
  let told = 0;
  const show = (): void => {
    if (!latest) return;
    const { bytes, total, files, totalFiles } = latest;
    speed.add(performance.now(), bytes);
    const { rate } = speed;
    if (total === undefined) bar.removeAttribute("value");
    else bar.value = total === 0 ? 1 : Math.min(1, bytes / total);
    const left = total !== undefined && rate > 0 ? `, ${formatSeconds((total - bytes) / rate)} left` : "";
    const of = total === undefined ? "" : ` of ${formatBytes(total)}`;
    const count =
      totalFiles !== undefined && totalFiles > 1 ? `, ${files} of ${countOf(totalFiles, "file")}` : "";
    figures.textContent = `${formatBytes(bytes)}${of}${count}${left}`;
    name.textContent = escapeText(latest.name);
    screen.line.rate(rate);
    const percent = total === undefined || total === 0 ? 0 : Math.floor((bytes / total) * 100);
    if (percent - told >= ANNOUNCE_PERCENT && percent < 100) {
      told = percent - (percent % ANNOUNCE_PERCENT);
      screen.announce(`${told} percent`);
    }
  };
  const timer = setInterval(show, SHOW_MS);
  return {
    root,
    update: (progress) => {
      latest = progress;
    },
    stop: () => {
      clearInterval(timer);
      show();
      screen.line.rate(0);
    },
  };
}
