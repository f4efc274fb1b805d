#include "checkpoints.h"

#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "mnist_dist/memory.h"

/* Adds the file that `path` means. */
static mnd_status add(checkpoint_names *names, const char *path) {
    const size_t n = (size_t)names->n + 1;
    void *more = realloc(names->path, n * sizeof *names->path);
    if (more == NULL) return mnd_fail(MND_NO_MEMORY, "no memory for the names of checkpoints");
    names->path = more;
    names->n++;
    return mnd_checkpoint_find(path, command_skipped, NULL, names->path[n - 1],
                               sizeof names->path[n - 1]);
}

/* Adds what one argument means: a checkpoint, or all members of an ensemble. */
static mnd_status add_argument(checkpoint_names *names, const char *argument) {
    mnd_status status = MND_OK;
    int *member = NULL, n = 0;
    char folder[4096], path[4096];
    MND_TRY(mnd_checkpoint_members(argument, &member, &n));
    if (n == 0) return add(names, argument);
    /* "run/member-01", not "run//member-01" */
    const size_t length = strlen(argument);
    if (length >= sizeof folder) MND_FAIL(MND_RANGE, "%s: the path is too long", argument);
    memcpy(folder, argument, length + 1);
    for (size_t k = length; k > 1 && folder[k - 1] == '/'; k--) folder[k - 1] = '\0';
    for (int i = 0; i < n; i++) {
        MND_TRY(mnd_checkpoint_member_dir(folder, member[i], path, sizeof path));
        MND_TRY(add(names, path));
    }
cleanup:
    free(member);
    return status;
}

mnd_status checkpoint_names_find(char *const *argument, int n, checkpoint_names *out) {
    mnd_status status = MND_OK;
    *out = (checkpoint_names){0};
    for (int i = 0; i < n; i++) MND_TRY(add_argument(out, argument[i]));
cleanup:
    if (status != MND_OK) checkpoint_names_free(out);
    return status;
}

void checkpoint_names_free(checkpoint_names *names) {
    free(names->path);
    *names = (checkpoint_names){0};
}

mnd_status checkpoint_fits_data(const mnd_checkpoint *ckpt, const char *path,
                                const mnd_dataset_info *info, const char *data) {
    if (ckpt->input[0] == info->height && ckpt->input[1] == info->width &&
        ckpt->input[2] == info->channels && ckpt->classes >= info->classes)
        return MND_OK;
    return mnd_fail(MND_MISMATCH,
                    "%s takes images of %d x %d x %d in %d classes; %s has %d x %d x %d in %d",
                    path, ckpt->input[0], ckpt->input[1], ckpt->input[2], ckpt->classes, data,
                    info->height, info->width, info->channels, info->classes);
}

mnd_status checkpoint_fits_first(const mnd_checkpoint *ckpt, const char *path,
                                 const mnd_checkpoint *first, const char *first_path) {
    if (memcmp(ckpt->input, first->input, sizeof first->input) == 0 &&
        ckpt->classes == first->classes)
        return MND_OK;
    return mnd_fail(MND_MISMATCH,
                    "%s takes images of %d x %d x %d in %d classes, %s of %d x %d x %d in %d: only "
                    "networks of the same images and classes can answer together",
                    path, ckpt->input[0], ckpt->input[1], ckpt->input[2], ckpt->classes, first_path,
                    first->input[0], first->input[1], first->input[2], first->classes);
}
