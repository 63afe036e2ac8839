/** The two pages of docs/raw.md as they stand there, with a user who copies what they print. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test, type TestContext } from "vitest";
import { BROWSERS, openTab } from "./browsers.ts";
import { makeFile, start, succeed, temporaryDirectory } from "./dcpipe.ts";
import { writeTokenFile } from "../../src/node/tokenfile.ts";

const DOC = readFileSync(join(import.meta.dirname, "../../docs/raw.md"), "utf8");
const [DESCRIBED, ANSWERS, OFFERS, ...others] = [...DOC.matchAll(/^```js\n([\s\S]*?)^```$/gm)].map(
  ([, code]) => code,
);

/** The page with that code in it: what it prints, in order, and what it is told when it asks. */
async function open(context: TestContext, name: (typeof BROWSERS)[number], code: string | undefined) {
  const tab = await openTab(context, name);
  const said: string[] = [];
  let heard: (() => void) | undefined;
  tab.onlog = (text) => {
    said.push(text);
    heard?.();
  };
  return {
    async line(): Promise<string> {
      while (said.length === 0) await new Promise<void>((resolve) => (heard = resolve));
      return said.shift() ?? "";
    },
    /** Runs to the end of the code; `typed` is what the user does at its question. */
    run(question: string, typed: () => Promise<string>): Promise<unknown> {
      tab.onprompt = (asked) => {
        expect(asked).toBe(question);
        return typed();
      };
      return tab.evaluate(`(async () => { ${DESCRIBED ?? ""}; ${code ?? ""} })()`);
    },
  };
}

test("there are these three pieces of code, and no others", () => {
  expect(DESCRIBED).toContain("const described");
  expect(ANSWERS).toContain("createAnswer");
  expect(OFFERS).toContain("createOffer");
  expect(others).toEqual([]);
});

for (const name of BROWSERS) {
  test(`${name}: the page that answers`, async (context) => {
    const page = await open(context, name, ANSWERS);
    const file = join(temporaryDirectory(), "answer");
    const bytes = randomBytes(1_000_003);
    const dcpipe = start(["pipe", "--raw", "--answer-file", file], { stdin: bytes });
    await page.run("Offer", () => dcpipe.offer());
    await writeTokenFile(file, await page.line(), {});
    expect(await page.line()).toBe(`received ${bytes.length} bytes`);
    await succeed(dcpipe);
  });

  test(`${name}: the page that offers`, async (context) => {
    expect(DOC).toContain("dcpipe pipe --raw --code-file offer.json > file < /dev/null");
    const page = await open(context, name, OFFERS);
    const dcpipe = page
      .line()
      .then((offer) => start(["pipe", "--raw", "--code-file", makeFile("offer.json", Buffer.from(offer))]));
    await page.run("Answer", async () => String((await (await dcpipe).event("answer")).token));
    const exit = await succeed(await dcpipe);
    expect(exit[0]?.stdout.toString()).toBe("text, or binary");
  });
}
