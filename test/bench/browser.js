/**
 * A page and a process: how fast, beside a bare data channel between the same two, and what the tab takes.
 *
 *   npm run compile && node test/bench/browser.js [--size MIB] [--only chromium|firefox] [--rows bare,pipe,file,fetch]
 *
 * Each row moves so many MiB one way, pipe and files by real dcpipe processes, files between a disk and the page's own storage (OPFS).
 * fetch asks a server on loopback for little, by itself and over a session, in turn. The memory is what the tab's process grew to over what it had just before, by RSS.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { randomBytes } from "node:crypto";
import { PeerConnection } from "node-datachannel";
import { chromium } from "playwright-core";
import puppeteer from "puppeteer-core";

const MIB = 1024 * 1024;
const MESSAGE = 64 * 1024;
const HIGH_WATER = 4 * MIB;
const LOW_WATER = MIB;
const SAMPLE_MS = 50;
const BIN = fileURLToPath(new URL("../../bin/dcpipe.js", import.meta.url));
const BUNDLE = fileURLToPath(new URL("../../dist/browser.js", import.meta.url));

const { values } = parseArgs({
  options: {
    size: { type: "string", default: "100" },
    only: { type: "string" },
    rows: { type: "string", default: "bare,pipe,file,fetch" },
  },
});
const size = Number(values.size) * MIB;
const scratch = mkdtempSync(join(tmpdir(), "dcpipe-bench-"));

/** What runs in the page; `offer` is answered by this process. */
const PAGE = `
globalThis.dcpipe = await import("/browser.js");
const post = async (path, body) => (await fetch(path, { method: "POST", body: JSON.stringify(body) })).json();
const chunk = new Uint8Array(${MESSAGE});
globalThis.tests = {
  bare: async ({ size, towards }) => {
    const pc = new RTCPeerConnection();
    const channel = pc.createDataChannel("", { negotiated: true, id: 0 });
    channel.binaryType = "arraybuffer";
    channel.bufferedAmountLowThreshold = ${LOW_WATER};
    const opened = new Promise((resolve) => (channel.onopen = resolve));
    let first, got = 0;
    const received = new Promise((resolve) => {
      channel.onmessage = ({ data }) => {
        first ??= performance.now();
        got += data.byteLength;
        if (got >= size) resolve(performance.now() - first);
      };
    });
    await pc.setLocalDescription(await pc.createOffer());
    await pc.setRemoteDescription({ type: "answer", sdp: await post("/offer", { sdp: pc.localDescription.sdp, size, towards }) });
    for (const candidate of await post("/candidates", {})) await pc.addIceCandidate({ candidate, sdpMid: "0" });
    await opened;
    let ms;
    if (towards === "page") {
      await post("/go", {});
      ms = await received;
    } else {
      const start = performance.now();
      for (let sent = 0; sent < size; sent += chunk.length) {
        if (channel.bufferedAmount > ${HIGH_WATER}) await new Promise((resolve) => (channel.onbufferedamountlow = resolve));
        channel.send(chunk);
      }
      await post("/done", {});
      ms = performance.now() - start;
    }
    pc.close();
    return size / 1048576 / (ms / 1000);
  },
  pipe: async ({ size, towards, rendezvous, code }) => {
    const { session } = await dcpipe.connectByCode(dcpipe.parseCode(code), { rendezvous, stun: [], relay: "off" });
    const live = await session;
    let first, got = 0, left = towards === "page" ? 0 : size;
    const last = () => performance.now();
    await dcpipe.pipe(live, "joining", {
      source: { read: async () => {
        if (left <= 0) return undefined;
        first ??= performance.now();
        left -= chunk.length;
        return chunk;
      }, cancel: () => {} },
      sink: dcpipe.writableSink(new WritableStream({ write: (part) => { first ??= performance.now(); got += part.length; } })),
    });
    const ms = last() - first;
    await live.close();
    if (towards === "page" && got !== size) throw new Error("only " + got);
    return size / 1048576 / (ms / 1000);
  },
  file: async ({ size, towards, rendezvous, code }) => {
    const { session } = await dcpipe.connectByCode(dcpipe.parseCode(code), { rendezvous, stun: [], relay: "off" });
    const live = await session;
    const root = await navigator.storage.getDirectory();
    const common = { createDigest: dcpipe.createDigest, codec: dcpipe.codec };
    const start = performance.now();
    let result;
    if (towards === "page")
      result = await dcpipe.receiveFiles(live, "joining", { ...common, target: dcpipe.directoryTarget(root), conflict: "overwrite" });
    else {
      const file = await (await root.getFileHandle("random.bin")).getFile();
      if (file.size !== size) throw new Error("of another size: " + file.size);
      result = await dcpipe.sendFiles(live, "joining", { ...common, tree: dcpipe.fileTree([file]) });
    }
    const ms = performance.now() - start;
    await live.close();
    if (result.files !== 1) throw new Error(JSON.stringify(result));
    return size / 1048576 / (ms / 1000);
  },
};
globalThis.tests.fetch = async ({ rendezvous, code, rounds }) => {
  const { session } = await dcpipe.connectByCode(dcpipe.parseCode(code), { rendezvous, stun: [], relay: "off" });
  const live = await session;
  const visiting = dcpipe.visit(live, "joining");
  visiting.done.catch(() => undefined);
  const [{ target }] = await visiting.offers;
  const over = dcpipe.httpOver(live, { target }).fetch;
  const times = { direct: [], over: [] };
  for (let i = 0; i < rounds; i++) {
    for (const [name, ask] of [["direct", fetch], ["over", over]]) {
      const start = performance.now();
      await (await ask("/small", { cache: "no-store" })).text();
      times[name].push(performance.now() - start);
    }
  }
  const p50 = (all) => all.sort((a, b) => a - b)[all.length >> 1];
  visiting.leave();
  await live.close();
  return { direct: p50(times.direct), over: p50(times.over) };
};
globalThis.ready = true;
`;

