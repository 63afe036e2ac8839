/**
 * Ends TLS in front of a server that has none:
 *
 *   node test/netlab/front.js CERT KEY TARGET_ADDRESS TARGET_PORT PORT ADDRESS...      says "ready"
 */
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { createServer } from "node:tls";
import { join } from "./join.js";

const [cert, key, targetAddress, targetPort, port, ...addresses] = process.argv.slice(2);
for (const address of addresses) {
  const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (client) => {
    join(client, connect(Number(targetPort), targetAddress));
  });
  // A client that does not trust it hangs up.
  server.on("tlsClientError", () => {});
  await new Promise((resolve) =>
    server.listen({ port: Number(port), host: address, ipv6Only: true }, resolve),
  );
}
console.log("ready");
