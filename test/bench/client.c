/*
 * client: what wrk and iperf3 do not measure of a TCP server (origin.c), directly or through a forward.
 *
 *   client ping ADDRESS PORT SECONDS            one byte there and back every 10 ms, on one connection
 *   client open ADDRESS PORT PARALLEL SECONDS   connect, one request, its answer, end: again and again, PARALLEL at a time
 *   client hold ADDRESS PORT COUNT              COUNT connections, a byte there and back on each; then keeps them until killed
 *
 * One JSON line on standard output: {"event":"ping",...}, {"event":"open",...}, {"event":"held",...}. Times are ms: of `ping`
 * from the byte's writing to its reading; of `open` from the call of connect to the first byte of the answer.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* As between two echoes of latency.js. */
#define PAUSE 0.01
/* An opening that takes longer has failed, s. */
#define PATIENCE 5
#define MAX_TIMES 2000000
#define MAX_FDS 65536
/* The head and the 1 KiB of an answer are more than this. */
#define MIN_ANSWER 1024

static const char REQUEST[] = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

static struct sockaddr_in address;
static double times[MAX_TIMES];
static int count;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double at(double share) {
  int i = count * share;
  return count ? 1000 * times[i < count ? i : count - 1] : 0;
}

static void note(double time) {
  if (count < MAX_TIMES) times[count++] = time;
}

static int new_socket(int flags) {
  int fd = socket(AF_INET, SOCK_STREAM | flags, 0), on = 1;
  if (fd < 0) fail("socket");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

static void ping(double seconds) {
  int fd = new_socket(0);
  if (connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
  double end = now() + seconds;
  char byte = 'x';
  for (;;) {
    double begun = now();
    if (begun > end) break;
    if (write(fd, &byte, 1) != 1) fail("write");
    ssize_t n = read(fd, &byte, 1);
    if (n != 1) {
      fprintf(stderr, "read: %s\n", n ? strerror(errno) : "the other end has closed");
      exit(1);
    }
    note(now() - begun);
    nanosleep(&(struct timespec){.tv_nsec = PAUSE * 1e9}, NULL);
  }
  qsort(times, count, sizeof *times, compare);
  printf("{\"event\":\"ping\",\"count\":%d,\"median\":%.4f,\"p99\":%.4f,\"max\":%.4f}\n", count, at(0.5), at(0.99),
         at(1));
}

/* One opening of many, by file descriptor. */
static struct opening {
  double begun;
  int asked, received;
} openings[MAX_FDS];

static int poll, failed, last_errno;

static void begin(void) {
  int fd = new_socket(SOCK_NONBLOCK);
  openings[fd] = (struct opening){.begun = now()};
  connect(fd, (struct sockaddr *)&address, sizeof address); /* What becomes of it, epoll says. */
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.fd = fd};
  if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

/* Returns 0 while it goes on, 1 when it is over and -1 when it has failed. */
static int proceed(int fd, struct opening *opening) {
  if (!opening->asked) {
    if (write(fd, REQUEST, sizeof REQUEST - 1) != sizeof REQUEST - 1) return errno == EAGAIN ? 0 : -1;
    opening->asked = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poll, EPOLL_CTL_MOD, fd, &event);
  }
  static char bytes[65536];
  ssize_t length = read(fd, bytes, sizeof bytes);
  if (length < 0) return errno == EAGAIN ? 0 : -1;
  if (length == 0) return opening->received > MIN_ANSWER ? 1 : -1;
  if (opening->received == 0) {
    if (strncmp(bytes, "HTTP/1.1 200", 12)) return -1;
    note(now() - opening->begun);
  }
  opening->received += length;
  return 0;
}

static void open_many(int parallel, double seconds) {
  poll = epoll_create1(0);
  double begun = now(), end = begun + seconds, checked = begun;
  int done = 0;
  for (int i = 0; i < parallel; i++) begin();
  while (now() < end) {
    struct epoll_event events[256];
    int ready = epoll_wait(poll, events, 256, 100);
    for (int i = 0; i < ready; i++) {
      int fd = events[i].data.fd;
      int result = proceed(fd, &openings[fd]);
      if (result == 0) continue;
      if (result > 0) done++;
      else failed++, last_errno = errno;
      openings[fd].begun = 0;
      close(fd);
      begin();
    }
    if (now() - checked < 1) continue;
    checked = now();
    for (int fd = 0; fd < MAX_FDS; fd++) {
      if (openings[fd].begun == 0 || checked - openings[fd].begun < PATIENCE) continue;
      failed++, last_errno = ETIMEDOUT;
      openings[fd].begun = 0;
      close(fd);
      begin();
    }
  }
  double took = now() - begun;
  qsort(times, count, sizeof *times, compare);
  if (failed) fprintf(stderr, "%d failed, the last with: %s\n", failed, strerror(last_errno));
  printf("{\"event\":\"open\",\"count\":%d,\"failed\":%d,\"rate\":%.1f,\"median\":%.4f,\"p99\":%.4f}\n", done, failed,
         done / took, at(0.5), at(0.99));
}

static void hold(int wanted) {
  int held = 0;
  for (int i = 0; i < wanted; i++) {
    int fd = new_socket(0);
    char byte = 'x';
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 && write(fd, &byte, 1) == 1 &&
        read(fd, &byte, 1) == 1)
      held++;
  }
  printf("{\"event\":\"held\",\"count\":%d}\n", held);
  fflush(stdout);
  for (;;) pause();
}

int main(int words, char **arguments) {
  const char *verb = words > 4 ? arguments[1] : "";
  if (words > 3) {
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(arguments[3]))};
    inet_pton(AF_INET, arguments[2], &address.sin_addr);
  }
  if (!strcmp(verb, "ping")) ping(atof(arguments[4]));
  else if (!strcmp(verb, "open") && words > 5) open_many(atoi(arguments[4]), atof(arguments[5]));
  else if (!strcmp(verb, "hold")) hold(atoi(arguments[4]));
  else {
    fprintf(stderr, "usage: client ping|open|hold ADDRESS PORT ...\n");
    return 2;
  }
  return 0;
}