let node;
const routes = {
  "/offer": async ({ sdp, size: wanted, towards }) => {
    const pc = new PeerConnection("bench", {
      iceServers: [],
      mtu: 1500,
      maxMessageSize: 256 * 1024,
      disableAutoNegotiation: true,
    });
    const channel = pc.createDataChannel("", { negotiated: true, id: 0 });
    const candidates = [];
    let got = 0;
    const done = new Promise((resolve) => {
      channel.onMessage((message) => {
        got += message.byteLength ?? message.length;
        if (got >= wanted) resolve();
      });
    });
    channel.setBufferedAmountLowThreshold(LOW_WATER);
    const gathered = new Promise((resolve) =>
      pc.onGatheringStateChange((state) => state === "complete" && resolve()),
    );
    pc.onLocalCandidate((candidate) => candidates.push(candidate));
    pc.onStateChange(() => {});
    node = { pc, channel, candidates, gathered, done, towards };
    pc.setRemoteDescription(sdp, "offer");
    pc.setLocalDescription("answer");
    await gathered;
    return pc.localDescription().sdp;
  },
  "/candidates": () => node.candidates,
  "/go": () => {
    const { channel } = node;
    const message = randomBytes(MESSAGE);
    let sent = 0;
    const fill = () => {
      while (sent < size && channel.bufferedAmount() < HIGH_WATER) {
        channel.sendMessageBinary(message);
        sent += MESSAGE;
      }
    };
    channel.onBufferedAmountLow(fill);
    // The page may say that it is open before the library does.
    if (channel.isOpen()) fill();
    else channel.onOpen(fill);
    return {};
  },
  "/done": async () => {
    await node.done;
    return {};
  },
};

