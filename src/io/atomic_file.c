#include "atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Length of the folder part of path, with its slash; 0 for the current folder. */
static size_t folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path) + 1;
}

mnd_status mnd_atomic_name(const char *path, char *temporary, size_t size) {
    const size_t folder = folder_length(path);
    const int n = snprintf(temporary, size, "%.*s.%s.tmp.%ld", (int)folder, path, path + folder,
                           (long)getpid());
    if (n < 0 || (size_t)n >= size) return mnd_fail(MND_RANGE, "%s: the path is too long", path);
    return MND_OK;
}

static mnd_status sync_path(const char *path, int flags) {
    const int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) return mnd_fail(MND_IO, "%s: cannot open: %s", path, strerror(errno));
    /* Some file systems cannot fsync a folder and say EINVAL: nothing more can be done there. */
    const int bad = fsync(fd) != 0 && errno != EINVAL ? errno : 0;
    close(fd);
    if (bad != 0) return mnd_fail(MND_IO, "%s: cannot write to disk: %s", path, strerror(bad));
    return MND_OK;
}

mnd_status mnd_atomic_commit(const char *temporary, const char *path) {
    mnd_status status = MND_OK;
    char folder[4096];
    const size_t n = folder_length(path);
    if (n >= sizeof folder) MND_FAIL(MND_RANGE, "%s: the path is too long", path);
    memcpy(folder, n == 0 ? "." : path, n == 0 ? 1 : n);
    folder[n == 0 ? 1 : n] = '\0';
    MND_TRY(sync_path(temporary, O_RDONLY));
    if (rename(temporary, path) != 0)
        MND_FAIL(MND_IO, "%s: cannot rename into place: %s", path, strerror(errno));
    return sync_path(folder, O_RDONLY | O_DIRECTORY);
cleanup:
    unlink(temporary);
    return status;
}
