/** What is done to a site's bytes on their way into a browser: pure, and all of it hostile. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cookieText, parseCookie, withCookie, type Cookie } from "../../src/site/cookies.ts";
import { createJar } from "../../src/site/outer/jar.ts";
import { mapUrl, requestFields, responseFields, type Places } from "../../src/site/outer/fields.ts";
import type { RequestMessage } from "../../src/site/messages.ts";
import { openDocument, placeForScript, prescan, unitsOf } from "../../src/site/worker/html.ts";
import { amendPolicy } from "../../src/site/worker/policy.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("the place for the script", () => {
  test.each([
    ["<!doctype html><html><head>|<title>x"],
    ["\ufeff<!DOCTYPE html>\n<html lang=en>\n<head data-a=\"x>y\" b='>'>|\n<meta>"],
    ["<!-- a > b --><!doctype html><!--> <html><head>|"],
    ["<!doctype html><html>|<body>"],
    ["<!doctype html>|<header>"],
    ["<html><headless>".replace("<headless>", "|<headless>")],
    ["|plain text"],
    ["  \n|<script>1</script>"],
    ['<!doctype html><html a="unclosed'.replace("<html", "|<html")],
    ["|"],
    ["|<"],
  ])("%s", (text) => {
    const whole = text.replace("|", "");
    expect(placeForScript(bytes(whole), "ascii", true)).toBe(bytes(text.slice(0, text.indexOf("|"))).length);
  });

  test("whatever comes in whatever pieces, the document is the same but for the script, which stands before any other", async () => {
    const piece = fc.constantFrom(
      "<!doctype html>",
      "<html>",
      "<html x='>'>",
      "<head>",
      "<!-- c -->",
      "<!--",
      "-->",
      " ",
      "<script>1</script>",
      "<p>",
      "ä",
      "<",
      ">",
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { maxLength: 8 }),
        fc.constantFrom("ascii", "utf-16le"),
        fc.nat(7),
        async (pieces, units, size) => {
          const text = pieces.join("");
          const whole = units === "ascii" ? bytes(text) : new Uint8Array(Buffer.from(text, "utf16le"));
          let at = 0;
          const body = new ReadableStream<Uint8Array>({
            pull: (controller) => {
              if (at >= whole.length) controller.close();
              else controller.enqueue(whole.subarray(at, (at += size + 1)));
            },
          });
          const document = await openDocument(body, units === "ascii" ? "utf-8" : units);
          const out = Buffer.from(await new Response(document.with("\u0001") as never).arrayBuffer());
          const shown = units === "ascii" ? out.toString() : out.toString("utf16le");
          expect(shown.replace("\u0001", "")).toBe(text);
          expect(shown.indexOf("\u0001")).toBeGreaterThanOrEqual(0);
          const script = text.indexOf("<script>");
          // One in a comment is none.
          if (script >= 0 && !text.slice(0, script).includes("<!--"))
            expect(shown.indexOf("\u0001")).toBeLessThanOrEqual(script);
        },
      ),
    );
  });

  test("a document that never begins is given up", () => {
    const endless = bytes(`<!doctype html><!--${"x".repeat(70_000)}`);
    expect(placeForScript(endless, "ascii", false)).toBe("<!doctype html>".length);
    expect(placeForScript(endless.subarray(0, 1000), "ascii", false)).toBeUndefined();
  });

  test("encodings", () => {
    expect(unitsOf(Uint8Array.of(0xff, 0xfe), "utf-8")).toBe("utf-16le");
    expect(unitsOf(Uint8Array.of(0xfe, 0xff), undefined)).toBe("utf-16be");
    expect(unitsOf(bytes("\ufeff"), "utf-16le")).toBe("ascii");
    expect(unitsOf(bytes("<"), "UTF-16")).toBe("utf-16le");
    expect(prescan(bytes('<head><meta charset="Shift_JIS">'))).toBe("Shift_JIS");
    expect(prescan(bytes("<meta http-equiv=Content-Type content='text/html; charset=koi8-r'>"))).toBe(
      "koi8-r",
    );
    expect(prescan(bytes("<!-- <meta charset=a> --><meta name=x content='charset=b'>"))).toBeUndefined();
    expect(prescan(bytes('<meta charset="utf-16">'))).toBe("utf-8");
    expect(prescan(bytes('<meta charset="a\r\nx: y">'))).toBe("a");
  });
});

describe("the site's own security policy", () => {
  const hash = "sha256-abc=";
  test.each([
    ["default-src 'self'", "default-src 'self'; script-src-elem 'self' 'sha256-abc='"],
    ["default-src 'none'; img-src *", "default-src 'none'; img-src *; script-src-elem 'sha256-abc='"],
    ["script-src 'self' 'unsafe-inline'", "script-src 'self' 'unsafe-inline'"],
    ["script-src 'unsafe-inline' 'nonce-x'", "script-src 'unsafe-inline' 'nonce-x' 'sha256-abc='"],
    ["script-src 'none'", "script-src 'sha256-abc='"],
    ["script-src a; script-src-elem b", "script-src a; script-src-elem b 'sha256-abc='"],
    ["frame-ancestors 'none'; upgrade-insecure-requests; report-uri /x", ""],
    ["img-src a; IMG-SRC b", "img-src a"],
    [
      "script-src a, default-src b",
      "script-src a 'sha256-abc=', default-src b; script-src-elem b 'sha256-abc='",
    ],
    [" ;; ,", ""],
  ])("%s", (given, amended) => {
    expect(amendPolicy(given, hash)).toBe(amended);
  });

  test("no script of ours, none allowed", () => {
    expect(amendPolicy("script-src 'self'; frame-ancestors x", undefined)).toBe("script-src 'self'");
  });
});

describe("cookies", () => {
  const now = 1_000_000;
  const parse = (text: string, path = "/a/b"): Cookie | undefined => parseCookie(text, path, now);

  test.each([
    ["a=1", { name: "a", value: "1", path: "/a", httpOnly: false, sameSite: "lax" }],
    [
      " a = b=c ; path=/x; HTTPONLY; samesite=None",
      { name: "a", value: "b=c", path: "/x", httpOnly: true, sameSite: "none" },
    ],
    ["a=1; path=x", { path: "/a" }],
    ["a=1; max-age=10; expires=Thu, 01 Jan 1970 00:00:00 GMT", { expires: now + 10_000 }],
    ["a=1; Max-Age=-1", { expires: 0 }],
    ["value", { name: "", value: "value" }],
  ])("%s", (text, expected) => {
    expect(parse(text)).toMatchObject(expected);
  });

  test.each(["", "=", "=a=b", "a=\r\nSet-Cookie: b", `a=${"x".repeat(5000)}`, "a=\0"])(
    "%j is none",
    (text) => {
      expect(parse(text)).toBeUndefined();
    },
  );

  test("paths, order, replacing and ending", () => {
    let list: Cookie[] = [];
    for (const text of [
      "a=1; path=/",
      "b=2; path=/x/y",
      "c=3; path=/x",
      "a=4; path=/",
      "c=; path=/x; max-age=0",
    ]) {
      const cookie = parse(text);
      if (cookie) list = withCookie(list, cookie, now);
    }
    expect(cookieText(list, "/x/y/z?q", now)).toBe("b=2; a=4");
    expect(cookieText(list, "/x/yz", now)).toBe("a=4");
  });

  test("a jar keeps what fits, and scripts do not touch what is HttpOnly", () => {
    const changes: number[] = [];
    const jar = createJar((visible) => changes.push(visible.length));
    jar.store("/", ["s=1; HttpOnly; Path=/"]);
    expect(changes).toEqual([]);
    jar.assign("/", "s=2; Path=/");
    jar.assign("/", "t=3; HttpOnly");
    jar.assign("/", "u=4; SameSite=None");
    expect(jar.text("/", false)).toBe("s=1; u=4");
    expect(jar.text("/", true)).toBe("u=4");
    expect(changes).toEqual([1]);
    jar.store(
      "/",
      Array.from({ length: 500 }, (_, index) => `n${index}=${"x".repeat(100)}`),
    );
    expect(jar.text("/", false).length).toBeLessThanOrEqual(16 * 1024);
    expect(jar.text("/", false)).toContain("n499=");
  });
});

describe("heads", () => {
  const places: Places = {
    target: "http://localhost:3000",
    aliases: ["http://localhost:3000", "http://127.0.0.1:3000"],
    inner: "http://site.abc.localhost:8787",
    browser: { userAgent: "test", languages: ["en"] },
  };
  const request = (more: Partial<RequestMessage>): RequestMessage => ({
    type: "request",
    method: "GET",
    path: "/",
    fields: [],
    length: undefined,
    body: undefined,
    referrer: "",
    mode: "cors",
    destination: "",
    credentials: "include",
    ...more,
  });

  test.each([
    ["/next", "http://site.abc.localhost:8787/next"],
    ["next?x", "http://site.abc.localhost:8787/dir/next?x"],
    ["http://127.0.0.1:3000//evil.example/", "http://site.abc.localhost:8787//evil.example/"],
    ["//localhost:3000/a", "http://site.abc.localhost:8787/a"],
    ["https://example.org/x", "https://example.org/x"],
    ["//example.org/x", "http://example.org/x"],
    ["http://localhost:3000@evil.example/", "http://localhost:3000@evil.example/"],
    ["http://localhost:30001/", "http://localhost:30001/"],
    ["\xc3\xa4", "http://site.abc.localhost:8787/dir/%C3%A4"],
    ["javascript:alert(1)", undefined],
    ["data:text/html,x", undefined],
    ["http://", undefined],
  ])("Location: %s", (value, mapped) => {
    expect(mapUrl(value, "/dir/page", places)).toBe(mapped);
  });

  test("what an answer may not say does not come through", () => {
    const fields = responseFields(
      [
        ["content-type", "text/html"],
        ["set-cookie", "a=1"],
        ["clear-site-data", '"*"'],
        ["service-worker-allowed", "/"],
        ["strict-transport-security", "max-age=1"],
        ["x-frame-options", "DENY"],
        ["referrer-policy", "unsafe-url"],
        ["location", "javascript:1"],
        ["refresh", "3; URL='http://localhost:3000/x'"],
        ["x-own", "1"],
      ],
      "/",
      places,
    );
    expect(fields).toEqual([
      ["content-type", "text/html"],
      ["refresh", "3; url=http://site.abc.localhost:8787/x"],
      ["x-own", "1"],
      ["referrer-policy", "same-origin"],
    ]);
  });

  test("a request says nothing of this origin, and a foreign one is none of the site's own", () => {
    const get = (more: Partial<RequestMessage>): Record<string, string> =>
      Object.fromEntries(requestFields(request(more), places, "c=1"));
    const own = get({
      method: "POST",
      referrer: `${places.inner}/page?x#y`,
      fields: [
        ["Host", "evil"],
        ["Origin", places.inner],
        ["Cookie", "evil=1"],
        ["X-Forwarded-For", "1.2.3.4"],
        ["Sec-Fetch-Site", "none"],
        ["Range", "bytes=0-"],
      ],
    });
    expect(own).toMatchObject({
      origin: places.target,
      referer: "http://localhost:3000/page?x",
      cookie: "c=1",
      "accept-encoding": "identity",
    });
    expect(JSON.stringify(own)).not.toMatch(/evil|abc|8787|1\.2\.3/);
    const foreign = get({ method: "POST", mode: "navigate", referrer: "https://evil.example/" });
    expect(foreign).toMatchObject({ origin: "null", "sec-fetch-site": "cross-site" });
    expect(foreign).not.toHaveProperty("referer");
    // A name that only begins like it.
    expect(get({ method: "POST", mode: "navigate", referrer: `${places.inner}0/` })).toMatchObject({
      origin: "null",
    });
  });
});
