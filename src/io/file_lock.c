#include "file_lock.h"

#include <errno.h>
#include <sys/file.h>
#include <time.h>

#include "mnist_dist/timer.h"

mnd_lock mnd_file_lock(int fd, double timeout) {
    const double begin = mnd_now();
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK) return MND_LOCK_WITHOUT;
        if (mnd_now() - begin > timeout) return MND_LOCK_BUSY;
        (void)nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    return MND_LOCK_TAKEN;
}
