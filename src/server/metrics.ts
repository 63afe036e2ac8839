/** What is counted, as Prometheus' text format 0.0.4 has it. Counts only: nothing here says who met whom. */
import { CLOSE, OUTCOMES, type CloseCode, type Outcome } from "../wire/rendezvous.ts";

/** Ends that are no refusal. */
const GOOD_ENDS: ReadonlySet<CloseCode> = new Set([CLOSE.RELEASED, CLOSE.GOING_AWAY]);

export class Metrics {
  connections = 0;
  /** Mailboxes whose waiting side is attached here; over all processes that is all with somebody in them. */
  mailboxes = 0;
  delayed = 0;
  opened = 0;
  messages = 0;
  matches = 0;
  /** Pairs whose waiting end is here; over all processes that is all. */
  relays = 0;
  /** Ends, paired or not. */
  relayEnds = 0;
  /** From clients of this process to the other end. */
  relayedBytes = 0;
  readonly #outcomes = new Map<string, number>(OUTCOMES.map((outcome) => [outcome, 0]));
  readonly #refused = new Map<string, number>(
    Object.entries(CLOSE)
      .filter(([, code]) => !GOOD_ENDS.has(code))
      .map(([name]) => [name, 0]),
  );

  readonly #relayEndings = new Map<string, number>([
    ["lost", 0],
    ...Object.keys(CLOSE).map((name): [string, number] => [name, 0]),
  ]);

  countOutcome(outcome: Outcome): void {
    this.#outcomes.set(outcome, (this.#outcomes.get(outcome) ?? 0) + 1);
  }

  /** A connection was closed from here. */
  countClose(code: CloseCode): void {
    const name = nameOf(code);
    const count = this.#refused.get(name);
    if (count !== undefined) this.#refused.set(name, count + 1);
  }

  /** An end of a relay is over; `code` is undefined when it was not closed from here. */
  countRelayEnding(code: CloseCode | undefined): void {
    const name = code === undefined ? "lost" : nameOf(code);
    this.#relayEndings.set(name, (this.#relayEndings.get(name) ?? 0) + 1);
  }

  format(): string {
    const { rss } = process.memoryUsage();
    const { user, system } = process.cpuUsage();
    const lines = [
      ...metric("dcpipe_connections", "gauge", "WebSockets that are open", this.connections),
      ...metric("dcpipe_connections_total", "counter", "WebSockets that were opened", this.opened),
      ...metric("dcpipe_mailboxes", "gauge", "Mailboxes whose waiting side is attached here", this.mailboxes),
      ...metric("dcpipe_claims_delayed", "gauge", "Claims that wait after wrong guesses", this.delayed),
      ...metric("dcpipe_messages_total", "counter", "Messages from clients", this.messages),
      ...metric("dcpipe_matches_total", "counter", "Mailboxes in which both sides have come", this.matches),
      ...metric("dcpipe_outcomes_total", "counter", "How introductions ended", this.#outcomes, "outcome"),
      ...metric(
        "dcpipe_refused_total",
        "counter",
        "Connections closed with a reason",
        this.#refused,
        "reason",
      ),
      ...metric("dcpipe_relays", "gauge", "Relays whose waiting end is attached here", this.relays),
      ...metric("dcpipe_relay_ends", "gauge", "WebSockets that are ends of relays", this.relayEnds),
      ...metric("dcpipe_relayed_bytes_total", "counter", "Bytes from ends of relays", this.relayedBytes),
      ...metric(
        "dcpipe_relay_ends_closed_total",
        "counter",
        "Ends of relays that are over",
        this.#relayEndings,
        "reason",
      ),
      ...metric("process_resident_memory_bytes", "gauge", "Resident memory", rss),
      ...metric("process_cpu_seconds_total", "counter", "User and system time", (user + system) / 1e6),
    ];
    return `${lines.join("\n")}\n`;
  }
}

function nameOf(code: CloseCode): string {
  return Object.entries(CLOSE).find(([, known]) => known === code)?.[0] ?? "";
}

function metric(
  name: string,
  type: "counter" | "gauge",
  help: string,
  value: number | ReadonlyMap<string, number>,
  label = "",
): string[] {
  const samples =
    typeof value === "number"
      ? [`${name} ${value}`]
      : [...value].map(([key, count]) => `${name}{${label}="${key.toLowerCase()}"} ${count}`);
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...samples];
}
