/* checkpoint_find.c - which file a user means who names a folder. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "mnist_dist/checkpoint.h"

mnd_status mnd_checkpoint_find(const char *path, mnd_checkpoint_skipped_fn skipped, void *context,
                               char *file, size_t file_size) {
    struct stat info;
    const int n = snprintf(file, file_size, "%s", path);
    if (n < 0 || (size_t)n >= file_size)
        return mnd_fail(MND_RANGE, "%s: the path is too long", path);
    const char *slash = strrchr(path, '/');
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", path);
    if (stat(path, &info) == 0) {
        if (!S_ISDIR(info.st_mode)) return MND_OK;
    } else {
        if (strcmp(slash != NULL ? slash + 1 : path, "latest") != 0) return MND_OK;
        snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : (int)(slash - path) + 1,
                 slash == NULL ? "." : path);
    }
    /* "runs/exp1/ckpt-00000938.h5", not "runs/exp1//ckpt-00000938.h5" */
    for (size_t k = strlen(folder); k > 1 && folder[k - 1] == '/'; k--) folder[k - 1] = '\0';
    mnd_checkpoint ckpt = {0};
    const mnd_status status =
        mnd_checkpoint_read_latest(folder, skipped, context, &ckpt, file, file_size);
    mnd_checkpoint_free(&ckpt);
    return status;
}
