/**
 * Both ends of long-lived connections: some move random data both ways at a limited rate, one echoes.
 *
 *   node test/lab/traffic.js server                     says {"event":"listening","port":...}
 *   node test/lab/traffic.js client PORT MOVERS RATE    moves until SIGUSR2
 *
 * Each end says {"event":"progress",...} now and then, and {"event":"over",...} for each connection, with digests of all that was
 * sent and received.
 */
import { createCipheriv, createHash, randomBytes } from "node:crypto";
import { connect, createServer } from "node:net";

const PROGRESS_MS = 250;
/** Movers write so often; a keystroke each. */
const TICK_MS = 50;
const ECHO_MS = 100;
/** `M` or `E`, a number, and the rate in bytes a second. */
const HEAD = 9;

const ends = new Map();

function say(event) {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

/** Counts and hashes both directions of a connection. */
class Tally {
  sent = 0;
  received = 0;
  #sent = createHash("sha256");
  #received = createHash("sha256");
  #noise = createCipheriv("aes-128-ctr", randomBytes(16), randomBytes(16));

  constructor(name, socket) {
    this.name = name;
    this.socket = socket;
    ends.set(name, this);
    socket.on("data", (chunk) => {
      this.received += chunk.length;
      this.#received.update(chunk);
    });
    socket.on("error", (error) => (this.error = error.code ?? error.message));
    socket.on("close", () => {
      const { sent, received, error } = this;
      const digests = { sentDigest: this.#sent.digest("hex"), receivedDigest: this.#received.digest("hex") };
      say({ event: "over", name, sent, received, ...digests, ...(error ? { error } : {}) });
      ends.delete(name);
    });
  }

  write(chunk) {
    this.sent += chunk.length;
    this.#sent.update(chunk);
    return this.socket.write(chunk);
  }

  /** Sends so many bytes a second until it is stopped. Waits when the socket is full: what cannot leave is not made up for. */
  move(rate) {
    const size = Math.max(1, Math.round((rate * TICK_MS) / 1000));
    const timer = setInterval(() => {
      if (this.socket.writableNeedDrain) return;
      this.write(this.#noise.update(Buffer.alloc(size)));
    }, TICK_MS);
    this.stop = () => {
      clearInterval(timer);
      if (!this.socket.writableEnded) this.socket.end();
    };
    this.socket.on("close", () => clearInterval(timer));
  }
}

function serve() {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on("error", () => {});
    socket.on("readable", function greet() {
      const head = socket.read(HEAD);
      if (!head) return;
      socket.off("readable", greet);
      const rest = socket.read();
      const tally = new Tally(`${String.fromCharCode(head[0])}${head.readUInt32BE(1)}`, socket);
      if (head[0] === 0x45) {
        socket.on("data", (chunk) => tally.write(chunk));
        socket.on("end", () => socket.end());
      } else {
        tally.move(head.readUInt32BE(5));
        socket.on("end", () => tally.stop());
      }
      if (rest) socket.emit("data", rest);
      socket.resume();
    });
  });
  server.listen(0, "127.0.0.1", () => say({ event: "listening", port: server.address().port }));
}

function begin(port, kind, number, rate) {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
  const head = Buffer.alloc(HEAD);
  head.write(kind);
  head.writeUInt32BE(number, 1);
  head.writeUInt32BE(rate, 5);
  socket.write(head);
  return new Tally(`${kind}${number}`, socket);
}

function visit(port, movers, rate) {
  const moving = Array.from({ length: movers }, (_, i) => begin(port, "M", i, rate));
  for (const mover of moving) {
    mover.move(rate);
    mover.socket.on("end", () => mover.stop());
  }
  // One keystroke at a time: the next one when the last has come back.
  const echo = begin(port, "E", movers, 0);
  let stopped = false;
  let key = 0;
  let typed = 0;
  const type = () => {
    if (stopped) {
      echo.socket.end();
      return;
    }
    typed = performance.now();
    echo.write(Buffer.of(++key & 0xff));
  };
  echo.socket.on("data", () => {
    say({ event: "echo", ms: Math.round((performance.now() - typed) * 10) / 10 });
    setTimeout(type, ECHO_MS);
  });
  type();
  process.on("SIGUSR2", () => {
    stopped = true;
    for (const mover of moving) mover.stop();
  });
}

const [role, port, movers, rate] = process.argv.slice(2);
setInterval(() => {
  say({
    event: "progress",
    received: Object.fromEntries([...ends].map(([name, end]) => [name, end.received])),
  });
}, PROGRESS_MS).unref();
if (role === "server") serve();
else visit(Number(port), Number(movers), Number(rate));
