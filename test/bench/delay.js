/**
 * A TCP connection with a longer way: everything that arrives goes on after so many milliseconds, in each direction.
 *
 *   delay.js ADDRESS PORT MS    listens on a free port of ADDRESS, prints {"port"}, leads to PORT there
 */
import { connect, createServer } from "node:net";

const [, , address, port, ms] = process.argv;

function relay(from, to) {
  from.setNoDelay(true);
  from.on("data", (bytes) => setTimeout(() => to.write(bytes), Number(ms)));
  from.on("close", () => setTimeout(() => to.destroy(), Number(ms)));
  from.on("error", () => undefined);
}

const server = createServer((near) => {
  const far = connect(Number(port), address);
  relay(near, far);
  relay(far, near);
});
server.listen(0, address, () => console.log(JSON.stringify({ event: "port", port: server.address().port })));
