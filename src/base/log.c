#include "mnist_dist/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int log_rank = 0, log_size = 1;
static mnd_log_level log_level = MND_LOG_INFO;

void mnd_log_identity(int rank, int size) {
    log_rank = rank;
    log_size = size;
}

void mnd_log_threshold(mnd_log_level level) { log_level = level; }

void mnd_log(mnd_log_level level, const char *format, ...) {
    static const char *const word[] = {"error: ", "warning: ", "", "debug: "};
    if (level > log_level) return;
    char line[2048];
    int n = log_size > 1 ? snprintf(line, sizeof line, "mnist_dist: [%d/%d] %s", log_rank, log_size,
                                    word[level])
                         : snprintf(line, sizeof line, "mnist_dist: %s", word[level]);
    size_t used = (size_t)n;
    va_list args;
    va_start(args, format);
    n = vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    if (n > 0) used = strlen(line);
    /* A file name or value may hold anything: one line, and nothing that steers a terminal. */
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) line[i] = '?';
    line[used++] = '\n';
    const char *p = line;
    while (used > 0) {
        ssize_t done = write(STDERR_FILENO, p, used);
        if (done <= 0) return; /* stderr is closed or full: that must not stop the run */
        p += done;
        used -= (size_t)done;
    }
}
