/**
 * Every limit of the server, with its reason. Times are milliseconds. An address is one IPv4 address or one IPv6 /64, which is what
 * one customer of a provider has.
 */
export interface Limits {
  // ---- mailboxes
  /** An unclaimed mailbox, since ALLOCATE, RENEW or RESUME: who waits longer says so. */
  readonly unclaimedMs: number;
  /** A mailbox where both have come: an introduction takes seconds, over the worst network a minute. */
  readonly claimedMs: number;
  /** A mailbox whose client has lost its connection: a phone in a tunnel, a laptop that is carried to another room. */
  readonly detachedMs: number;
  /** A nameplate stays USED after its mailbox: time for people to notice that a code was guessed, or read aloud once too often. */
  readonly usedMs: number;
  /** Mailboxes one address may have made: an office behind one address fits, and none can take all nameplates. */
  readonly mailboxesPerAddress: number;
  /**
   * Bytes in a store that lives in this process' memory; a mailbox counts for `MAILBOX_BYTES` and its bodies. Room for a quarter of a
   * million introductions under way, in a machine of 1 GiB.
   */
  readonly storeBytes: number;

  // ---- guesses
  /** Wrong nameplates and passwords an address has free: people mistype. */
  readonly freeGuesses: number;
  /** The next CLAIM of that address waits so long, each further one twice as long as the one before ... */
  readonly firstDelayMs: number;
  /** ... and at most so long: a shared address must stay usable for the others behind it. */
  readonly maxDelayMs: number;
  /** CLAIMs of one address wait in a row. One whose turn is further away than this is refused. */
  readonly maxWaitMs: number;
  /** After so long without a wrong guess all are forgotten. */
  readonly guessMemoryMs: number;

  // ---- relays
  /** Ends of relays of one address at this process; a session has up to two, so an office behind one address fits. */
  readonly relaysPerAddress: number;
  /** Ends of relays at this process; each costs half a MiB at worst, when its client takes nothing and the other one sends all the time. */
  readonly relays: number;
  /** An end whose other end does not come: both come within seconds, and who comes back does so within a minute. */
  readonly relayUnpairedMs: number;
  /**
   * Bytes for one end that its client has not taken; above it the other end's client is not read from. What is in flight on a long path
   * lies in the kernel's buffers, so this needs to last from one turn of the event loop to the next, or to another process and back.
   */
  readonly relayBufferedBytes: number;
  /** A process says every third of this that its ends are there. One that has not for so long has died, and they with it. */
  readonly relayKeepMs: number;

  // ---- connections
  /** Connections of one address to this process: as the mailboxes, with room for those who join and for connections half gone. */
  readonly connectionsPerAddress: number;
  /** From the opening of a connection to its first message: a client has it ready. */
  readonly firstMessageMs: number;
  /** Messages before the first one is answered: HELLO may follow ALLOCATE at once. */
  readonly earlyMessages: number;
  /** Messages and pings within one `pingMs`: all bodies a side may post, several times over. Relayed messages do not count. */
  readonly messagesPerPing: number;
  /** Between two pings: NATs and proxies forget idle connections after a minute or more. Who does not answer until the next is gone. */
  readonly pingMs: number;
  /** Bytes sent that a client has not taken: what a mailbox can hold for one side, twice. */
  readonly bufferedBytes: number;
  /** The answer to a close frame; then the connection is cut. */
  readonly closeMs: number;
  /** From the opening of a connection to the end of the HTTP request's head: it is one packet. */
  readonly requestMs: number;
  /** Between two HTTP requests on one connection. */
  readonly keepAliveMs: number;
  /** Over which a server that ends spreads the closing of its clients, so that they do not all come to the next one at once. */
  readonly drainMs: number;
}

/** What a mailbox costs without its bodies: two keys, two sides, an entry in a map. */
export const MAILBOX_BYTES = 1024;
/** The head of an HTTP request: a first message, which is some 100 bytes, and what proxies and browsers add. */
export const MAX_HEADER_BYTES = 16_384;

const SECOND = 1000;
const MINUTE = 60 * SECOND;

export const LIMITS: Limits = {
  unclaimedMs: 60 * MINUTE,
  claimedMs: 10 * MINUTE,
  detachedMs: 10 * MINUTE,
  usedMs: 10 * MINUTE,
  mailboxesPerAddress: 256,
  storeBytes: 256 * 2 ** 20,

  freeGuesses: 3,
  firstDelayMs: SECOND,
  maxDelayMs: 30 * SECOND,
  maxWaitMs: MINUTE,
  guessMemoryMs: 10 * MINUTE,

  relaysPerAddress: 64,
  relays: 1024,
  relayUnpairedMs: 2 * MINUTE,
  relayBufferedBytes: 256 * 2 ** 10,
  relayKeepMs: 90 * SECOND,

  connectionsPerAddress: 1024,
  firstMessageMs: 10 * SECOND,
  earlyMessages: 8,
  messagesPerPing: 512,
  pingMs: 30 * SECOND,
  bufferedBytes: 512 * 2 ** 10,
  closeMs: 5 * SECOND,
  requestMs: 10 * SECOND,
  keepAliveMs: 5 * SECOND,
  drainMs: 3 * SECOND,
};

/** How long the next CLAIM waits after so many wrong guesses, in milliseconds. */
export function claimDelay(guesses: number, limits: Limits): number {
  if (guesses < limits.freeGuesses) return 0;
  return Math.min(limits.maxDelayMs, limits.firstDelayMs * 2 ** (guesses - limits.freeGuesses));
}
