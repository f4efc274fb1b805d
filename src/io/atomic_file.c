#include "atomic_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Length of the folder part of path, slash included; 0 if path has no folder part. */
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
    /* EINVAL: this file system cannot fsync a folder. There is no other way, so it is no error. */
    const int bad = fsync(fd) != 0 && errno != EINVAL ? errno : 0;
    close(fd);
    if (bad != 0) return mnd_fail(MND_IO, "%s: cannot write to disk: %s", path, strerror(bad));
    return MND_OK;
}

mnd_status mnd_atomic_sync_folder(const char *path) {
    char folder[4096];
    const size_t n = folder_length(path);
    if (n >= sizeof folder) return mnd_fail(MND_RANGE, "%s: the path is too long", path);
    memcpy(folder, n == 0 ? "." : path, n == 0 ? 1 : n);
    folder[n == 0 ? 1 : n] = '\0';
    return sync_path(folder, O_RDONLY | O_DIRECTORY);
}

mnd_status mnd_atomic_commit(const char *temporary, const char *path) {
    mnd_status status = MND_OK;
    MND_TRY(sync_path(temporary, O_RDONLY));
    if (rename(temporary, path) != 0)
        MND_FAIL(MND_IO, "%s: cannot rename into place: %s", path, strerror(errno));
    return mnd_atomic_sync_folder(path);
cleanup:
    unlink(temporary);
    return status;
}

mnd_status mnd_atomic_write(const char *path, const void *data, size_t bytes) {
    mnd_status status = MND_OK;
    char temporary[4096];
    int fd = -1;
    status = mnd_atomic_name(path, temporary, sizeof temporary);
    if (status != MND_OK) return status;
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) return mnd_fail(MND_IO, "%s: cannot create: %s", path, strerror(errno));
    for (size_t done = 0; done < bytes;) {
        const ssize_t n = write(fd, (const char *)data + done, bytes - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) MND_FAIL(MND_IO, "%s: cannot write: %s", path, strerror(errno));
        done += (size_t)n;
    }
    /* Network file systems may report a full disk or an exceeded quota only on close. */
    if (close(fd) != 0) {
        fd = -1;
        MND_FAIL(MND_IO, "%s: cannot write: %s", path, strerror(errno));
    }
    return mnd_atomic_commit(temporary, path);
cleanup:
    if (fd >= 0) close(fd);
    unlink(temporary);
    return status;
}

mnd_status mnd_atomic_link(const char *target, const char *path) {
    char temporary[4096];
    const mnd_status status = mnd_atomic_name(path, temporary, sizeof temporary);
    if (status != MND_OK) return status;
    unlink(temporary);
    if (symlink(target, temporary) != 0) {
        if (errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS) return MND_OK;
        return mnd_fail(MND_IO, "%s: cannot link to %s: %s", path, target, strerror(errno));
    }
    if (rename(temporary, path) != 0) {
        const int bad = errno;
        unlink(temporary);
        return mnd_fail(MND_IO, "%s: cannot link to %s: %s", path, target, strerror(bad));
    }
    return mnd_atomic_sync_folder(path);
}

mnd_status mnd_atomic_earlier_folder(const char *prefix, char *made, size_t size) {
    char path[4096];
    for (int k = 1;; k++) {
        const int n = snprintf(path, sizeof path, "%searlier-%d", prefix, k);
        if (n < 0 || (size_t)n >= sizeof path || (size_t)n >= size)
            return mnd_fail(MND_RANGE, "%s: the path is too long", prefix);
        if (mkdir(path, 0777) == 0) {
            memcpy(made, path, (size_t)n + 1);
            return MND_OK;
        }
        if (errno != EEXIST) return mnd_fail(MND_IO, "%s: %s", path, strerror(errno));
    }
}

void mnd_atomic_clean(const char *folder, bool (*ours)(const char *name)) {
    static const char mark[] = ".tmp.";
    DIR *dir = opendir(folder);
    if (dir == NULL) return;
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        char name[sizeof entry->d_name];
        if (entry->d_name[0] != '.') continue;
        memcpy(name, entry->d_name + 1, strlen(entry->d_name));
        /* The last occurrence, because the final name itself may contain the mark. */
        char *at = NULL;
        for (char *p = name; (p = strstr(p, mark)) != NULL; p++) at = p;
        if (at == NULL) continue;
        *at = '\0';
        const char *digits = at + sizeof mark - 1;
        if (digits[0] == '\0' || digits[strspn(digits, "0123456789")] != '\0' || !ours(name))
            continue;
        errno = 0;
        const long pid = strtol(digits, NULL, 10);
        if (errno != 0 || pid <= 0 || (pid_t)pid != pid) continue;
        if (pid != (long)getpid() && (kill((pid_t)pid, 0) == 0 || errno != ESRCH)) continue;
        unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
}
