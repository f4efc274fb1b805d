/* checkpoint_aside.c - moves the checkpoints of an earlier run, or of an earlier branch of this
   one, to a folder of their own. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "checkpoint_folder.h"
#include "checkpoint_image.h"

/* "ckpt-00000938.h5", "latest" or "best" */
static int is_checkpoint(const struct dirent *entry) {
    const char *name = entry->d_name;
    const size_t n = strlen(name);
    return strcmp(name, "latest") == 0 || strcmp(name, "best") == 0 ||
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
 * Moves the oldest checkpoint first and the links last: if the process is killed in between, the
 * newest checkpoint is still where --resume auto finds it.
 */
mnd_status mnd_checkpoint_set_aside(const char *dir, int64_t after, char *moved_to, size_t size) {
    mnd_status status = MND_OK;
    struct dirent **entry = NULL;
    char earlier[4096];
    moved_to[0] = '\0';
    const int n = scandir(dir, &entry, is_checkpoint, versionsort);
    if (n < 0) return errno == ENOENT ? MND_OK : mnd_fail(MND_IO, "%s: %s", dir, strerror(errno));
    const int length = snprintf(earlier, sizeof earlier, "%s/", dir);
    if (length < 0 || (size_t)length >= sizeof earlier)
        status = mnd_fail(MND_RANGE, "%s: the path is too long", dir);
    for (int links = 0; links < 2; links++)
        for (int i = 0; i < n && status == MND_OK; i++) {
            const char *name = entry[i]->d_name;
            const bool link = strncmp(name, "ckpt-", 5) != 0;
            if (link != (links == 1)) continue;
            if (after >= 0 && mnd_ckpt_name_step(name) <= after) continue;
            if (moved_to[0] == '\0') status = mnd_atomic_earlier_folder(earlier, moved_to, size);
            if (status == MND_OK) status = move(dir, moved_to, name);
        }
    for (int i = 0; i < n; i++) free(entry[i]);
    free(entry);
    return status;
}

/* The block of a checkpoint file has the checksum of all the rest. False if it cannot be read. */
static bool read_block(const char *path, char block[MND_CKPT_BLOCK]) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    const bool whole = read(fd, block, MND_CKPT_BLOCK) == MND_CKPT_BLOCK;
    close(fd);
    return whole;
}

mnd_status mnd_checkpoint_go_back(const char *dir, const char *path, const mnd_checkpoint *ckpt,
                                  bool *here, char *moved_to, size_t size) {
    mnd_status status = MND_OK;
    char file[4096], block[2][MND_CKPT_BLOCK];
    MND_TRY(mnd_checkpoint_path(dir, ckpt->step, file, sizeof file));
    *here = read_block(path, block[0]) && read_block(file, block[1]) &&
            memcmp(block[0], block[1], MND_CKPT_BLOCK) == 0;
    MND_TRY(mnd_checkpoint_set_aside(dir, *here ? ckpt->step : -1, moved_to, size));
    if (*here) MND_TRY(mnd_ckpt_link(dir, ckpt));
cleanup:
    return status;
}
