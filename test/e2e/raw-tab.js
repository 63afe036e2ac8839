/**
 * A browser's tab as the other side of `dcpipe pipe --raw`, for a network namespace of its own: reads the offer from stdin, prints its
 * answer, and behind that line what has come when the channel is closed.
 *
 *   node raw-tab.js chromium|firefox EXECUTABLE
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import puppeteer from "puppeteer-core";

const [kind, executablePath] = process.argv.slice(2);
const home = mkdtempSync(join(tmpdir(), "dcpipe-tab-"));
process.on("exit", () => rmSync(home, { recursive: true, force: true, maxRetries: 10 }));
const browser = await (kind === "chromium"
  ? chromium.launch({ executablePath, args: ["--no-sandbox"] })
  : puppeteer.launch({
      browser: "firefox",
      executablePath,
      headless: true,
      env: { ...process.env, HOME: home },
    }));
// The test ends us by our input.
process.stdin.once("end", () => void browser.close().then(() => process.exit()));
const page = await browser.newPage();
const [offer] = await new Promise((resolve) =>
  createInterface({ input: process.stdin }).once("line", (line) => resolve([line])),
);
const answer = await page.evaluate(`(async () => {
  const pc = (globalThis.pc = new RTCPeerConnection());
  const parts = [];
  globalThis.all = new Promise((resolve) => {
    pc.ondatachannel = ({ channel }) => {
      globalThis.kept = channel;
      channel.binaryType = "arraybuffer";
      channel.onmessage = ({ data }) => parts.push(String.fromCharCode(...new Uint8Array(data)));
      channel.onclose = () => resolve(btoa(parts.join("")));
    };
  });
  await pc.setRemoteDescription(${offer});
  await pc.setLocalDescription(await pc.createAnswer());
  await new Promise((resolve) => {
    const look = () => pc.iceGatheringState === "complete" && resolve();
    pc.addEventListener("icegatheringstatechange", look);
    look();
  });
  return JSON.stringify(pc.localDescription);
})()`);
process.stdout.write(`${answer}\n`);
const bytes = Buffer.from(await page.evaluate("all"), "base64");
process.stdout.write(bytes, () => void browser.close().then(() => process.exit()));
