/** How long a mapping lives: on virtual time, with a router that is a function. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { DcpipeError } from "../../src/errors.ts";
import type { Grant, MappingClient, MapRequest } from "../../src/node/mapping/client.ts";
import { keepLease } from "../../src/node/mapping/lease.ts";

const PORT = 41_000;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

interface Lease {
  readonly mapping: ReturnType<typeof keepLease>;
  /** Seconds after the start at which it was renewed. */
  readonly renewed: number[];
  readonly requests: MapRequest[];
  readonly log: string[];
  released: number;
}

function lease(
  first: Partial<Grant>,
  answer: (request: MapRequest, nth: number) => Partial<Grant> | Promise<never> = () => ({}),
): Lease {
  const grant: Grant = { port: PORT, address: "44.0.0.1", lifetime: 3600, hasRestarted: false };
  const start = performance.now();
  const log: string[] = [];
  const requests: MapRequest[] = [];
  const renewed: number[] = [];
  const client: MappingClient = {
    protocol: "pcp",
    address: undefined,
    map: async (request) => {
      requests.push(request);
      renewed.push((performance.now() - start) / 1_000);
      return { ...grant, port: request.external, ...(await answer(request, requests.length)) };
    },
    unmap: () => Promise.resolve(),
  };
  const result: Lease = {
    mapping: keepLease(
      client,
      { ...grant, ...first },
      {
        port: PORT,
        lifetime: 3600,
        onlog: (text) => log.push(text),
        unmap: () => {
          result.released++;
          return Promise.resolve();
        },
      },
    ),
    renewed,
    requests,
    log,
    released: 0,
  };
  return result;
}

const silence = (): Promise<never> => Promise.reject(new DcpipeError("TIMEOUT", "silence"));
const seconds = (count: number): Promise<unknown> => vi.advanceTimersByTimeAsync(count * 1_000);

test("is renewed between half and five eighths of its time, again and again", async () => {
  const { renewed, requests } = lease({});
  await seconds(3 * 3_600);
  expect(renewed.length).toBeGreaterThanOrEqual(4);
  for (const [index, at] of renewed.entries()) {
    const gap = at - (renewed[index - 1] ?? 0);
    expect(gap).toBeGreaterThanOrEqual(1_800);
    expect(gap).toBeLessThanOrEqual(2_251);
  }
  expect(requests[0]).toEqual({ port: PORT, external: PORT, lifetime: 3600 });
});

test("what the router grants counts, not what was asked for", async () => {
  const { renewed } = lease({ lifetime: 120 }, () => ({ lifetime: 240 }));
  await seconds(76);
  expect(renewed).toHaveLength(1);
  await seconds(119);
  expect(renewed.length).toBeLessThanOrEqual(2);
  await seconds(40);
  expect(renewed).toHaveLength(2);
});

test("a router that grants a second is not asked each half of one", async () => {
  const { renewed } = lease({ lifetime: 1 }, () => ({ lifetime: 1 }));
  await seconds(41);
  expect(renewed).toEqual([4, 8, 12, 16, 20, 24, 28, 32, 36, 40]);
});

test("a router that grants for ever is asked each day", async () => {
  const { renewed } = lease({ lifetime: 0xffff_ffff }, () => ({ lifetime: 0xffff_ffff }));
  await seconds(11 * 3_600);
  expect(renewed).toEqual([]);
  await seconds(5 * 3_600);
  expect(renewed).toHaveLength(1);
});

test("silence: it is asked again while there is time, and then each minute", async () => {
  const { renewed, log, mapping } = lease({ lifetime: 120 }, silence);
  await seconds(120);
  expect(renewed.length).toBeGreaterThanOrEqual(3);
  const gaps = renewed.map((at, index) => at - (renewed[index - 1] ?? 0));
  for (const gap of gaps) expect(gap).toBeGreaterThanOrEqual(4);
  expect(log.every((text) => /not renewed: silence/.test(text))).toBe(true);
  const before = renewed.length;
  await seconds(300);
  expect(renewed.length - before).toBeGreaterThanOrEqual(4);
  expect(renewed.length - before).toBeLessThanOrEqual(6);
  expect(log.at(-1)).toMatch(/lost: silence/);
  expect(mapping.port).toBe(PORT);
});

test("a router that comes back", async () => {
  const { mapping, log } = lease({ lifetime: 60 }, (_, nth) =>
    nth < 20 ? silence() : { hasRestarted: true, lifetime: 3600 },
  );
  await seconds(3_600);
  expect(log).toContain("port mapping: the router has started anew");
  expect(log.at(-1)).toMatch(/renewed for 3600 s/);
  expect(mapping.port).toBe(PORT);
});

test("another port, another address: the mapping says so, and asks for that from then on", async () => {
  const { mapping, log, requests } = lease({}, (_, nth) =>
    nth === 1 ? { port: 50_000, address: "44.0.0.2" } : { address: undefined },
  );
  await seconds(2_251);
  expect(mapping).toMatchObject({ port: 50_000, address: "44.0.0.2" });
  expect(log).toContain(`port mapping: the router has moved port ${PORT} to 50000`);
  await seconds(2_251);
  expect(requests[1]?.external).toBe(50_000);
  expect(mapping).toMatchObject({ port: 50_000, address: undefined });
});

test("released: nothing is asked any more, and it is given back once", async () => {
  const one = lease({ lifetime: 120 });
  await seconds(76);
  expect(one.renewed).toHaveLength(1);
  await Promise.all([one.mapping.release(), one.mapping.release()]);
  await one.mapping.release();
  await seconds(3_600);
  expect(one.renewed).toHaveLength(1);
  expect(one.released).toBe(1);
});

test("released while it is renewed: given back behind that, and never asked for again", async () => {
  let refuse: ((error: Error) => void) | undefined;
  const one = lease({ lifetime: 120 }, () => new Promise<never>((_, reject) => (refuse = reject)));
  await seconds(76);
  const released = one.mapping.release();
  expect(one.released).toBe(0);
  refuse?.(new Error("stopped"));
  await released;
  expect(one.released).toBe(1);
  await seconds(3_600);
  expect(one.renewed).toHaveLength(1);
  expect(one.log).toEqual([]);
});
