/* checkpoint_aside.c - moves the checkpoints of an earlier run to a folder of their own. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomic_file.h"
#include "mnist_dist/checkpoint.h"

/* "ckpt-00000938.h5" or "latest" */
static int is_checkpoint(const struct dirent *entry) {
    const char *name = entry->d_name;
    const size_t n = strlen(name);
    return strcmp(name, "latest") == 0 ||
           (n > 8 && strncmp(name, "ckpt-", 5) == 0 && strcmp(name + n - 3, ".h5") == 0);
}

static mnd_status move(const char *dir, const char *folder, const char *name) {
    char from[4096], to[4096];
    const int a = snprintf(from, sizeof from, "%s/%s", dir, name);
    const int b = snprintf(to, sizeof to, "%s/%s", folder, name);
    if (a < 0 || (size_t)a >= sizeof from || b < 0 || (size_t)b >= sizeof to)
        return mnd_fail(MND_RANGE, "%s: the path is too long", dir);
    if (rename(from, to) == 0) return MND_OK;
    return mnd_fail(MND_IO, "%s: cannot move to %s: %s", from, to, strerror(errno));
}

/*
 * Moves the oldest checkpoint first and "latest" last: if the process is killed in between, the
 * newest checkpoint is still where --resume auto finds it.
 */
mnd_status mnd_checkpoint_set_aside(const char *dir, char *moved_to, size_t size) {
    mnd_status status = MND_OK;
    struct dirent **entry = NULL;
    char earlier[4096];
    moved_to[0] = '\0';
    const int n = scandir(dir, &entry, is_checkpoint, versionsort);
    if (n < 0) return errno == ENOENT ? MND_OK : mnd_fail(MND_IO, "%s: %s", dir, strerror(errno));
    const int length = snprintf(earlier, sizeof earlier, "%s/", dir);
    if (length < 0 || (size_t)length >= sizeof earlier)
        status = mnd_fail(MND_RANGE, "%s: the path is too long", dir);
    if (n > 0 && status == MND_OK) status = mnd_atomic_earlier_folder(earlier, moved_to, size);
    for (int i = 0; i < n; i++) {
        if (status == MND_OK) status = move(dir, moved_to, entry[i]->d_name);
        free(entry[i]);
    }
    free(entry);
    return status;
}
