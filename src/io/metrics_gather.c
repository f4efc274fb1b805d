/* metrics_gather.c - the metrics of an ensemble's members in one file. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "metrics_lock.h"
#include "mnist_dist/folder.h"
#include "mnist_dist/metrics.h"
#include "standard_file.h"

static const char head[] = "{\"member\":";

/* Adds the complete lines of a file, each with its member. */
static mnd_status add_lines(FILE *to, const char *path, int member) {
    mnd_status status = MND_OK;
    char *line = NULL;
    size_t capacity = 0;
    FILE *from = fopen(path, "re");
    if (from == NULL && (errno == ENOENT || errno == ENOTDIR)) return MND_OK;
    if (from == NULL) return mnd_fail(MND_IO, "%s: cannot read: %s", path, strerror(errno));
    for (ssize_t n; (n = getline(&line, &capacity, from)) > 0;) {
        /* Another process may be writing the last line. */
        if (n < 4 || line[0] != '{' || line[n - 1] != '\n' || line[n - 2] != '}') continue;
        fprintf(to, "%s%d,%s", head, member, line + 1);
    }
    if (ferror(from) != 0) status = mnd_fail(MND_IO, "%s: cannot read: %s", path, strerror(errno));
    (void)fclose(from);
    free(line);
    return status;
}

static mnd_status write_all(const char *path, int fd, const char *text, size_t size) {
    while (size > 0) {
        const ssize_t n = write(fd, text, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return mnd_fail(MND_IO, "%s: cannot write metrics: %s", path, strerror(errno));
        text += n;
        size -= (size_t)n;
    }
    return MND_OK;
}

/* To what is not a regular file: a pipe, a terminal, the file of standard output. */
static mnd_status append(const char *path, const char *text, size_t size) {
    int fd = mnd_standard_file(path);
    if (fd < 0) {
        /* Non-blocking, because opening a FIFO would wait for a reader; writing may wait. */
        fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0 && errno == ENXIO)
            return mnd_fail(MND_IO, "%s: cannot write metrics: no process reads this FIFO", path);
        if (fd < 0 || fcntl(fd, F_SETFL, O_APPEND) != 0) {
            if (fd >= 0) close(fd);
            return mnd_fail(MND_IO, "%s: cannot write metrics: %s", path, strerror(errno));
        }
    }
    const mnd_status status = write_all(path, fd, text, size);
    close(fd);
    return status;
}

/* The new file instead of the one that it replaced. */
static void move_lock(const char *path, int *lock) {
    const int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0) return;
    /* A run that was quicker writes there as well; the members' own files have all lines. */
    (void)!mnd_metrics_lock(path, fd, 0.0);
    if (*lock >= 0) close(*lock);
    *lock = fd;
}

mnd_status mnd_metrics_gather(const char *path, const char *const *part, int n, const char *last,
                              int *lock) {
    mnd_status status = MND_OK;
    char *text = NULL, *target = NULL;
    size_t size = 0;
    struct stat info;
    const bool exists = stat(path, &info) == 0;
    const bool whole = !exists || (S_ISREG(info.st_mode) && !mnd_is_standard_file(&info));
    if (exists && S_ISDIR(info.st_mode))
        return mnd_fail(MND_IO, "%s: cannot write metrics: %s", path, strerror(EISDIR));
    if (!whole && last == NULL) return MND_OK;
    FILE *lines = open_memstream(&text, &size);
    if (lines == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory for metrics", path);
    for (int i = 0; i < n && status == MND_OK; i++) status = add_lines(lines, part[i], i + 1);
    if (last != NULL) fprintf(lines, "%s\n", last);
    if (fclose(lines) != 0 && status == MND_OK)
        status = mnd_fail(MND_NO_MEMORY, "%s: no memory for metrics", path);
    if (status != MND_OK) goto cleanup;
    if (!whole) {
        status = append(path, text, size);
        goto cleanup;
    }
    MND_TRY(mnd_folder_make_parents(path));
    if (exists) target = realpath(path, NULL); /* the file that a link points to, not the link */
    MND_TRY(mnd_atomic_write(target != NULL ? target : path, text, size));
    move_lock(path, lock);
cleanup:
    free(text);
    free(target);
    return status;
}

bool mnd_metrics_is_gathered(const char *path) {
    char start[sizeof head] = "";
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    const size_t n = fread(start, 1, sizeof head - 1, file);
    (void)fclose(file);
    return n == sizeof head - 1 && strcmp(start, head) == 0;
}
