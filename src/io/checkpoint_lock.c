/* checkpoint_lock.c - keeps two runs from writing checkpoints to the same folder. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "mnist_dist/checkpoint.h"
#include "mnist_dist/timer.h"

mnd_status mnd_checkpoint_lock(const char *dir, double timeout, int *lock) {
    *lock = -1;
    const double begin = mnd_now();
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return MND_OK; /* writing to the folder will report the error */
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK) { /* some network file systems have no locks */
            close(fd);
            return MND_OK;
        }
        if (mnd_now() - begin > timeout) {
            close(fd);
            return mnd_fail(MND_IO,
                            "%s: another run is writing its checkpoints there: wait for its end, "
                            "or give another --checkpoint-dir",
                            dir);
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    *lock = fd;
    return MND_OK;
}
