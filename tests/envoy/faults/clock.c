// A wall clock that a test can step: loaded before libc, which it asks for everything else.
// The file that TIDEGATE_TEST_CLOCK names holds the step, eight bytes of nanoseconds.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *step;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("TIDEGATE_TEST_CLOCK");
  int file = path ? open(path, O_RDONLY) : -1;
  void *mapped = file < 0 ? MAP_FAILED : mmap(0, sizeof *step, PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) _exit(99);
  step = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  int status = syscall(SYS_clock_gettime, clock, time);
  if (status == 0 && step && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    int64_t stepped = time->tv_sec * INT64_C(1000000000) + time->tv_nsec + *step;
    time->tv_sec = stepped / 1000000000;
    time->tv_nsec = stepped % 1000000000;
  }
  return status;
}
