/*
 * meter: the end of a measured pipe, cheap enough not to disturb the measurement.
 *
 *   ... | meter                count standard input until it ends
 *   ... | meter stop BYTES     read that many bytes, then stay without reading, until killed
 *   meter stamp COMMAND ...    say when COMMAND is about to be executed, then become it
 *
 * It reports by JSON lines on standard output (`stamp` on standard error): "first" with the first byte, "sample" twice a
 * second while bytes come, "stopped", "end". Times are seconds of CLOCK_MONOTONIC, which all processes share.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE_EVERY 0.5

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int count, char **arguments) {
  if (count > 2 && !strcmp(arguments[1], "stamp")) {
    fprintf(stderr, "{\"event\":\"exec\",\"at\":%.6f}\n", now());
    execvp(arguments[2], arguments + 2);
    perror(arguments[2]);
    return 127;
  }
  static char buffer[262144];
  long long bytes = 0, stop_at = count > 2 && !strcmp(arguments[1], "stop") ? atoll(arguments[2]) : -1;
  double first = 0, last = 0, sampled = 0;
  for (;;) {
    size_t room = sizeof buffer;
    if (stop_at >= 0 && stop_at - bytes < (long long)room) room = stop_at - bytes;
    if (room == 0) {
      printf("{\"event\":\"stopped\",\"bytes\":%lld,\"at\":%.6f}\n", bytes, now());
      fflush(stdout);
      for (;;) pause();
    }
    ssize_t n = read(0, buffer, room);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    last = now();
    bytes += n;
    if (first == 0) {
      first = sampled = last;
      printf("{\"event\":\"first\",\"bytes\":%lld,\"at\":%.6f}\n", bytes, first);
      fflush(stdout);
    } else if (last - sampled >= SAMPLE_EVERY) {
      sampled = last;
      printf("{\"event\":\"sample\",\"bytes\":%lld,\"at\":%.6f}\n", bytes, last);
      fflush(stdout);
    }
  }
  printf("{\"event\":\"end\",\"bytes\":%lld,\"first\":%.6f,\"last\":%.6f}\n", bytes, first, last);
  return 0;
}
