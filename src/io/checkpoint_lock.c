/* checkpoint_lock.c - keeps two runs from writing checkpoints to the same folder. */
#include <fcntl.h>
#include <unistd.h>

#include "file_lock.h"
#include "mnist_dist/checkpoint.h"

mnd_status mnd_checkpoint_lock(const char *dir, double timeout, int *lock) {
    *lock = -1;
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return MND_OK; /* writing to the folder will report the error */
    const mnd_lock result = mnd_file_lock(fd, timeout);
    if (result == MND_LOCK_TAKEN) {
        *lock = fd;
        return MND_OK;
    }
    close(fd);
    if (result == MND_LOCK_WITHOUT) return MND_OK;
    return mnd_fail(MND_IO,
                    "%s: another run is writing its checkpoints there: wait for its end, or give "
                    "another --checkpoint-dir",
                    dir);
}
