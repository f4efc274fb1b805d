/*
 * Any bytes as an IDX file, raw or gzip: refused with one line, or read to its end with exactly the
 * elements that the header promises. The first input byte picks how much is read at a time.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mnist_dist/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void check(int holds) {
    if (!holds) abort();
}

static void read_all(mnd_idx *idx, size_t piece, int64_t file_size) {
    static uint8_t out[1 << 16];
    int64_t left = mnd_idx_element_size(idx);
    check(mnd_idx_ndim(idx) >= 1 && mnd_idx_ndim(idx) <= MND_IDX_DIMS);
    for (int i = 0; i < mnd_idx_ndim(idx); i++) {
        check(mnd_idx_dim(idx, i) > 0);
        check(!__builtin_mul_overflow(left, mnd_idx_dim(idx, i), &left));
    }
    check(left <= 1032 * file_size + 1032); /* no more than the file can back */
    mnd_status status = MND_OK;
    while (left > 0 && status == MND_OK) {
        const size_t now = (int64_t)piece < left ? piece : (size_t)left;
        status = mnd_idx_read(idx, out, now);
        left -= (int64_t)now;
    }
    if (status == MND_OK) status = mnd_idx_expect_end(idx);
    check(status == MND_OK || status == MND_FORMAT);
    check((status == MND_OK) == (strlen(mnd_idx_sha256(idx)) == 64));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    static int fd = -1;
    static char path[64];
    if (n < 1) return 0;
    if (fd < 0) {
        fd = memfd_create("idx", 0);
        check(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    const size_t piece = (size_t)1 << bytes[0] % 17;
    bytes++;
    n--;
    check(ftruncate(fd, (off_t)n) == 0 && pwrite(fd, bytes, n, 0) == (ssize_t)n);
    mnd_idx *idx = NULL;
    const mnd_status status = mnd_idx_open(path, &idx);
    check((status == MND_OK) == (idx != NULL));
    check(status == MND_OK || status == MND_FORMAT);
    if (status == MND_OK)
        read_all(idx, piece, (int64_t)n);
    else
        check(strncmp(mnd_error(), path, strlen(path)) == 0 && strchr(mnd_error(), '\n') == NULL);
    mnd_idx_close(&idx);
    return 0;
}
