#include "mnist_dist/timer.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double mnd_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double mnd_process_age(void) {
    /* Field 22 of /proc/self/stat: start time after boot, in clock ticks (proc(5)). */
    char line[1024];
    FILE *f = fopen("/proc/self/stat", "r");
    if (f == NULL) return -1.0;
    const size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = '\0';
    const char *p = strrchr(line, ')'); /* the command name before it may contain spaces */
    unsigned long long start = 0;
    if (p == NULL || sscanf(p + 1,
                            " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
                            "%*d %*d %llu",
                            &start) != 1)
        return -1.0;
    struct timespec t;
    if (clock_gettime(CLOCK_BOOTTIME, &t) != 0) return -1.0;
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec -
           (double)start / (double)sysconf(_SC_CLK_TCK);
}
