/* file_lock.h - waits for the lock of a file or folder. Private to src/io. */
#ifndef MNIST_DIST_IO_FILE_LOCK_H
#define MNIST_DIST_IO_FILE_LOCK_H

typedef enum mnd_lock {
    MND_LOCK_TAKEN,
    MND_LOCK_BUSY,   /* another process has it */
    MND_LOCK_WITHOUT /* some network file systems have no locks */
} mnd_lock;

/* Locks (flock(2)) what `fd` is open for until that is closed; waits `timeout` seconds at most. */
mnd_lock mnd_file_lock(int fd, double timeout);

#endif
