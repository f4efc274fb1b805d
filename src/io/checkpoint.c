#include "mnist_dist/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "checkpoint_folder.h"
#include "checkpoint_image.h"

#define MAGIC "mnist_dist checkpoint "
#define VERSION "1"

enum { MAX_PATH = 4096 };

/*
 * The block in front of the HDF5 file: three lines of text, then zeros. The line `sha256` covers
 * all bytes after the block, so that any damage is found before HDF5, which may crash on damaged
 * files, reads them.
 */
static void make_block(char block[MND_CKPT_BLOCK], size_t size, const char *sha256) {
    memset(block, 0, MND_CKPT_BLOCK);
    snprintf(block, MND_CKPT_BLOCK, MAGIC VERSION "\nbytes %zu\nsha256 %s\n", size, sha256);
}

/* --- names ------------------------------------------------------------------------------------ */

int64_t mnd_ckpt_name_step(const char *name) {
    static const char head[] = "ckpt-", tail[] = ".h5";
    if (strncmp(name, head, sizeof head - 1) != 0) return -1;
    name += sizeof head - 1;
    const size_t digits = strspn(name, "0123456789");
    if (digits < 8 || digits > 18 || (digits > 8 && name[0] == '0')) return -1;
    return strcmp(name + digits, tail) == 0 ? strtoll(name, NULL, 10) : -1;
}

static bool is_ours(const char *name) {
    return mnd_ckpt_name_step(name) >= 0 || strcmp(name, "latest") == 0 ||
           strcmp(name, "best") == 0;
}

mnd_status mnd_checkpoint_path(const char *dir, int64_t step, char *path, size_t size) {
    const int n = snprintf(path, size, "%s/ckpt-%08" PRId64 ".h5", dir, step);
    if (n < 0 || (size_t)n >= size) return mnd_fail(MND_RANGE, "%s: the path is too long", dir);
    return MND_OK;
}

