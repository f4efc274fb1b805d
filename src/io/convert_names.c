/* convert_names.c - the names of the classes of a data set that is converted. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "convert_source.h"

/* Class names of data sets that are recognised by the name of their folder. */
static const struct {
    const char *folder;
    const char *name[10];
} known[] = {
    {"fashion",
     {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
      "Ankle boot"}},
    {"kmnist", {"o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"}},
};

static void set_name(mnd_dataset_info *info, int i, const char *text) {
    snprintf(info->class_name[i], sizeof info->class_name[i], "%.*s", MND_CLASS_NAME - 1, text);
}

/* One line of class-names.txt, without the end of the line. An empty one leaves the number. */
static mnd_status take_line(const char *path, char *line, int n, mnd_dataset_info *info) {
    if ((line[0] == '\xff' && line[1] == '\xfe') || (line[0] == '\xfe' && line[1] == '\xff'))
        return mnd_fail(MND_FORMAT, "%s: is encoded as UTF-16; save it as UTF-8", path);
    const size_t mark = n == 0 && strncmp(line, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* of UTF-8 */
    char *text = line + mark;
    size_t length = strcspn(text, "\r\n");
    while (length > 0 && (text[length - 1] == ' ' || text[length - 1] == '\t')) length--;
    text[length] = '\0';
    if (length >= MND_CLASS_NAME)
        return mnd_fail(MND_FORMAT,
                        "%s: line %d is too long; write one name of at most %d bytes per line",
                        path, n + 1, MND_CLASS_NAME - 1);
    if (n >= MND_MAX_CLASSES)
        return length == 0
                   ? MND_OK
                   : mnd_fail(MND_FORMAT, "%s: names more than %d classes", path, MND_MAX_CLASSES);
    if (length > 0) set_name(info, n, text);
    return MND_OK;
}

/* Reads class-names.txt, if the folder has one; *n becomes the number of the last named class + 1.
 */
static mnd_status read_file(const char *folder, mnd_dataset_info *info, int *n) {
    mnd_status status = MND_OK;
    char line[256];
    FILE *f = NULL;
    *n = 0;
    char *path = mnd_source_join(folder, "class-names.txt");
    if (path == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory for file names", folder);
    f = fopen(path, "re");
    if (f == NULL && (errno == ENOENT || errno == ENOTDIR)) goto cleanup;
    if (f == NULL) MND_FAIL(MND_IO, "%s: cannot open: %s", path, strerror(errno));
    for (int row = 0; fgets(line, sizeof line, f) != NULL; row++) {
        MND_TRY(take_line(path, line, row, info));
        if (line[strspn(line, "\xef\xbb\xbf")] != '\0') *n = row + 1;
    }
    if (ferror(f)) MND_FAIL(MND_IO, "%s: cannot read: %s", path, strerror(errno));
    if (*n == 0) MND_FAIL(MND_FORMAT, "%s: is empty; write one name per line", path);
    if (*n < info->classes)
        MND_FAIL(MND_FORMAT, "%s: names %d classes, but the labels go up to %d", path, *n,
                 info->classes - 1);
cleanup:
    if (f != NULL) fclose(f);
    free(path);
    return status;
}

mnd_status mnd_source_class_names(const mnd_source *s, mnd_dataset_info *info) {
    mnd_status status = MND_OK;
    int n = 0;
    char *real = realpath(s->path, NULL);
    if (real == NULL) MND_FAIL(MND_IO, "%s: %s", s->path, strerror(errno));
    /* Only the name of the source: its path must not change the bytes of the target. */
    const char *name = mnd_source_base(real);
    struct stat st;
    const bool folder = stat(real, &st) == 0 && S_ISDIR(st.st_mode);
    snprintf(info->source, sizeof info->source, folder ? "%s of folder %.200s" : "%s %.200s",
             s->format->name, name);
    for (int i = 0; i < MND_MAX_CLASSES; i++)
        snprintf(info->class_name[i], sizeof info->class_name[i], "%d",
                 i + s->options->first_label);
    MND_TRY(read_file(s->path, info, &n));
    if (n > 0) {
        if (s->options->classes == 0) info->classes = n;
        goto cleanup;
    }
    for (size_t k = 0; s->n_name == 0 && k < sizeof known / sizeof known[0]; k++)
        if (info->classes == 10 && strcasestr(name, known[k].folder) != NULL)
            for (int i = 0; i < 10; i++) set_name(info, i, known[k].name[i]);
    /*
     * Names in the source are by label. Those of classes without images count, too, but EMNIST's
     * mapping names classes of other sets.
     */
    const int first = s->options->first_label;
    for (int i = 0; i + first < s->n_name; i++)
        if (s->class_name[i + first][0] != '\0') set_name(info, i, s->class_name[i + first]);
    if (s->format != &mnd_source_idx && s->options->classes == 0 &&
        s->n_name - first > info->classes)
        info->classes = s->n_name - first;
cleanup:
    free(real);
    return status;
}
