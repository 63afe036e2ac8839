/** The ways into the page: codes, links, a file of one's own; what goes wrong there, and what people without eyes or a mouse find. */
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { otherWords, startServer } from "../e2e/code.ts";
import { fail, sha256, start, succeed, temporaryDirectory } from "../e2e/dcpipe.ts";
import { KINDS } from "./harness.ts";
import { openUser } from "./user.ts";

function makeFile(name: string, content: string): string {
  const path = join(temporaryDirectory(), name);
  writeFileSync(path, content);
  return path;
}

for (const kind of KINDS) {
  test(`${kind}: a link is opened many times and uses nothing up; what to type stands there, too`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const process = start(["send", makeFile("a", "a"), "--rendezvous", server.url]);
    const code = await process.code();
    for (let time = 0; time < 3; time++) {
      await user.visit(`${server.url}?${time}#${code}`);
      await user.see("heading", "Somebody waits for you");
      await user.read(code);
    }
    await user.click("button", "In a terminal instead");
    await user.read(`dcpipe receive ${code} --rendezvous ${server.url}`);
    await user.read(`dcpipe send FILE --to ${code} --rendezvous ${server.url}`);
    await user.read(`dcpipe pipe ${code} --rendezvous ${server.url}`);
    await user.read(`dcpipe forward ${code} --rendezvous ${server.url}`);
    await user.click("button", "Copy the command to receive files");
    await user.click("button", "dcpipe in a terminal");
    await user.read("npm install -g dcpipe");
    // Nobody has claimed it: it still serves.
    await user.click("button", "Connect");
    await user.click("button", "Download");
    await succeed(process);
  });

  test(`${kind}: wrong words burn the code, and both sides say so`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const process = start(["send", makeFile("a", "a"), "--rendezvous", server.url]);
    await user.visit(`${server.url}#${otherWords(await process.code())}`);
    await user.click("button", "Connect");
    await user.see("heading", "The words of the code are wrong.");
    await fail(process, 4);
    await user.click("button", "Start over");
    await user.type("Code or link", "999-acorn-acorn");
    await user.press("Enter");
    await user.see("heading", "Nobody waits with this code.");
  });

  test(`${kind}: what is no code is said at the field, as text`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    await user.visit(`${server.url}#<img src=/x onerror=alert(1)>`);
    await user.see("heading", "Between two machines");
    await user.see("status", /That is no code/);
    expect(await user.run(() => document.images.length, undefined)).toBe(0);
    expect(
      await user.run(() => document.querySelector<HTMLInputElement>("input.code")?.value, undefined),
    ).toBe("<img src=/x onerror=alert(1)>");
    for (const [fragment, said] of [
      ["7-gutar-sandwich", 'did you mean "guitar"'],
      ["7-a-$(x)", "no word of a code"],
      ["0-guitar-sandwich", "none that a rendezvous gives"],
      ["%E0%A4%A", "no code"],
      ["dc1abcdef", "token"],
      ["7-guitar", "word is missing"],
      ["x".repeat(5000), "code"],
    ] as const) {
      // As somebody who follows one link after the other in one tab.
      await user.run((hash) => {
        location.hash = hash;
      }, fragment);
      await user.see("status", new RegExp(said.replace(/[$()]/g, "\\$&")));
    }
    await user.run(() => {
      location.hash = "12-ocean-tiger";
    }, undefined);
    await user.read("12-ocean-tiger");
    expect(await user.run(() => document.title, undefined)).toContain("Somebody waits for you");
  });

  test(`${kind}: words are completed with Tab, and only where there is something to complete`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    await user.visit(server.url);
    await user.type("Code or link", "7-gui");
    await user.press("Tab");
    const value = (): Promise<string | undefined> =>
      user.run(() => document.querySelector<HTMLInputElement>("input.code")?.value, undefined);
    expect(await value()).toMatch(/^7-guid|^7-guitar/);
    await user.type("Code or link", "xxxxx");
    await user.press("Tab");
    expect(await user.run(() => document.activeElement?.textContent, undefined)).toBe("Go on");
  });

  test(`${kind}: everything has a name, and the keyboard goes through it in order`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    await user.visit(server.url);
    await user.see("heading", "Between two machines");
    const order: string[] = [];
    for (let times = 0; times < 7; times++) {
      await user.press("Tab");
      order.push(
        await user.run(() => {
          const { activeElement: element } = document;
          const label = element?.id ? document.querySelector(`label[for="${element.id}"]`) : null;
          return label?.textContent ?? element?.textContent ?? "";
        }, undefined),
      );
    }
    expect(order.map((each) => each.replace(/(files|pipe)(and|from|lines).*/, "$1"))).toEqual([
      "Code or link",
      "Go on",
      "Send files",
      "Receive files",
      "Open a pipe",
      "dcpipe in a terminal",
      "Who sees what",
    ]);
    const nameless = (): Promise<string[]> =>
      user.run(
        () =>
          [
            ...document.querySelectorAll<HTMLElement>(
              "button, input, textarea, progress, [role=img], [tabindex='0']",
            ),
          ]
            .filter(
              (element) =>
                (element.getAttribute("aria-label") ?? element.textContent).trim() === "" &&
                !element.hasAttribute("aria-labelledby") &&
                !document.querySelector(`label[for="${element.id}"]`),
            )
            .map((element) => element.outerHTML),
        undefined,
      );
    expect(await nameless()).toEqual([]);
    expect(await user.run(() => document.documentElement.lang, undefined)).toBe("en");
    expect(await user.run(() => document.querySelectorAll("h1").length, undefined)).toBe(1);
    await user.click("button", /^Send files/);
    // The focus is where the new view begins.
    expect(await user.run(() => document.activeElement?.textContent, undefined)).toBe("Send files");
    expect(await nameless()).toEqual([]);
  });

  test(`${kind}: a page of one's own, from disk, receives at a rendezvous that is typed`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const file = join(temporaryDirectory(), "dcpipe.html");
    expect((await start(["page", "--out", file]).exited).status).toBe(0);
    const process = start(["send", makeFile("a.txt", "hello"), "--rendezvous", server.url]);
    await user.visit(pathToFileURL(file).href);
    await user.type("Code or link", await process.code());
    await user.press("Enter");
    await user.see("status", /Which rendezvous/);
    await user.type("Rendezvous", server.url);
    await user.click("button", "Go on");
    await user.see("heading", "Receive a.txt (5 B)?");
    await user.read("Downloads are held in memory here");
    await user.click("button", "Download");
    await user.see("heading", "Received");
    await succeed(process);
    await user.downloaded("a.txt", sha256(Buffer.from("hello")));
  });

  test(`${kind}: from disk, with its rendezvous written into it, the page waits and sends`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const file = join(temporaryDirectory(), "dcpipe.html");
    const written = start(["page", "--out", file, "--rendezvous", server.url]);
    expect((await written.exited).status).toBe(0);
    await user.visit(pathToFileURL(file).href);
    await user.click("button", /^Send files/);
    await user.click("button", "A text");
    await user.type("Text to send", "from a file");
    await user.click("button", "Get a code");
    const link = await user.read(/http\S+#\d\S+/);
    expect(link.startsWith(server.url)).toBe(true);
    const process = start(["receive", link]);
    const [exit] = await succeed(process);
    expect(exit?.stdout.toString()).toBe("from a file\n");
  });

  test(`${kind}: from disk, more than fits into memory is refused before`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const file = join(temporaryDirectory(), "dcpipe.html");
    expect((await start(["page", "--out", file, "--rendezvous", server.url]).exited).status).toBe(0);
    const large = makeFile("large", "");
    truncateSync(large, 300 * 2 ** 20);
    const process = start(["send", large, "--rendezvous", server.url]);
    await user.visit(`${pathToFileURL(file).href}#${await process.code()}`);
    await user.click("button", "Connect");
    await user.see("heading", "Receive large (300 MiB)?");
    await user.read("256 MiB at most; that is more.");
    const buttons = await user.run(
      () => [...document.querySelectorAll("main button")].map(({ textContent }) => textContent),
      undefined,
    );
    expect(buttons).not.toContain("Download");
    await user.click("button", "Refuse");
    await fail(process, 5);
  });

  test(`${kind}: a page that came by http says why it can do nothing, and what to type`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind, { insecure: true });
    await user.visit(`${server.url}#7-guitar-sandwich`);
    await user.see("heading", "Not in this browser");
    await user.read("This one came by http.");
    await user.read(`dcpipe receive 7-guitar-sandwich --rendezvous ${server.url}`);
  });

  test(`${kind}: a code is read from the camera, where the browser reads them`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const process = start(["send", "--text", "seen", "--rendezvous", server.url]);
    await user.visit(server.url);
    await user.run(
      (link) => {
        // No browser on Debian reads QR codes, and there is no camera.
        const canvas = document.createElement("canvas");
        const draw = (): void => {
          canvas.getContext("2d")?.fillRect(0, 0, Math.random() * 100, 10);
          requestAnimationFrame(draw);
        };
        draw();
        Object.assign(navigator.mediaDevices, {
          getUserMedia: () => Promise.resolve(canvas.captureStream()),
        });
        class Detector {
          static getSupportedFormats = (): Promise<string[]> => Promise.resolve(["qr_code"]);
          detect = (): Promise<{ rawValue: string }[]> => Promise.resolve([{ rawValue: link }]);
        }
        Object.assign(globalThis, { BarcodeDetector: Detector });
        location.hash = "again";
      },
      `${server.url}#${await process.code()}`,
    );
    await user.click("button", "Scan a QR code");
    await user.see("heading", "Received");
    await user.read("seen");
    await succeed(process);
  });

  test(`${kind}: through the relay, and said so`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const args = ["send", makeFile("a", "a"), "--relay", "only", "--rendezvous", server.url];
    const process = start(args);
    await user.visit(`${server.url}#${await process.code()}`);
    await user.click("button", "Connect");
    await user.read("through the relay");
    await user.click("button", "Download");
    await user.see("heading", "Received");
    await succeed(process);
  });

  test(`${kind}: two pages, one waits, the other opens its link`, async (context) => {
    const server = await startServer();
    const [one, other] = [await openUser(context, kind), await openUser(context, kind)];
    await one.visit(server.url);
    await one.click("button", /^Send files/);
    await one.pick("Files to send", [makeFile("a.txt", "from page to page")]);
    await one.click("button", "Get a code");
    await other.visit(await one.read(/http\S+#\d\S+/));
    await other.click("button", "Connect");
    await other.click("button", "Download");
    await other.see("heading", "Received");
    await one.see("heading", "Sent");
    await other.downloaded("a.txt", sha256(Buffer.from("from page to page")));
  });

  test(`${kind}: the other side forwards ports; the page says what to do`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const process = start(["forward", "5432", "--rendezvous", server.url]);
    await user.visit(`${server.url}#${await process.code()}`);
    await user.click("button", "Connect");
    await user.see("heading", "The other side forwards ports");
    await user.read("localhost:5432");
    await user.click("button", "Close");
    await user.see("heading", "Closed");
    await process.exited;
  });

  test(`${kind}: below another path, behind a query, everything is found`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const process = start(["send", makeFile("a.txt", "below"), "--rendezvous", server.url]);
    const code = await process.code();
    await user.visit(`${server.url}some/$(where);'\`/?x=1#${code}`);
    // Whoever made the link chose the path: in a command it is a path and nothing else.
    await user.click("button", "In a terminal instead");
    const at = `${server.url}some/%24%28where%29%3b%27%60/`;
    await user.read(new RegExp(`dcpipe receive ${code} --rendezvous ${at}`));
    await user.click("button", "Connect");
    await user.click("button", "Download");
    await user.see("heading", "Received");
    await user.downloaded("a.txt", sha256(Buffer.from("below")));
    await succeed(process);
  });
}

