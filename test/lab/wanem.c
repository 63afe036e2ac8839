/*
 * wanem: a long network path between two network namespaces, emulated in user space. Works on kernels without tc netem.
 *
 *   namespace A: wan0 <--> TUN descriptor --> loss --> queue and rate --> delay --> TUN descriptor <--> wan0 :namespace B
 *                                        (and the same the other way round)
 *
 *   wanem NAMESPACE_A NAMESPACE_B CONTROL_SOCKET [stay]
 *
 * It makes a TUN device `wan0` in each of the two (named) namespaces and listens on a unix stream socket, one command a
 * line, each answered by one JSON line:
 *
 *   set DELAY_MS LOSS_PCT RATE_MBIT QUEUE_BYTES   both directions alike; zeroes the counters
 *   cut                                           every packet is dropped, those under way included
 *   restore                                       ends the cut
 *   stats                                         the counters, since the last `set`
 *   quit
 *
 * DELAY_MS is one way, so half of the round-trip time. The queue is drop-tail, in bytes, in front of the bottleneck.
 * Without `stay` the program ends when its standard input does, so it can not outlive whoever started it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Room for one packet. The devices have an MTU of 1500; 4608 leaves space for experiments with jumbo frames. */
#define SLOT 4608
/* Packets that one direction can hold; 131072 x 1500 bytes is 500 Mbit/s for 3 s. */
#define RING 131072
/* Packets handled for one direction before the other gets its turn. */
#define BATCH 64
/* Shortest sleep, ns: below it the sleeping itself costs more than it saves. */
#define MIN_SLEEP 30000
/* Longest sleep, ns. */
#define MAX_SLEEP 100000000

typedef struct {
  uint64_t due; /* when it leaves, ns */
  uint32_t length;
  uint8_t *bytes;
} packet;

typedef struct {
  double delay_ns, ns_per_byte, queue_bytes;
  uint32_t loss;      /* a packet is lost when a random 32-bit number is below this */
  uint64_t link_free; /* when the bottleneck has sent all it holds, ns */
  packet *ring;
  uint32_t head, tail;
  uint64_t in, lost, queue_drops, out, out_bytes, write_errors, deepest_queue;
} direction;

static direction directions[2];
static int is_cut;
static volatile sig_atomic_t stopped;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* xorshift64 with a fixed seed: the same losses after every start. */
static uint32_t random32(void) {
  static uint64_t state = 88172645463325252ull;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state >> 32;
}

/* Packet buffers are recycled: malloc and free for every packet would be felt at 50,000 packets a second. */
static uint8_t **spare;
static int spares, spare_room;

static uint8_t *take_buffer(void) {
  return spares ? spare[--spares] : malloc(SLOT);
}

static void give_buffer(uint8_t *bytes) {
  if (spares == spare_room) {
    spare_room = spare_room ? spare_room * 2 : 4096;
    spare = realloc(spare, spare_room * sizeof *spare);
  }
  spare[spares++] = bytes;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

/* A TUN device `wan0` inside a named network namespace. The descriptor works from anywhere afterwards. */
static int open_tun(const char *namespace) {
  char path[256];
  snprintf(path, sizeof path, "/run/netns/%s", namespace);
  int ns = open(path, O_RDONLY | O_CLOEXEC);
  if (ns < 0 || setns(ns, CLONE_NEWNET) < 0) die(path);
  close(ns);
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
  strcpy(request.ifr_name, "wan0");
  if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0) die("/dev/net/tun");
  return fd;
}

/* Reads what came in on a device and decides each packet's fate. Returns 1 when there may be more. */
static int take_in(direction *d, int fd, uint64_t t) {
  for (int i = 0; i < BATCH; i++) {
    uint8_t *bytes = take_buffer();
    ssize_t length = read(fd, bytes, SLOT);
    if (length <= 0) {
      give_buffer(bytes);
      return 0;
    }
    d->in++;
    if (is_cut || (d->loss && random32() < d->loss)) {
      d->lost++;
      give_buffer(bytes);
      continue;
    }
    uint64_t departure = t;
    if (d->ns_per_byte > 0) {
      uint64_t start = d->link_free > t ? d->link_free : t;
      double queued = (start - t) / d->ns_per_byte;
      if (queued + length > d->queue_bytes) {
        d->queue_drops++;
        give_buffer(bytes);
        continue;
      }
      if (queued > d->deepest_queue) d->deepest_queue = queued;
      departure = d->link_free = start + (uint64_t)(length * d->ns_per_byte);
    }
    if (d->tail - d->head >= RING) {
      d->queue_drops++;
      give_buffer(bytes);
      continue;
    }
    d->ring[d->tail++ % RING] = (packet){.due = departure + d->delay_ns, .length = length, .bytes = bytes};
  }
  return 1;
}

/* Writes the packets that are due. Returns when the next one is, or t when there are more at once. */
static uint64_t let_out(direction *d, int fd, uint64_t t) {
  for (int i = 0; d->head != d->tail; i++) {
    packet *p = &d->ring[d->head % RING];
    if (p->due > t) return p->due;
    if (i == BATCH) return t;
    if (write(fd, p->bytes, p->length) < 0) {
      d->write_errors++;
    } else {
      d->out++;
      d->out_bytes += p->length;
    }
    give_buffer(p->bytes);
    d->head++;
  }
  return UINT64_MAX;
}

