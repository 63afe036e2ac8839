/**
 * Pictures of the page in each state, on a phone and on a desktop, light and dark, for people to look at:
 *
 *   node test/browser/screenshots.js [DIRECTORY]        default: a new one below the system's temporary directory
 *
 * Needs Chromium and a build (npm run build). Everything runs on this machine; nothing is left running.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const BIN = fileURLToPath(new URL("../../bin/dcpipe.js", import.meta.url));
const out = process.argv[2] ?? mkdtempSync(join(tmpdir(), "dcpipe-screenshots-"));
mkdirSync(out, { recursive: true });
const files = mkdtempSync(join(tmpdir(), "dcpipe-files-"));
const started = new Set();

/** A dcpipe process; `event` resolves with the first one of that name. */
function dcpipe(args) {
  const child = spawn(process.execPath, [BIN, ...args, "--json"], { stdio: ["pipe", "pipe", "pipe"] });
  started.add(child);
  child.stdout.resume();
  const seen = [];
  let wake = () => undefined;
  createInterface({ input: child.stderr }).on("line", (line) => {
    seen.push(JSON.parse(line));
    wake();
  });
  return {
    child,
    event: async (name) => {
      for (;;) {
        const found = seen.find((each) => each.event === name);
        if (found) return found;
        await new Promise((resolve) => (wake = resolve));
      }
    },
  };
}

function end(child) {
  started.delete(child);
  child.kill("SIGKILL");
}

for (const [name, size] of [
  ["IMG_2024.jpg", 4_321_000],
  ["notes.txt", 1234],
  ["in/report final (2).pdf", 812_345],
  ["in/<b>bold</b>.html", 99],
]) {
  mkdirSync(join(files, "Holiday photos", name, ".."), { recursive: true });
  writeFileSync(join(files, "Holiday photos", name), Buffer.alloc(size, name));
}
const big = join(files, "film.mkv");
writeFileSync(big, Buffer.alloc(60_000_000, "film"));

const server = dcpipe(["rendezvous", "--listen", "127.0.0.1:0"]);
const { port } = await server.event("listening");
const url = `http://127.0.0.1:${port}/`;
const quiet = ["--no-stun", "--no-lan", "--rendezvous", url];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--allow-loopback-in-peer-connection"],
});

/** Each state: what brings the page there, and what is to be seen then. */
const STATES = {
  start: async (page) => {
    await page.goto(url);
    await page.getByRole("heading", { name: "Between two machines" }).waitFor();
  },
  wrong: async (page) => {
    await page.goto(`${url}#7-gutar-sandwich`);
    await page.getByRole("alert").filter({ hasText: "guitar" }).waitFor();
  },
  link: async (page) => {
    await page.goto(`${url}#7-guitar-sandwich`);
    await page.getByText("In a terminal instead").click();
  },
  waiting: async (page) => {
    await page.goto(url);
    await page.getByRole("button", { name: "Receive files" }).click();
    await page.getByRole("img", { name: "QR code" }).waitFor();
  },
  choose: async (page) => {
    await page.goto(url);
    await page.getByRole("button", { name: "Send files" }).click();
    await page.getByLabel("Files to send").setInputFiles([big, join(files, "Holiday photos", "notes.txt")]);
    await page.getByLabel("Folder to send").setInputFiles(join(files, "Holiday photos"));
    await page.getByText("A text", { exact: true }).click();
  },
  offer: (page, use) => joined(page, use(["send", join(files, "Holiday photos"), ...quiet]), "Receive"),
  receiving: async (page, use) => {
    await joined(page, use(["send", big, "--limit", "3M", ...quiet]), "Receive");
    await page.getByRole("button", { name: "Download" }).click();
    await page.locator(".rate:not(:empty)").waitFor();
    await page.getByText("left").waitFor();
  },
  compare: async (page, use) => {
    await joined(page, use(["send", join(files, "Holiday photos"), ...quiet]), "Receive");
    await page.getByRole("button", { name: "Compare" }).click();
  },
  received: async (page, use) => {
    await joined(page, use(["send", join(files, "Holiday photos", "notes.txt"), ...quiet]), "Receive");
    await page.getByRole("button", { name: "Download" }).click();
    await page.getByRole("heading", { name: "Received" }).waitFor();
  },
  text: (page, use) =>
    joined(page, use(["send", "--text", "The key is under the mat.\nSecond line.", ...quiet]), "Received"),
  pipe: async (page, use) => {
    const process = use(["pipe", ...quiet]);
    await joined(page, process, "Pipe");
    process.child.stdin.write("hello from the terminal\nand another line\n");
    await page.getByText("another line").waitFor();
    await page.getByLabel("Line to send").fill("hello from the page");
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "End input" }).click();
  },
  forward: (page, use) => joined(page, use(["forward", "3000", "db.local:5432", ...quiet]), "forwards ports"),
  failed: async (page) => {
    await page.goto(`${url}#999-guitar-sandwich`);
    await page.getByRole("button", { name: "Connect" }).click();
    await page.getByRole("heading", { name: "Nobody waits" }).waitFor();
  },
};

async function joined(page, process, heading) {
  await page.goto(`${url}#${(await process.event("code")).code}`);
  await page.getByRole("button", { name: "Connect" }).click();
  await page.getByRole("heading", { name: heading }).waitFor();
  // How the two are connected is told when it is clear.
  await page.locator("[data-state=connected], [data-state=done]").waitFor();
}

try {
  for (const [width, height] of [
    [390, 844],
    [1280, 800],
  ])
    for (const colorScheme of ["light", "dark"])
      for (const [name, bring] of Object.entries(STATES)) {
        const context = await browser.newContext({
          viewport: { width, height },
          colorScheme,
          reducedMotion: "reduce",
        });
        const processes = [];
        const use = (args) => {
          const process = dcpipe(args);
          processes.push(process.child);
          return process;
        };
        const page = await context.newPage();
        await bring(page, use);
        await page.screenshot({ path: join(out, `${name}-${width}-${colorScheme}.png`), fullPage: true });
        for (const child of processes) end(child);
        await context.close();
      }
  console.log(out);
} finally {
  await browser.close();
  for (const child of [...started]) end(child);
  rmSync(files, { recursive: true, force: true });
}
