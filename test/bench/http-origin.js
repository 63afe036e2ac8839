/** The server behind the forward of the bench's row about fetch: 1 KiB for every request. Says its port. */
import { createServer } from "node:http";

const BODY = Buffer.alloc(1024, "x");
const server = createServer((_request, response) => response.end(BODY));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit()).resume();