const server = createServer((request, response) => {
  const answer = (type, body) => response.writeHead(200, { "content-type": type }).end(body);
  const route = routes[request.url];
  if (request.url === "/")
    answer("text/html", '<!doctype html><script type="module" src="/page.js"></script>');
  else if (request.url === "/small") answer("text/plain", "small");
  else if (request.url === "/page.js") answer("text/javascript", PAGE);
  else if (request.url === "/browser.js") answer("text/javascript", readFileSync(BUNDLE));
  else if (route) {
    let body = "";
    request.on("data", (data) => (body += data));
    request.on("end", async () => answer("application/json", JSON.stringify(await route(JSON.parse(body)))));
  } else response.writeHead(404).end();
});
server.listen(0, "127.0.0.1");
await once(server, "listening");
const url = `http://127.0.0.1:${server.address().port}/`;

const children = new Set();
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});
function run(args, stdio = ["ignore", "pipe", "pipe"]) {
  const child = spawn(process.execPath, [BIN, ...args], { stdio });
  children.add(child);
  let said = "";
  const waiting = new Set();
  child.stderr.on("data", (data) => {
    said += data;
    for (const look of waiting) look();
  });
  child.stdout?.on("data", () => {});
  const exited = new Promise((resolve) =>
    child.on("close", (status) => {
      children.delete(child);
      for (const look of waiting) look();
      resolve(status);
    }),
  );
  const event = (name) =>
    new Promise((resolve, reject) => {
      const look = () => {
        const found = said
          .split("\n")
          .slice(0, -1)
          .map((line) => JSON.parse(line))
          .find((each) => each.event === name);
        if (found) resolve(found);
        else if (child.exitCode !== null) reject(new Error(said));
        else return;
        waiting.delete(look);
      };
      waiting.add(look);
      look();
    });
  return { child, exited, event };
}

/** Processes below that one, and their memory in MiB. */
function memory(root) {
  const parents = new Map();
  const found = new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      parents.set(Number(pid), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // Gone since.
    }
  }
  for (const pid of parents.keys()) {
    let at = pid;
    while (at > 1 && at !== root) at = parents.get(at) ?? 0;
    if (at !== root) continue;
    try {
      const pages = Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]);
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      const tab = /--type=renderer/.test(command) || /-contentproc[^]* tab\0*$/.test(command);
      found.set(pid, { mib: (pages * 4096) / MIB, tab });
    } catch {
      // Gone since.
    }
  }
  return found;
}

/** How much the tab, and everything, grew while that ran. */
async function watched(root, work) {
  const before = memory(root);
  const sum = (all) => [...all.values()].reduce((total, { mib }) => total + mib, 0);
  let tab = 0;
  let all = 0;
  const look = () => {
    const now = memory(root);
    all = Math.max(all, sum(now) - sum(before));
    for (const [pid, each] of now) if (each.tab) tab = Math.max(tab, each.mib - (before.get(pid)?.mib ?? 0));
  };
  const timer = setInterval(look, SAMPLE_MS);
  try {
    return { rate: await work(), tab, all, grown: () => ({ tab, all }) };
  } finally {
    look();
    clearInterval(timer);
  }
}

const PROGRAMS = {
  chromium: async () => {
    const served = await chromium.launchServer({
      executablePath: "/usr/bin/chromium",
      args: ["--no-sandbox"],
    });
    const browser = await chromium.connect(served.wsEndpoint());
    const page = await browser.newPage();
    return { page, pid: served.process().pid, close: () => served.close() };
  },
  firefox: async () => {
    const browser = await puppeteer.launch({
      browser: "firefox",
      executablePath: ["/usr/bin/firefox-esr", "/usr/bin/firefox"].find((path) => existsSync(path)),
      headless: true,
      protocolTimeout: 0,
      env: { ...process.env, HOME: scratch },
    });
    return { page: await browser.newPage(), pid: browser.process().pid, close: () => browser.close() };
  },
};

