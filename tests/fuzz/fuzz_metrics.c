/*
 * A metrics file of any bytes, as a resumed run finds it: it is taken, keeps no epoch beyond the
 * checkpoint's and no line that is not JSON, a second opening changes nothing more, and what is
 * then appended is a line of its own. The first byte is the epoch to resume from.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mnist_dist/metrics.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static char path[] = "/tmp/fuzz_metrics.XXXXXX";

static void check(int holds) {
    if (!holds) abort();
}

static void remove_file(void) { unlink(path); }

static size_t read_back(char *out, size_t capacity) {
    const int fd = open(path, O_RDONLY);
    check(fd >= 0);
    const ssize_t n = read(fd, out, capacity);
    check(n >= 0 && (size_t)n < capacity);
    close(fd);
    return (size_t)n;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    enum { CAPACITY = 1 << 17 };
    static char first[CAPACITY], second[CAPACITY];
    static int made;
    if (n < 1 || n > CAPACITY / 2) return 0;
    if (!made) {
        const int fd = mkstemp(path);
        check(fd >= 0 && close(fd) == 0 && atexit(remove_file) == 0);
        made = 1;
    }
    const int64_t epoch = bytes[0] % 8;
    const int fd = open(path, O_WRONLY | O_TRUNC);
    check(fd >= 0 && write(fd, bytes + 1, n - 1) == (ssize_t)(n - 1) && close(fd) == 0);

    mnd_metrics *metrics = NULL;
    check(mnd_metrics_open(path, epoch, &metrics) == MND_OK);
    const int64_t last = mnd_metrics_last_epoch(metrics);
    check(last >= 0 && last <= epoch);
    mnd_metrics_close(&metrics);
    const size_t kept = read_back(first, CAPACITY);
    check(kept <= n); /* a last line may get its newline */
    check(kept == 0 || first[kept - 1] == '\n');

    check(mnd_metrics_open(path, epoch, &metrics) == MND_OK);
    check(mnd_metrics_last_epoch(metrics) == last);
    check(read_back(second, CAPACITY) == kept && memcmp(first, second, kept) == 0);
    mnd_metrics_begin(metrics, "epoch");
    mnd_metrics_int(metrics, "epoch", epoch + 1);
    check(mnd_metrics_end(metrics) == MND_OK);
    mnd_metrics_close(&metrics);
    static const char start[] = "{\"event\":\"epoch\",\"epoch\":";
    const size_t whole = read_back(second, CAPACITY);
    check(whole > kept + strlen(start) && memcmp(first, second, kept) == 0 &&
          memcmp(second + kept, start, strlen(start)) == 0 && second[whole - 1] == '\n');

    /* What is kept is stable, so a later start from one epoch earlier drops just that. */
    check(mnd_metrics_open(path, epoch, &metrics) == MND_OK);
    mnd_metrics_close(&metrics);
    check(read_back(second, CAPACITY) == kept && memcmp(first, second, kept) == 0);

    /* Going back keeps a copy of all if it removes anything, and is stable too. */
    char copy[sizeof path + 32];
    const mnd_metrics_point point = {.epoch = epoch / 2, .step = 10 * epoch, .branch = true};
    check(mnd_metrics_go_back(path, &point, copy, sizeof copy) == MND_OK);
    const size_t less = read_back(second, CAPACITY);
    check(copy[0] != '\0' ? less < kept && unlink(copy) == 0 : less == kept);
    check(mnd_metrics_go_back(path, &point, copy, sizeof copy) == MND_OK && copy[0] == '\0');
    return 0;
}
