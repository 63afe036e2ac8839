/** Paths that carry less than they should, or more than others: which packet size is next, and sessions over such paths. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ConnectionEvent } from "../../src/connect/connection.ts";
import { ETHERNET_MTU, JUMBO_MTU, PathMtu, SAFE_MTU } from "../../src/connect/mtu.ts";
import { connect, listen, type Joining, type Waiting } from "../../src/connect/token.ts";
import { DcpipeError } from "../../src/errors.ts";
import type { Session } from "../../src/session/session.ts";
import { Ether, Host } from "./ether.ts";
import { pass, run, settled, startTime, stopTime, within } from "./network.ts";

describe("the next packet size", () => {
  test("of a control channel goes down, and begins anew when nothing helps", () => {
    const path = new PathMtu();
    const sizes = [1, 2, 3, 4, 5].map(() => {
      const size = path.control;
      path.controlFailed(size);
      return size;
    });
    expect(sizes).toEqual([1280, 1200, 1000, 640, 1280]);
  });

  test("of a control channel goes down once when two tries of the same size fail", () => {
    const path = new PathMtu();
    path.controlFailed(1280);
    path.controlFailed(1280);
    expect(path.control).toBe(1200);
  });

  test("of bulk goes down at once where that size was never seen to pass", () => {
    const path = new PathMtu();
    expect(path.bulkFailed(1500)).toBe(true);
    expect(path.bulk).toBe(1280);
  });

  test("of bulk is then that of the control channel", () => {
    const path = new PathMtu();
    path.controlFailed(1280);
    path.controlFailed(1200);
    expect(path.bulk).toBe(1500);
    path.bulkFailed(1500);
    expect(path.bulk).toBe(1000);
  });

  test("of bulk goes down after two failures where it did pass, or where the control channel's does", () => {
    const path = new PathMtu();
    path.bulkStood(1500);
    expect(path.bulkFailed(1500)).toBe(false);
    expect(path.bulk).toBe(1500);
    expect(path.bulkFailed(1500)).toBe(true);
    expect([path.bulk, path.bulkFailed(1280), path.bulk]).toEqual([1280, false, 1280]);
    expect([path.bulkFailed(1280), path.bulk]).toEqual([true, 1200]);
    // Below what is known nothing is.
    expect([path.bulkFailed(1200), path.bulkFailed(1200), path.bulk]).toEqual([false, true, 1000]);
  });

  test("of bulk forgets its doubts with every success", () => {
    const path = new PathMtu();
    for (let i = 0; i < 10; i++) {
      path.bulkStood(1500);
      expect(path.bulkFailed(1500)).toBe(false);
    }
    expect(path.bulk).toBe(1500);
  });

  test("of bulk begins anew below the smallest, after a pause", () => {
    const path = new PathMtu();
    const sizes = new Set<number>();
    let failures = 0;
    for (let again = true; again || path.bulk !== ETHERNET_MTU;) {
      sizes.add(path.bulk);
      again = path.bulkFailed(path.bulk);
      expect(++failures).toBeLessThan(20);
    }
    expect([...sizes]).toEqual([1500, 1280, 1200, 1000, 640]);
  });

  test("of bulk is tried above Ethernet's once, on a short path, when that has passed", () => {
    const path = new PathMtu();
    expect(path.larger(0.3)).toBeUndefined();
    path.bulkStood(1500);
    expect(path.larger(20)).toBeUndefined();
    expect(path.larger(0.3)).toBe(JUMBO_MTU);
    expect(path.larger(0.3)).toBeUndefined();
    path.bulkStood(JUMBO_MTU);
    expect(path.bulk).toBe(JUMBO_MTU);
    path.renew();
    expect(path.bulk).toBe(1500);
    path.bulkStood(1500);
    expect(path.larger(0.3)).toBe(JUMBO_MTU);
  });

  test("of bulk is not tried above Ethernet's where that does not pass", () => {
    const path = new PathMtu();
    path.bulkFailed(1500);
    path.bulkStood(1280);
    expect(path.larger(0.3)).toBeUndefined();
  });

  test("of bulk goes back from a large one to Ethernet's, whatever the control channel has", () => {
    const path = new PathMtu();
    path.bulkStood(1500);
    path.bulkStood(JUMBO_MTU);
    path.bulkFailed(JUMBO_MTU);
    expect([path.bulkFailed(JUMBO_MTU), path.bulk]).toEqual([true, 1500]);
    // Others that were under way with the large size do not count again.
    expect([path.bulkFailed(JUMBO_MTU), path.bulk]).toEqual([true, 1500]);
  });
});

describe("a session", () => {
  let ether: Ether;
  let near: Host;
  let far: Host;
  let logs: string[];
  const open: (Waiting | Joining)[] = [];

  beforeEach(() => {
    stopTime();
    ether = new Ether();
    near = new Host(ether, "192.0.2.1");
    far = new Host(ether, "192.0.2.2");
    logs = [];
  });

  afterEach(async () => {
    for (const each of open.splice(0)) {
      (await each.session).fail(new DcpipeError("ABORTED", "the test is over"));
      each.close();
    }
    await settled();
    startTime();
  });

  /** One that always has more to carry, from the joining side to the waiting side. */
  async function saturate(): Promise<{ a: Session; b: Session; count: { read: number } }> {
    const onevent = (event: ConnectionEvent): void => {
      if (event.event === "log") logs.push(event.text);
    };
    const waiting = await within(listen(near.platform, { stun: [] }));
    const joining = connect(far.platform, waiting.offer, { stun: [], onevent });
    open.push(waiting, joining);
    let sessions: [Session, Session] | undefined;
    void Promise.all([waiting.session, joining.session]).then((both) => (sessions = both));
    await run(() => sessions !== undefined, 30_000, "a session");
    const [a, b] = sessions as unknown as [Session, Session];
    const mine = b.open(Uint8Array.of(1));
    const theirs = await within(a.accept());
    const count = { read: 0 };
    const write = async (): Promise<void> => {
      for (;;) {
        await mine.write(new Uint8Array(64 * 1024));
        // The ether is as fast as it is told to be, and that costs time of ours.
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    };
    const read = async (): Promise<void> => {
      for (let chunk = await theirs.read(); chunk; chunk = await theirs.read()) count.read += chunk.length;
    };
    write().catch(() => undefined);
    read().catch(() => undefined);
    return { a, b, count };
  }

  const mtus = (): number[] =>
    [...ether.peers].filter(({ host }) => host === far).map(({ config }) => config.mtu);

  test.each([
    [1300, 1280, 1280],
    [1100, 1200, 1200],
    [900, 1000, 1000],
    [520, 640, 640],
  ])("over a path whose packets hold %i bytes of it", async (largest, control, bulk) => {
    ether.delayMs = 20;
    ether.largest = largest;
    const { a, b, count } = await saturate();
    await run(() => a.lanes.bulk > 0 && b.lanes.bulk >= b.lanes.wanted, 20_000, "bulk channels");
    const before = count.read;
    await run(() => count.read > before + 4 * 1024 * 1024, 10_000, "4 MiB");
    expect(mtus()[0]).toBe(control);
    expect(new Set(mtus().slice(1))).toEqual(new Set([bulk]));
  });

  test("whose path comes to carry less goes on", async () => {
    ether.delayMs = 20;
    const { a, b, count } = await saturate();
    await run(() => a.lanes.bulk > 0, 5000, "a bulk channel");
    expect(mtus()).toContain(ETHERNET_MTU);
    ether.largest = SAFE_MTU;
    await run(() => a.lanes.bulk > 0 && !mtus().includes(ETHERNET_MTU), 60_000, "smaller packets");
    const before = count.read;
    await run(() => count.read > before + 4 * 1024 * 1024, 10_000, "4 MiB");
    expect(b.state).toBe("running");
    expect(logs).toContain("packets of 1500 bytes do not pass, 1280 are tried");
  });

  test("on a short path moves to larger packets where they pass, and nothing waits for them", async () => {
    ether.delayMs = 0.5;
    const { a, b, count } = await saturate();
    await run(() => a.lanes.bulk > 0, 1000, "a bulk channel");
    expect(mtus()).toContain(ETHERNET_MTU);
    const only = (): boolean => mtus().join() === `${SAFE_MTU},${JUMBO_MTU}`;
    await run(() => only() && a.lanes.bulk === 1 && b.lanes.bulk === 1, 5000, "a larger one in its place");
    const before = count.read;
    await run(() => count.read > before + 4 * 1024 * 1024, 10_000, "4 MiB");
    expect(logs).toContain(`packets of ${JUMBO_MTU} bytes pass`);
  });

  test("on a short path without them tries once, and keeps what it has", async () => {
    ether.delayMs = 0.5;
    ether.largest = ETHERNET_MTU;
    const { a, count } = await saturate();
    await run(() => mtus().includes(JUMBO_MTU), 5000, "a try");
    const before = count.read;
    await run(() => !mtus().includes(JUMBO_MTU), 5000, "the end of it");
    expect(count.read).toBeGreaterThan(before + 1024 * 1024);
    let again = false;
    const until = performance.now() + 20_000;
    await run(
      () => {
        again ||= mtus().includes(JUMBO_MTU);
        return performance.now() > until;
      },
      30_000,
      "a while",
    );
    expect(again).toBe(false);
    expect(new Set(mtus())).toEqual(new Set([SAFE_MTU, ETHERNET_MTU]));
    expect(a.lanes.bulk).toBeGreaterThanOrEqual(1);
  });

  test("on a long path does not try larger packets", async () => {
    ether.delayMs = 20;
    const { a } = await saturate();
    const seen = new Set<number>();
    const until = performance.now() + 20_000;
    await run(
      () => {
        for (const mtu of mtus()) seen.add(mtu);
        return a.lanes.bulk > 0 && performance.now() > until;
      },
      30_000,
      "bulk channels for a while",
    );
    expect([...seen]).toEqual([SAFE_MTU, ETHERNET_MTU]);
  });

  test("that the network cut off for a while does not take that for small packets", async () => {
    ether.delayMs = 20;
    const { a } = await saturate();
    const waits = (): boolean =>
      [...ether.peers].some(({ config, state }) => config.mtu === ETHERNET_MTU && state === "open");
    await run(waits, 5000, "a bulk channel whose HELLO is on its way");
    ether.up = false;
    await pass(4000);
    expect(a.lanes.bulk).toBe(0);
    ether.up = true;
    await run(() => a.lanes.bulk > 0, 10_000, "bulk channels");
    expect(new Set(mtus().slice(1))).toEqual(new Set([ETHERNET_MTU]));
  });
});