for (const dark of [false, true])
  test(`chromium: all text can be read against what is behind it${dark ? ", in the dark" : ""}`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, "chromium", { dark });
    const faint = (): Promise<string[]> =>
      user.run(() => {
        const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        /** Any colour of CSS as red, green, blue and opacity, 0 to 255. */
        const parse = (color: string): number[] => {
          if (!canvas) return [];
          canvas.clearRect(0, 0, 1, 1);
          canvas.fillStyle = color;
          canvas.fillRect(0, 0, 1, 1);
          return [...canvas.getImageData(0, 0, 1, 1).data];
        };
        // WCAG 2.2, relative luminance.
        const luminance = (color: readonly number[]): number => {
          const [r = 0, g = 0, b = 0] = color.map((value) => {
            const share = value / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
          });
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const behind = (element: Element | null): number[] => {
          for (let each = element; each; each = each.parentElement) {
            const color = parse(getComputedStyle(each).backgroundColor);
            if (color[3] === 255) return color;
          }
          return [255, 255, 255];
        };
        const found: string[] = [];
        for (const element of document.querySelectorAll<HTMLElement>("#page *")) {
          const own = [...element.childNodes].some((node) => node instanceof Text && node.data.trim() !== "");
          if (!own || !element.checkVisibility()) continue;
          const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))];
          const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          if (contrast < 4.5) found.push(`${element.textContent}: ${contrast.toFixed(2)}`);
        }
        return found;
      }, undefined);
    await user.visit(`${server.url}#7-gutar`);
    await user.see("status", /word/);
    expect(await faint()).toEqual([]);
    await user.visit(`${server.url}?#7-guitar-sandwich`);
    await user.click("button", "In a terminal instead");
    expect(await faint()).toEqual([]);
    await user.click("button", "Connect");
    await user.see("heading", "Nobody waits with this code.");
    expect(await faint()).toEqual([]);
    await user.click("button", "Start over");
    await user.click("button", /^Send files/);
    expect(await faint()).toEqual([]);
  });