static int newest_first(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* The steps of all checkpoints in DIR, highest first. Free *steps with free(). */
static mnd_status list_steps(const char *dir, int64_t **steps, int *n_steps) {
    mnd_status status = MND_OK;
    int capacity = 0;
    *steps = NULL;
    *n_steps = 0;
    DIR *stream = opendir(dir);
    if (stream == NULL)
        return mnd_fail(errno == ENOENT ? MND_NOT_FOUND : MND_IO, "%s: %s", dir, strerror(errno));
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (entry == NULL) {
            if (errno != 0) MND_FAIL(MND_IO, "%s: cannot list: %s", dir, strerror(errno));
            break;
        }
        const int64_t step = mnd_ckpt_name_step(entry->d_name);
        if (step < 0) continue;
        if (*n_steps == capacity) {
            capacity = capacity == 0 ? 64 : 2 * capacity;
            void *more = realloc(*steps, (size_t)capacity * sizeof **steps);
            if (more == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory to list it", dir);
            *steps = more;
        }
        (*steps)[(*n_steps)++] = step;
    }
    if (*n_steps > 0) qsort(*steps, (size_t)*n_steps, sizeof **steps, newest_first);
cleanup:
    closedir(stream);
    if (status != MND_OK) {
        free(*steps);
        *steps = NULL;
        *n_steps = 0;
    }
    return status;
}

/* --- writing ---------------------------------------------------------------------------------- */

bool mnd_checkpoint_any(const char *dir) {
    int64_t *steps = NULL;
    int n = 0;
    const mnd_status status = list_steps(dir, &steps, &n);
    free(steps);
    return status == MND_OK && n > 0;
}

int64_t mnd_checkpoint_best_step(const mnd_checkpoint *ckpt) {
    if (ckpt->best_epoch < 1 || ckpt->best_epoch > ckpt->epoch) return -1;
    /* All epochs have as many steps. */
    return ckpt->best_epoch * ((ckpt->step - ckpt->step_in_epoch) / ckpt->epoch);
}

mnd_status mnd_ckpt_link(const char *dir, const mnd_checkpoint *ckpt) {
    mnd_status status = MND_OK;
    char file[MAX_PATH], link[MAX_PATH];
    const int64_t best = mnd_checkpoint_best_step(ckpt);
    MND_TRY(mnd_checkpoint_path(dir, ckpt->step, file, sizeof file));
    snprintf(link, sizeof link, "%s/latest", dir);
    MND_TRY(mnd_atomic_link(strrchr(file, '/') + 1, link));
    snprintf(link, sizeof link, "%s/best", dir);
    if (best >= 0) MND_TRY(mnd_checkpoint_path(dir, best, file, sizeof file));
    if (best >= 0 && access(file, F_OK) == 0)
        MND_TRY(mnd_atomic_link(strrchr(file, '/') + 1, link));
    else
        (void)unlink(link); /* rather none than a wrong one */
cleanup:
    return status;
}

/*
 * Removes all but the `keep` newest checkpoints and that of step `best`. Errors are ignored: they
 * must not stop a run.
 */
static void prune(const char *dir, int64_t written, int64_t best, int keep) {
    int64_t *steps = NULL;
    int n = 0;
    char path[MAX_PATH];
    if (keep <= 0 || list_steps(dir, &steps, &n) != MND_OK) return;
    for (int i = keep; i < n; i++)
        if (steps[i] != written && steps[i] != best &&
            mnd_checkpoint_path(dir, steps[i], path, sizeof path) == MND_OK)
            unlink(path);
    free(steps);
}

mnd_status mnd_checkpoint_write(const char *dir, const mnd_checkpoint *ckpt, int keep, char *path,
                                size_t path_size) {
    mnd_status status = MND_OK;
    unsigned char *bytes = NULL;
    size_t size = 0;
    char file[MAX_PATH], digest[MND_SHA256_HEX], block[MND_CKPT_BLOCK];
    MND_TRY(mnd_checkpoint_path(dir, ckpt->step, file, sizeof file));
    if (path != NULL) MND_TRY(mnd_checkpoint_path(dir, ckpt->step, path, path_size));
    status = mnd_ckpt_encode(ckpt, &bytes, &size);
    if (status != MND_OK) MND_FAIL(status, "%s: %s", file, mnd_error());
    MND_TRY(mnd_sha256_buffer(bytes + MND_CKPT_BLOCK, size - MND_CKPT_BLOCK, digest));
    make_block(block, size, digest);
    memcpy(bytes, block, sizeof block);

    if (mkdir(dir, 0777) == 0)
        MND_TRY(mnd_atomic_sync_folder(dir));
    else if (errno != EEXIST)
        MND_FAIL(MND_IO, "%s: cannot create the folder: %s", dir, strerror(errno));
    /* Before writing, because such files may be what fills a full disk. */
    mnd_atomic_clean(dir, is_ours);
    status = mnd_atomic_write(file, bytes, size);
    if (status != MND_OK)
        MND_FAIL(status, "%s; no checkpoint written, earlier ones are untouched", mnd_error());
    MND_TRY(mnd_ckpt_link(dir, ckpt));
    prune(dir, ckpt->step, mnd_checkpoint_best_step(ckpt), keep);
cleanup:
    free(bytes);
    return status;
}

/* --- reading ---------------------------------------------------------------------------------- */

static mnd_status read_exactly(const char *path, int fd, unsigned char *to, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        const ssize_t n = read(fd, to + done, bytes - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return mnd_fail(MND_IO, "%s: cannot read: %s", path, strerror(errno));
        if (n == 0) return mnd_fail(MND_FORMAT, "%s: truncated while being read", path);
        done += (size_t)n;
    }
    return MND_OK;
}

/* Checks everything in the block of a file of this length but the digest. */
static mnd_status check_block(const char *path, const char *block, size_t size) {
    char expected[MND_CKPT_BLOCK];
    make_block(expected, size, "");
    const size_t magic = strlen(MAGIC), head = strlen(expected) - 1; /* up to the digest */
    if (memcmp(block, MAGIC, magic) != 0)
        return mnd_fail(MND_FORMAT, "%s: is not a checkpoint of mnist_dist, or is damaged", path);
    if (memcmp(block + magic, VERSION "\n", strlen(VERSION "\n")) != 0)
        return mnd_fail(MND_FORMAT,
                        "%s: was written by another version of mnist_dist, or is damaged", path);
    if (memcmp(block, expected, head) != 0)
        return mnd_fail(
            MND_FORMAT,
            "%s: damaged: it has %zu bytes, which is not the length it was written with", path,
            size);
    return MND_OK;
}

mnd_status mnd_checkpoint_read(const char *path, mnd_checkpoint *out) {
    mnd_status status = MND_OK;
    unsigned char *bytes = NULL;
    char digest[MND_SHA256_HEX], block[MND_CKPT_BLOCK], expected[MND_CKPT_BLOCK];
    *out = (mnd_checkpoint){0};
    /* Non-blocking, because opening a FIFO would wait for a writer. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return mnd_fail(errno == ENOENT ? MND_NOT_FOUND : MND_IO, "%s: %s", path, strerror(errno));
    struct stat info;
    if (fstat(fd, &info) != 0) MND_FAIL(MND_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        MND_FAIL(MND_FORMAT, "%s: is not a regular file, but a checkpoint is one", path);
    const size_t size = (size_t)info.st_size;
    if (size <= MND_CKPT_BLOCK)
        MND_FAIL(MND_FORMAT, "%s: %zu bytes are too short for a checkpoint", path, size);
    MND_TRY(read_exactly(path, fd, (unsigned char *)block, sizeof block));
    MND_TRY(check_block(path, block, size));
    bytes = malloc(size);
    if (bytes == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory for %zu bytes", path, size);
    memcpy(bytes, block, sizeof block);
    MND_TRY(read_exactly(path, fd, bytes + sizeof block, size - sizeof block));
    MND_TRY(mnd_sha256_buffer(bytes + sizeof block, size - sizeof block, digest));
    make_block(expected, size, digest);
    if (memcmp(block, expected, sizeof block) != 0)
        MND_FAIL(MND_FORMAT, "%s: damaged: its SHA-256 is not the one it was written with", path);
    status = mnd_ckpt_decode(bytes, size, out);
    if (status != MND_OK) MND_FAIL(status, "%s: %s", path, mnd_error());
cleanup:
    close(fd);
    free(bytes);
    return status;
}

mnd_status mnd_checkpoint_read_latest(const char *dir, mnd_checkpoint_skipped_fn skipped,
                                      void *context, mnd_checkpoint *out, char *path,
                                      size_t path_size) {
    mnd_status status = MND_OK;
    int64_t *steps = NULL;
    int n_steps = 0;
    char file[MAX_PATH];
    *out = (mnd_checkpoint){0};
    MND_TRY(list_steps(dir, &steps, &n_steps));
    for (int i = 0; i < n_steps; i++) {
        MND_TRY(mnd_checkpoint_path(dir, steps[i], file, sizeof file));
        status = mnd_checkpoint_read(file, out);
        /* An older one would need as much memory, and continuing from it would lose work. */
        if (status == MND_OK || status == MND_NO_MEMORY) break;
        if (skipped != NULL) skipped(context, file, mnd_error());
    }
    if (status == MND_NO_MEMORY) goto cleanup;
    if (n_steps == 0 || status != MND_OK)
        MND_FAIL(MND_NOT_FOUND, "%s: has no valid checkpoint (%d damaged)", dir, n_steps);
    if (path != NULL && (size_t)snprintf(path, path_size, "%s", file) >= path_size) {
        mnd_checkpoint_free(out);
        MND_FAIL(MND_RANGE, "%s: the path is too long", file);
    }
cleanup:
    free(steps);
    return status;
}
