#include "standard_file.h"

#include <fcntl.h>
#include <unistd.h>

/* Standard output or standard error, whichever writes to this file; -1 if neither does. */
static int find(const struct stat *file) {
    struct stat have;
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
        const int mode = fcntl(fd, F_GETFL);
        if (mode < 0 || (mode & O_PATH) != 0 || (mode & O_ACCMODE) == O_RDONLY) continue;
        if (fstat(fd, &have) == 0 && have.st_dev == file->st_dev && have.st_ino == file->st_ino)
            return fd;
    }
    return -1;
}

bool mnd_is_standard_file(const struct stat *file) { return find(file) >= 0; }

int mnd_standard_file(const char *path) {
    struct stat wanted;
    if (stat(path, &wanted) != 0) return -1;
    const int fd = find(&wanted);
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}
