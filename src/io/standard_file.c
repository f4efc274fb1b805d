#include "standard_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int mnd_standard_file(const char *path) {
    struct stat wanted, have;
    if (stat(path, &wanted) != 0) return -1;
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
        const int mode = fcntl(fd, F_GETFL);
        if (mode < 0 || (mode & O_PATH) != 0 || (mode & O_ACCMODE) == O_RDONLY) continue;
        if (fstat(fd, &have) == 0 && have.st_dev == wanted.st_dev && have.st_ino == wanted.st_ino)
            return fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    }
    return -1;
}
