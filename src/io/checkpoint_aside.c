/* checkpoint_aside.c - keeps the checkpoints of an earlier run out of the way of a new one. */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "mnist_dist/checkpoint.h"

/* "ckpt-00000938.h5" or "latest" */
static bool is_checkpoint(const char *name) {
    const size_t n = strlen(name);
    return strcmp(name, "latest") == 0 ||
           (n > 8 && strncmp(name, "ckpt-", 5) == 0 && strcmp(name + n - 3, ".h5") == 0);
}

mnd_status mnd_checkpoint_set_aside(const char *dir, char *moved_to, size_t size) {
    mnd_status status = MND_OK;
    moved_to[0] = '\0';
    DIR *d = opendir(dir);
    if (d == NULL) {
        if (errno == ENOENT) return MND_OK;
        return mnd_fail(MND_IO, "%s: %s", dir, strerror(errno));
    }
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;) {
        char from[4096], to[4096 + 256];
        if (!is_checkpoint(entry->d_name)) continue;
        for (int k = 1; moved_to[0] == '\0'; k++) {
            const int n = snprintf(moved_to, size, "%s/earlier-%d", dir, k);
            if (n < 0 || (size_t)n >= size) MND_FAIL(MND_RANGE, "%s: the path is too long", dir);
            if (mkdir(moved_to, 0777) == 0) break;
            if (errno != EEXIST) MND_FAIL(MND_IO, "%s: %s", moved_to, strerror(errno));
            moved_to[0] = '\0';
        }
        const int a = snprintf(from, sizeof from, "%s/%s", dir, entry->d_name);
        const int b = snprintf(to, sizeof to, "%s/%s", moved_to, entry->d_name);
        if (a < 0 || (size_t)a >= sizeof from || b < 0 || (size_t)b >= sizeof to)
            MND_FAIL(MND_RANGE, "%s: the path is too long", dir);
        if (rename(from, to) != 0)
            MND_FAIL(MND_IO, "%s: cannot move to %s: %s", from, to, strerror(errno));
    }
cleanup:
    closedir(d);
    return status;
}
