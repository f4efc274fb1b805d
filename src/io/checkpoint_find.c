/* checkpoint_find.c - which file a user means who names a folder. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoint_folder.h"

/* The newest valid checkpoint of a folder, or the best one of the run that wrote it. */
static mnd_status find_in(const char *folder, bool best, mnd_checkpoint_skipped_fn skipped,
                          void *context, char *file, size_t file_size) {
    mnd_status status = MND_OK;
    mnd_checkpoint ckpt = {0};
    MND_TRY(mnd_checkpoint_read_latest(folder, skipped, context, &ckpt, file, file_size));
    if (!best) goto cleanup;
    const int64_t step = mnd_checkpoint_best_step(&ckpt);
    if (step < 0)
        MND_FAIL(MND_NOT_FOUND, "%s: no epoch is finished yet, so none is the best", folder);
    MND_TRY(mnd_checkpoint_path(folder, step, file, file_size));
cleanup:
    mnd_checkpoint_free(&ckpt);
    return status;
}

mnd_status mnd_checkpoint_find(const char *path, mnd_checkpoint_skipped_fn skipped, void *context,
                               char *file, size_t file_size) {
    struct stat info;
    char folder[4096];
    const int n = snprintf(file, file_size, "%s", path);
    if (n < 0 || (size_t)n >= file_size || (size_t)n >= sizeof folder)
        return mnd_fail(MND_RANGE, "%s: the path is too long", path);
    const char *slash = strrchr(path, '/');
    const bool best = strcmp(slash != NULL ? slash + 1 : path, "best") == 0;
    const bool latest = strcmp(slash != NULL ? slash + 1 : path, "latest") == 0;
    const bool exists = stat(path, &info) == 0;
    if (exists ? !S_ISDIR(info.st_mode) : !best && !latest) return MND_OK;
    if (exists)
        memcpy(folder, path, (size_t)n + 1);
    else
        snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : (int)(slash - path) + 1,
                 slash == NULL ? "." : path);
    /* "runs/exp1/ckpt-00000938.h5", not "runs/exp1//ckpt-00000938.h5" */
    for (size_t k = strlen(folder); k > 1 && folder[k - 1] == '/'; k--) folder[k - 1] = '\0';
    return find_in(folder, best && !exists, skipped, context, file, file_size);
}