const rendezvous = run(["rendezvous", "--json", "--listen", "127.0.0.1:0"]);
const at = `http://127.0.0.1:${(await rendezvous.event("listening")).port}/`;
const random = join(scratch, "random.bin");
const file = openSync(random, "w");
for (let written = 0; written < size; written += MIB) writeSync(file, randomBytes(MIB));
closeSync(file);

const common = ["--json", "--no-stun", "--no-lan", "--rendezvous", at];
const partners = {
  pipe: {
    page: () => run(["pipe", ...common], [openSync(random, "r"), "pipe", "pipe"]),
    // Thrown away by the system, as the bare channel's end does with it.
    process: () => run(["pipe", ...common], ["ignore", openSync("/dev/null", "w"), "pipe"]),
  },
  file: {
    page: () => run(["send", random, ...common]),
    process: () => run(["receive", "-o", `${mkdtempSync(join(scratch, "got-"))}/`, "--yes", ...common]),
  },
};

try {
  for (const kind of Object.keys(PROGRAMS).filter((each) => (values.only ?? each) === each)) {
    if (values.rows.includes("fetch")) {
      const { page, close } = await PROGRAMS[kind]();
      const forward = run(["forward", `127.0.0.1:${server.address().port}`, ...common]);
      try {
        // Clocks of pages that are not isolated are coarse: 0.1 ms in Chromium, 1 ms in Firefox.
        await page.goto(url);
        await page.waitForFunction("globalThis.ready");
        const argument = JSON.stringify({
          rendezvous: at,
          code: (await forward.event("code")).code,
          rounds: 500,
        });
        const { direct, over } = await page.evaluate(`tests.fetch(${argument})`);
        console.log(
          `${kind.padEnd(9)} fetch, p50: ${direct.toFixed(1)} ms direct, ${over.toFixed(1)} ms over a session, ` +
            `${(over / direct).toFixed(1)}x, ${(over - direct).toFixed(1)} ms more`,
        );
      } finally {
        forward.child.kill("SIGTERM");
        await close();
      }
    }
    for (const towards of ["page", "process"]) {
      let bare;
      for (const what of values.rows.split(",").filter((row) => row !== "fetch")) {
        // A browser of its own for each row: what one leaves behind is no matter of the next.
        const { page, pid, close } = await PROGRAMS[kind]();
        try {
          await page.goto(url);
          await page.waitForFunction("globalThis.ready");
          if (what === "file" && towards === "process")
            await page.evaluate(`(async () => {
            const root = await navigator.storage.getDirectory();
            const out = await (await root.getFileHandle("random.bin", { create: true })).createWritable();
            for (let at = 0; at < ${size}; at += 1048576) {
              const bytes = new Uint8Array(1048576);
              for (let i = 0; i < bytes.length; i += 65536) crypto.getRandomValues(bytes.subarray(i, i + 65536));
              await out.write(bytes);
            }
            await out.close();
          })()`);
          const partner = partners[what]?.[towards]();
          const code = partner && (await partner.event("code")).code;
          const argument = JSON.stringify({ size, towards, rendezvous: at, code });
          const { rate, grown } = await watched(pid, () => page.evaluate(`tests.${what}(${argument})`));
          if (partner) await partner.exited;
          if (what === "bare") bare = rate;
          const { tab, all } = grown();
          console.log(
            `${kind.padEnd(9)} to ${towards.padEnd(8)} ${what.padEnd(5)} ${rate.toFixed(1).padStart(6)} MiB/s ` +
              `${(rate / bare).toFixed(2)}x bare   tab +${tab.toFixed(0)} MiB, whole browser +${all.toFixed(0)} MiB`,
          );
        } finally {
          node?.pc.close();
          node = undefined;
          await close();
        }
      }
    }
  }
} finally {
  for (const child of children) child.kill("SIGTERM");
  server.close();
  server.closeAllConnections();
  rmSync(scratch, { recursive: true, force: true });
}
