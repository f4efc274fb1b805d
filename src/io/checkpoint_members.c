/* checkpoint_members.c - the folders of an ensemble's members: DIR/member-01, DIR/member-02, ... */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mnist_dist/checkpoint.h"

/* The number of "member-<2 or more digits>", or 0 for any other name. */
static int name_member(const char *name) {
    static const char head[] = "member-";
    if (strncmp(name, head, sizeof head - 1) != 0) return 0;
    name += sizeof head - 1;
    const size_t digits = strspn(name, "0123456789");
    if (name[digits] != '\0' || digits < 2 || digits > 6 || (digits > 2 && name[0] == '0'))
        return 0;
    return (int)strtol(name, NULL, 10);
}

mnd_status mnd_checkpoint_member_dir(const char *dir, int member, char *path, size_t size) {
    const int n = snprintf(path, size, "%s/member-%02d", dir, member);
    if (n < 0 || (size_t)n >= size) return mnd_fail(MND_RANGE, "%s: the path is too long", dir);
    return MND_OK;
}

static int ascending(const void *a, const void *b) {
    const int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

mnd_status mnd_checkpoint_members(const char *dir, int **member, int *n) {
    mnd_status status = MND_OK;
    int capacity = 0;
    char path[4096];
    *member = NULL;
    *n = 0;
    if (mnd_checkpoint_any(dir)) return MND_OK;
    DIR *stream = opendir(dir);
    if (stream == NULL) return MND_OK; /* a file, or nothing: who reads it says why */
    for (const struct dirent *entry; (errno = 0, entry = readdir(stream)) != NULL;) {
        const int number = name_member(entry->d_name);
        if (number == 0) continue;
        MND_TRY(mnd_checkpoint_member_dir(dir, number, path, sizeof path));
        if (!mnd_checkpoint_any(path)) continue;
        if (*n == capacity) {
            capacity = capacity == 0 ? 16 : 2 * capacity;
            void *more = realloc(*member, (size_t)capacity * sizeof **member);
            if (more == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory to list it", dir);
            *member = more;
        }
        (*member)[(*n)++] = number;
    }
    if (errno != 0) MND_FAIL(MND_IO, "%s: cannot list: %s", dir, strerror(errno));
    if (*n > 0) qsort(*member, (size_t)*n, sizeof **member, ascending);
cleanup:
    closedir(stream);
    if (status != MND_OK) {
        free(*member);
        *member = NULL;
        *n = 0;
    }
    return status;
}
