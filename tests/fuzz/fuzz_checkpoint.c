/*
 * mnd_checkpoint_read on any bytes. The block in front of the HDF5 file, with length and SHA-256,
 * must refuse everything that is not exactly what was written, so that HDF5 never sees it: no
 * crash, one error line, MND_FORMAT, and no memory beyond the file's size.
 *
 * The first byte chooses: even, the bytes are the whole file; odd, they overwrite a part of a file
 * that mnd_checkpoint_write made, beginning where the next two bytes say. Then only the original
 * content may be accepted. tests/unit/test_checkpoint_damage.c also gives damaged files a valid
 * block; it reads them in child processes, because HDF5 may crash on them.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mnist_dist/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

enum { CAPACITY = 1 << 16 };
static unsigned char original[CAPACITY], file[CAPACITY];
static size_t n_original;

static void check(int holds) {
    if (!holds) abort();
}

/* A small but complete checkpoint, by way of the program's own writer. */
static void make_original(void) {
    float kernel[6] = {1, 2, 3, 4, 5, 6}, bias[2] = {7, 8}, m[8] = {0.5F}, v[8] = {0.25F};
    double loss_sum[2] = {1.5, 2.5};
    int64_t correct[2] = {3, 4};
    mnd_epoch_record history = {1, 2.0, 0.5, 2.1, 0.4, 0.1};
    mnd_ckpt_array array[2] = {
        {.group = "01_dense", .name = "kernel", .ndim = 2, .dim = {3, 2}, .data = kernel},
        {.group = "01_dense", .name = "bias", .ndim = 1, .dim = {2}, .data = bias}};
    mnd_ckpt_array slot[2] = {{.name = "m", .ndim = 1, .dim = {8}, .data = m},
                              {.name = "v", .ndim = 1, .dim = {8}, .data = v}};
    mnd_checkpoint c = {.spec = "flatten,dense:2",
                        .input = {3, 1, 1},
                        .classes = 2,
                        .blas = "fma",
                        .n_array = 2,
                        .array = array,
                        .optimizer = "adam",
                        .n_update = 9,
                        .n_slot = 2,
                        .slot = slot,
                        .epoch = 1,
                        .step = 9,
                        .step_in_epoch = 4,
                        .seed = 7,
                        .logical_ranks = 2,
                        .batch_size = 8,
                        .planned_epochs = 3,
                        .schedule = "constant",
                        .best_accuracy = 0.4,
                        .best_epoch = 1,
                        .loss_sum = loss_sum,
                        .correct = correct,
                        .n_history = 1,
                        .history = &history};
    memset(c.weights_sha256, 'a', MND_SHA256_HEX - 1);
    memset(c.data_sha256, 'b', MND_SHA256_HEX - 1);
    char dir[] = "/tmp/fuzz_checkpoint.XXXXXX", path[4096], latest[64];
    check(mkdtemp(dir) != NULL);
    if (mnd_checkpoint_write(dir, &c, 1, path, sizeof path) != MND_OK) {
        fprintf(stderr, "%s\n", mnd_error());
        abort();
    }
    const int fd = open(path, O_RDONLY);
    const ssize_t n = read(fd, original, CAPACITY);
    check(n > 512 && n < CAPACITY);
    n_original = (size_t)n;
    close(fd);
    snprintf(latest, sizeof latest, "%s/latest", dir);
    check(unlink(path) == 0 && unlink(latest) == 0 && rmdir(dir) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        make_original();
        fd = memfd_create("checkpoint", 0);
        check(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (n < 3 || n > CAPACITY / 2) return 0;
    const int over = bytes[0] % 2;
    const size_t place = (size_t)bytes[1] + 256 * (size_t)bytes[2];
    bytes += 3;
    n -= 3;
    size_t size = n;
    memcpy(file, bytes, n);
    if (over) {
        memcpy(file, original, n_original);
        /* Near the beginning twice as often: the block and the structures lie there. */
        const size_t at = place % 2 != 0 ? place % n_original : place % 2048 % n_original;
        memcpy(file + at, bytes, n);
        size = at + n > n_original ? at + n : n_original;
    }
    const int same = size == n_original && memcmp(file, original, size) == 0;
    check(ftruncate(fd, 0) == 0 && ftruncate(fd, (off_t)size) == 0);
    check(pwrite(fd, file, size, 0) == (ssize_t)size);
    mnd_checkpoint back;
    const mnd_status status = mnd_checkpoint_read(path, &back);
    check((status == MND_OK) == same);
    if (status != MND_OK)
        check(status == MND_FORMAT && strncmp(mnd_error(), path, strlen(path)) == 0 &&
              strchr(mnd_error(), '\n') == NULL);
    else
        mnd_checkpoint_free(&back);
    return 0;
}
