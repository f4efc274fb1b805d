/* metrics_aside.c - keeps the metrics of other runs: those that write now, and earlier ones. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "file_lock.h"
#include "metrics_lock.h"
#include "mnist_dist/metrics.h"
#include "standard_file.h"

mnd_status mnd_metrics_lock(const char *path, int fd, double timeout) {
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || mnd_is_standard_file(&info) ||
        mnd_file_lock(fd, timeout) != MND_LOCK_BUSY)
        return MND_OK;
    return mnd_fail(MND_IO,
                    "%s: another run is writing its metrics there: wait for its end, or give "
                    "another --metrics",
                    path);
}

mnd_status mnd_metrics_check_free(const char *path, double timeout) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return MND_OK; /* there is none yet, or writing will report the error */
    const mnd_status status = mnd_metrics_lock(path, fd, timeout);
    close(fd);
    return status;
}

/* Moves the file into the folder under its own name; false if it cannot or there is such a file. */
static bool move_into(const char *path, const char *name, const char *folder, char *to,
                      size_t size) {
    const int n = snprintf(to, size, "%s/%s", folder, name);
    return n > 0 && (size_t)n < size && access(to, F_OK) != 0 && rename(path, to) == 0;
}

/* Into `folder`, or else into a new folder beside the file. */
static mnd_status move_aside(const char *path, const char *folder, char *moved_to, size_t size) {
    mnd_status status = MND_OK;
    char beside[4096];
    const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
    if (folder[0] != '\0' && move_into(path, name, folder, moved_to, size)) return MND_OK;
    const int n = snprintf(beside, sizeof beside, "%.*s", (int)(name - path), path);
    if (n < 0 || (size_t)n >= sizeof beside) MND_FAIL(MND_RANGE, "%s: the path is too long", path);
    MND_TRY(mnd_atomic_earlier_folder(beside, beside, sizeof beside));
    if (!move_into(path, name, beside, moved_to, size))
        MND_FAIL(MND_IO,
                 "%s: cannot move the metrics of an earlier run to %s: %s; give another --metrics",
                 path, beside, strerror(errno));
cleanup:
    if (status != MND_OK) moved_to[0] = '\0';
    return status;
}

mnd_status mnd_metrics_set_aside(const char *path, const char *folder, char *moved_to,
                                 size_t size) {
    mnd_status status = MND_OK;
    struct stat info, link;
    char *target = NULL;
    moved_to[0] = '\0';
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0 ||
        mnd_is_standard_file(&info))
        return MND_OK;
    MND_TRY(mnd_metrics_check_free(path, 0.0));
    /* The file that a symbolic link points to, not the link. */
    if (lstat(path, &link) == 0 && S_ISLNK(link.st_mode)) target = realpath(path, NULL);
    status = move_aside(target != NULL ? target : path, folder, moved_to, size);
cleanup:
    free(target);
    return status;
}
