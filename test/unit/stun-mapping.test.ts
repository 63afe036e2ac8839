/** What the STUN servers of a session show of the NAT in front of it. */
import { describe, expect, test } from "vitest";
import { isInner } from "../../src/node/net/inner.ts";
import { findStunServer } from "../../src/node/stun.ts";
import { startDiscovery, startStun, success, type Behaviour, type Place } from "./stun.ts";

const TWO = "127.0.0.2";
const OUTER = "127.66.0.1";
/** Waited for where no answer comes. */
const SHORT_MS = 500;
/** Where one comes, on however busy a machine. */
const LONG_MS = 20_000;

/** A server that sees our port as it is, or this much further up. */
function echo(shift = 0): Behaviour {
  return (request) => ({
    message: success(request, { address: OUTER, port: shifted(request.from.port, shift) }),
  });
}

function shifted(port: number, by: number): number {
  return 1024 + ((port + by) % 60_000);
}

async function mappingOf(places: readonly Place[], limitMs = LONG_MS): Promise<string | undefined> {
  const servers = places.map(({ address, port }) => ({ host: address, port }));
  return (await findStunServer(servers, limitMs))?.mapping;
}

test("one outer port for two servers", async () => {
  expect(await mappingOf([await startStun(echo()), await startStun(echo(), TWO)])).toBe("independent");
});

test("another outer port for each server", async () => {
  expect(await mappingOf([await startStun(echo()), await startStun(echo(7), TWO)])).toBe("dependent");
});

test("another outer address for each server", async () => {
  const elsewhere = await startStun(
    (request) => ({
      message: success(request, { address: "127.66.0.2", port: shifted(request.from.port, 0) }),
    }),
    TWO,
  );
  expect(await mappingOf([await startStun(echo()), elsewhere])).toBe("dependent");
});

test("two ports of one server that differ say that it depends, and that they are the same says nothing", async () => {
  expect(await mappingOf([await startStun(echo()), await startStun(echo(1))])).toBe("dependent");
  expect(await mappingOf([await startStun(echo()), await startStun(echo())], SHORT_MS)).toBe("unknown");
});

test("one server under two names is one server", async () => {
  const place = await startStun(echo());
  expect(await mappingOf([place, place], SHORT_MS)).toBe("unknown");
});

test("a server that does not answer shows nothing", async () => {
  expect(await mappingOf([await startStun(echo()), await startStun(() => undefined, TWO)], SHORT_MS)).toBe(
    "unknown",
  );
});

describe("a single server that knows RFC 5780", () => {
  test.each([
    ["independent", 0],
    ["dependent", 9],
  ])("is asked at its other address: %s", async (mapping, shift) => {
    const { first } = await startDiscovery((one, other) => (request) => {
      const by = request.at.address === one.address ? 0 : shift;
      return { message: success(request, { address: OUTER, port: shifted(request.from.port, by) }, other) };
    });
    expect(await mappingOf([first])).toBe(mapping);
  });

  test("and whose other address is dead", async () => {
    const lonely = await startStun((request) => ({
      message: success(request, request.from, { address: "127.0.0.3", port: 9 }),
    }));
    expect(await mappingOf([lonely], SHORT_MS)).toBe("unknown");
  });
});

test("the first answer does not wait for the second", async () => {
  let open = false;
  const slow: Behaviour = (request) => (open ? echo()(request) : undefined);
  const places = [await startStun(echo()), await startStun(slow, TWO)];
  const servers = places.map(({ address, port }) => ({ host: address, port }));
  const found = await findStunServer(servers, 60_000);
  expect(found).toMatchObject({ host: places[0]?.address, port: places[0]?.port });
  open = true;
  expect(await found?.mapping).toBe("independent");
});

test("an address that is not ours asks nobody", async () => {
  const { address, port } = await startStun(echo());
  expect(await findStunServer([{ host: address, port }], SHORT_MS, "192.0.2.1")).toBeUndefined();
});

test.each([
  ["10.1.2.3", true],
  ["100.64.0.1", true],
  ["100.128.0.1", false],
  ["127.0.0.1", true],
  ["169.254.169.254", true],
  ["172.15.0.1", false],
  ["172.31.255.255", true],
  ["192.168.0.1", true],
  ["203.0.113.1", false],
  ["239.255.255.250", true],
  ["255.255.255.255", true],
  ["::1", true],
  ["::ffff:10.0.0.1", true],
  ["fe80::1", true],
  ["fd00::1", true],
  ["2001:db8::1", false],
])("%s is of this machine or its network: %s", (address, inner) => {
  expect(isInner(address)).toBe(inner);
});
