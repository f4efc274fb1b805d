/* convert_find.c - which format a source has; names and notes that all readers need. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "convert_source.h"

void mnd_source_note(mnd_source *s, const char *format, ...) {
    mnd_convert_report *r = s->report;
    if (r == NULL || r->n_note == MND_CONVERT_NOTES) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->note[r->n_note++], sizeof r->note[0], format, arguments);
    va_end(arguments);
}

void mnd_source_name(mnd_source *s, int label, const char *text) {
    if (label < 0 || label >= MND_MAX_CLASSES) return;
    char *name = s->class_name[label];
    snprintf(name, sizeof s->class_name[0], "%s", text);
    name[strcspn(name, "\r\n")] = '\0';
    if (label >= s->n_name) s->n_name = label + 1;
}

char *mnd_source_join(const char *folder, const char *name) {
    char *path = NULL;
    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

const char *mnd_source_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static int by_version(const void *a, const void *b) {
    return strverscmp(*(char *const *)a, *(char *const *)b);
}

mnd_status mnd_source_list(const char *folder, char ***name, int *n) {
    mnd_status status = MND_OK;
    int capacity = 0;
    *name = NULL;
    *n = 0;
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return mnd_fail(errno == ENOENT ? MND_NOT_FOUND : MND_IO, "%s: %s", folder,
                        strerror(errno));
    const struct dirent *entry;
    while (errno = 0, (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.') continue;
        if (*n == capacity) {
            capacity = capacity == 0 ? 64 : 2 * capacity;
            char **more = realloc(*name, (size_t)capacity * sizeof **name);
            if (more == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory for its names", folder);
            *name = more;
        }
        (*name)[*n] = strdup(entry->d_name);
        if ((*name)[*n] == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory for its names", folder);
        ++*n;
    }
    if (errno != 0) MND_FAIL(MND_IO, "%s: cannot read the folder: %s", folder, strerror(errno));
    if (*n > 0) qsort(*name, (size_t)*n, sizeof **name, by_version);
cleanup:
    closedir(dir);
    if (status != MND_OK) mnd_source_list_free(name, *n);
    return status;
}

void mnd_source_list_free(char ***name, int n) {
    for (int i = 0; *name != NULL && i < n; i++) free((*name)[i]);
    free(*name);
    *name = NULL;
}

static bool holds(const char *folder, const char *name) {
    char *path = mnd_source_join(folder, name);
    const bool found = path != NULL && access(path, F_OK) == 0;
    free(path);
    return found;
}

bool mnd_source_is_csv(const char *name) {
    const size_t n = strlen(name);
    return (n > 4 && strcasecmp(name + n - 4, ".csv") == 0) ||
           (n > 7 && strcasecmp(name + n - 7, ".csv.gz") == 0);
}

static mnd_status find_in_folder(mnd_source *s) {
    mnd_status status = MND_OK;
    char **name = NULL;
    int n = 0;
    s->format = &mnd_source_idx;
    if (mnd_source_holds_idx(s->path)) return MND_OK;
    if (holds(s->path, "data_batch_1.bin") || holds(s->path, "test_batch.bin") ||
        (holds(s->path, "train.bin") && holds(s->path, "test.bin"))) {
        s->format = &mnd_source_cifar;
        return MND_OK;
    }
    MND_TRY(mnd_source_list(s->path, &name, &n));
    bool csv = false, folders = false;
    for (int i = 0; i < n; i++) {
        char *path = mnd_source_join(s->path, name[i]);
        struct stat st;
        csv = csv || mnd_source_is_csv(name[i]);
        folders = folders || (path != NULL && stat(path, &st) == 0 && S_ISDIR(st.st_mode));
        free(path);
    }
    if (csv)
        s->format = &mnd_source_csv;
    else if (folders)
        s->format = &mnd_source_png;
cleanup:
    mnd_source_list_free(&name, n);
    return status;
}

static mnd_status find_by_content(mnd_source *s) {
    unsigned char head[8] = {0};
    const int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return mnd_fail(MND_IO, "%s: cannot open: %s", s->path, strerror(errno));
    const ssize_t n = read(fd, head, sizeof head);
    close(fd);
    if (n < 0) return mnd_fail(MND_IO, "%s: cannot read: %s", s->path, strerror(errno));
    if (memcmp(head, "\x89HDF\r\n\x1a\n", 8) == 0)
        s->format = &mnd_source_hdf5;
    else if (memcmp(head, "PK\3\4", 4) == 0)
        s->format = &mnd_source_npz;
    else if (mnd_source_is_csv(s->path))
        s->format = &mnd_source_csv;
    else if (memcmp(head, "\x93NUMPY", 6) == 0)
        return mnd_fail(MND_FORMAT,
                        "%s: is one array; write all into one file with "
                        "numpy.savez('data.npz', x_train=..., y_train=..., x_test=..., y_test=...)",
                        s->path);
    else if (memcmp(head, "\x89PNG", 4) == 0)
        return mnd_fail(MND_FORMAT,
                        "%s: is one picture; give the folder that holds one folder per class",
                        s->path);
    else
        return mnd_fail(MND_IO,
                        "%s: Not a directory, and neither HDF5, npz nor .csv; give the folder that "
                        "holds the four IDX files",
                        s->path);
    return MND_OK;
}

mnd_status mnd_source_find(mnd_source *s) {
    struct stat st;
    if (stat(s->path, &st) != 0)
        return mnd_fail(errno == ENOENT ? MND_NOT_FOUND : MND_IO, "%s: %s%s", s->path,
                        strerror(errno),
                        errno == ENOENT ? "; data/fetch.sh gets MNIST into data/mnist" : "");
    if (S_ISDIR(st.st_mode)) return find_in_folder(s);
    if (!S_ISREG(st.st_mode))
        return mnd_fail(MND_FORMAT, "%s: is neither a file nor a folder", s->path);
    return find_by_content(s);
}
