#include "mnist_dist/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_PATH = 4096 };

/* Replaces a path by that of its parent; false if none is left to try. */
static bool cut_last(char *path) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    while (n > 0 && path[n - 1] != '/') n--;
    if (n == 0) { /* a name without a folder lies in the current one */
        const bool more = strcmp(path, ".") != 0;
        memcpy(path, ".", 2);
        return more;
    }
    while (n > 1 && path[n - 1] == '/') n--;
    const bool more = strcmp(path, "/") != 0;
    path[n] = '\0';
    return more;
}

mnd_status mnd_folder_existing(const char *path, char *out, size_t size) {
    struct stat info;
    if (size < 2 || (size_t)snprintf(out, size, "%s", path) >= size)
        return mnd_fail(MND_RANGE, "%s: the path is too long", path);
    while (stat(out, &info) != 0 && errno == ENOENT && cut_last(out)) continue;
    return MND_OK;
}

/* So that a new folder survives a crash of the machine. Some file systems cannot; that is no error,
 * because what is written into the folder is synced by its own writer. */
static void sync_parent(const char *path) {
    char parent[MAX_PATH];
    snprintf(parent, sizeof parent, "%s", path);
    (void)cut_last(parent);
    const int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)fsync(fd);
    close(fd);
}

/* `name` is the file or folder that the user asked for, for the error line. */
static mnd_status make(const char *path, const char *name) {
    char part[MAX_PATH];
    struct stat info;
    const size_t n = strlen(path);
    if (n >= sizeof part) return mnd_fail(MND_RANGE, "%s: the path is too long", path);
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return MND_OK;
    /* Every prefix that ends before a slash, then the whole path. */
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (stat(part, &info) == 0 && S_ISDIR(info.st_mode)) continue;
        /* EEXIST: another process may have been faster. */
        if (mkdir(part, 0777) == 0)
            sync_parent(part);
        else if (errno != EEXIST || stat(part, &info) != 0 || !S_ISDIR(info.st_mode))
            return mnd_fail(MND_IO, "%s: cannot create the folder %s: %s", name, part,
                            strerror(errno == EEXIST ? ENOTDIR : errno));
    }
    return MND_OK;
}

mnd_status mnd_folder_make(const char *path) { return make(path, path); }

mnd_status mnd_folder_make_parents(const char *path) {
    char parent[MAX_PATH];
    if ((size_t)snprintf(parent, sizeof parent, "%s", path) >= sizeof parent)
        return mnd_fail(MND_RANGE, "%s: the path is too long", path);
    (void)cut_last(parent);
    return make(parent, path);
}