static void drop_all(direction *d) {
  for (; d->head != d->tail; d->head++) {
    d->lost++;
    give_buffer(d->ring[d->head % RING].bytes);
  }
}

/* Carries out one line from the control socket; the answer goes into `answer`. */
static void command(char *line, char *answer, size_t room) {
  double delay_ms, loss_pct, rate_mbit, queue_bytes;
  snprintf(answer, room, "{\"ok\":true}\n");
  if (sscanf(line, "set %lf %lf %lf %lf", &delay_ms, &loss_pct, &rate_mbit, &queue_bytes) == 4) {
    for (int i = 0; i < 2; i++) {
      direction *d = &directions[i];
      d->delay_ns = delay_ms * 1e6;
      d->loss = (uint32_t)(loss_pct / 100 * UINT32_MAX);
      d->ns_per_byte = rate_mbit > 0 ? 8000.0 / rate_mbit : 0;
      d->queue_bytes = queue_bytes;
      d->link_free = 0;
      d->in = d->lost = d->queue_drops = d->out = d->out_bytes = d->write_errors = d->deepest_queue = 0;
    }
  } else if (!strcmp(line, "cut")) {
    is_cut = 1;
    for (int i = 0; i < 2; i++) drop_all(&directions[i]);
  } else if (!strcmp(line, "restore")) {
    is_cut = 0;
  } else if (!strcmp(line, "stats")) {
    char one[2][300];
    for (int i = 0; i < 2; i++) {
      direction *d = &directions[i];
      snprintf(one[i], sizeof one[i],
               "{\"in\":%lu,\"lost\":%lu,\"queueDrops\":%lu,\"out\":%lu,\"outBytes\":%lu,\"writeErrors\":%lu,"
               "\"deepestQueue\":%lu}",
               d->in, d->lost, d->queue_drops, d->out, d->out_bytes, d->write_errors, d->deepest_queue);
    }
    snprintf(answer, room, "{\"ok\":true,\"aToB\":%s,\"bToA\":%s}\n", one[0], one[1]);
  } else if (!strcmp(line, "quit")) {
    stopped = 1;
  } else {
    snprintf(answer, room, "{\"ok\":false}\n");
  }
}

/* Reads from a control connection and answers its lines. Returns 0 when the connection is over. */
static int converse(int fd) {
  static char buffer[512];
  static size_t held;
  ssize_t n = read(fd, buffer + held, sizeof buffer - 1 - held);
  if (n < 0 && errno == EAGAIN) return 1;
  if (n <= 0) {
    held = 0;
    return 0;
  }
  held += n;
  buffer[held] = 0;
  char *line = buffer;
  for (char *end; (end = strchr(line, '\n')); line = end + 1) {
    char answer[1024];
    *end = 0;
    command(line, answer, sizeof answer);
    if (write(fd, answer, strlen(answer)) < 0) break;
  }
  held = strlen(line);
  memmove(buffer, line, held);
  return held < sizeof buffer - 1;
}

static void on_signal(int signal) {
  (void)signal;
  stopped = 1;
}

int main(int count, char **arguments) {
  if (count < 4) {
    fprintf(stderr, "usage: wanem NAMESPACE_A NAMESPACE_B CONTROL_SOCKET [stay]\n");
    return 2;
  }
  int stay = count > 4;
  int tun[2] = {open_tun(arguments[1]), open_tun(arguments[2])};
  for (int i = 0; i < 2; i++) directions[i].ring = malloc(sizeof(packet) * RING);

  signal(SIGPIPE, SIG_IGN);
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGHUP, &action, NULL);
  prctl(PR_SET_TIMERSLACK, 1000); /* the default of 50 us would blur short delays */

  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", arguments[3]);
  unlink(address.sun_path);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4) < 0) die(arguments[3]);
  printf("ready\n");
  fflush(stdout);

  int client = -1; /* one control connection at a time; the next waits in the backlog */
  while (!stopped) {
    uint64_t t = now(), next = t + MAX_SLEEP;
    int more = 0;
    for (int i = 0; i < 2; i++) more |= take_in(&directions[i], tun[i], t);
    t = now();
    for (int i = 0; i < 2; i++) {
      uint64_t due = let_out(&directions[i], tun[1 - i], t);
      if (due < next) next = due;
    }
    uint64_t wait = more || next <= t ? 0 : next - t < MIN_SLEEP ? MIN_SLEEP : next - t;
    /* Standard input carries nothing; its end means that our starter is gone. */
    struct pollfd polled[4] = {{tun[0], POLLIN, 0},
                               {tun[1], POLLIN, 0},
                               {client < 0 ? listener : client, POLLIN, 0},
                               {stay ? -1 : 0, POLLIN, 0}};
    struct timespec timeout = {wait / 1000000000, wait % 1000000000};
    if (ppoll(polled, 4, &timeout, NULL) <= 0) continue;
    if (polled[2].revents && client < 0) {
      client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } else if (polled[2].revents && !converse(client)) {
      close(client);
      client = -1;
    }
    char byte;
    if (polled[3].revents && read(0, &byte, 1) <= 0) break;
  }
  unlink(address.sun_path);
  return 0;
}
