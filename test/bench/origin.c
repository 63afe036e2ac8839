/*
 * origin: the servers that measured forwards lead to, cheap enough to leave the machine to what is measured.
 *
 *   origin KIND PORT [KIND PORT ...]
 *
 * Each port has one KIND:
 *   http   answers every request with 1 KiB and keeps the connection
 *   once   answers the first request with 1 KiB and ends the connection
 *   echo   sends back what comes
 *
 * A request is whatever ends with an empty line; nobody sends bodies here. Prints {"event":"ready"} on standard output.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODY 1024
#define BACKLOG 4096
#define MAX_FDS 65536

enum kind { HTTP, ONCE, ECHO };
static const char *NAMES[] = {"http", "once", "echo"};

/* By file descriptor. `matched`: how many bytes of the empty line that ends a request have come. */
static struct state {
  enum kind kind;
  char listens, matched;
} states[MAX_FDS];

static char response[2][BODY + 256];
static int response_length[2];

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void watch(int poll, int fd, enum kind kind, char listens) {
  if (fd >= MAX_FDS) {
    close(fd);
    return;
  }
  states[fd] = (struct state){kind, listens, 0};
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

static int listen_on(int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)&address, sizeof address)) fail("bind");
  if (listen(fd, BACKLOG)) fail("listen");
  return fd;
}

/* How many requests end within these bytes. */
static int requests(struct state *state, const char *bytes, ssize_t length) {
  static const char END[] = "\r\n\r\n";
  int ended = 0;
  for (ssize_t i = 0; i < length; i++) {
    if (bytes[i] == END[(int)state->matched]) state->matched++;
    else state->matched = bytes[i] == END[0];
    if (state->matched == 4) {
      state->matched = 0;
      ended++;
    }
  }
  return ended;
}

/* False when the connection is over. Whoever does not read his answers, so that a write falls short, is hung up on. */
static int serve(int fd, struct state *state) {
  static char bytes[65536];
  ssize_t length = read(fd, bytes, sizeof bytes);
  if (length < 0) return errno == EAGAIN || errno == EINTR;
  if (length == 0) return 0;
  if (state->kind == ECHO) return write(fd, bytes, length) == length;
  int once = state->kind == ONCE;
  for (int count = requests(state, bytes, length); count > 0; count--) {
    if (write(fd, response[once], response_length[once]) != response_length[once] || once) return 0;
  }
  return 1;
}

int main(int count, char **arguments) {
  if (count < 3 || count % 2 == 0) {
    fprintf(stderr, "usage: origin http|once|echo PORT ...\n");
    return 2;
  }
  for (int once = 0; once < 2; once++) {
    int head = sprintf(response[once], "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%s\r\n", BODY,
                       once ? "Connection: close\r\n" : "");
    memset(response[once] + head, 'x', BODY);
    response_length[once] = head + BODY;
  }
  int poll = epoll_create1(0), on = 1;
  for (int i = 1; i < count; i += 2) {
    enum kind kind = HTTP;
    while (kind <= ECHO && strcmp(arguments[i], NAMES[kind])) kind++;
    if (kind > ECHO) {
      fprintf(stderr, "origin: no such kind: %s\n", arguments[i]);
      return 2;
    }
    watch(poll, listen_on(atoi(arguments[i + 1])), kind, 1);
  }
  printf("{\"event\":\"ready\"}\n");
  fflush(stdout);
  for (;;) {
    struct epoll_event events[256];
    int ready = epoll_wait(poll, events, 256, -1);
    for (int i = 0; i < ready; i++) {
      int fd = events[i].data.fd;
      struct state *state = &states[fd];
      if (!state->listens) {
        if (!serve(fd, state)) close(fd);
        continue;
      }
      for (int peer; (peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(poll, peer, state->kind, 0);
      }
    }
  }
}
