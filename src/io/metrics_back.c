/* metrics_back.c - takes a metrics file back to an earlier point of its run. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "mnist_dist/metrics.h"
#include "standard_file.h"

typedef enum place {
    NOWHERE, /* says nothing of the place in the run */
    START,
    UP_TO, /* not after the point */
    EPOCH_AFTER,
    STEP_AFTER, /* a later checkpoint or start */
    ELSEWHERE   /* an epoch with other results: the file is not of this run */
} place;

static bool number(const cJSON *object, const char *name, double *value) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (cJSON_IsNumber(item)) *value = item->valuedouble;
    return cJSON_IsNumber(item);
}

static place epoch_place(const cJSON *object, const mnd_metrics_point *point) {
    double epoch = 0.0, loss = 0.0, val_loss = 0.0;
    if (!number(object, "epoch", &epoch)) return NOWHERE;
    if (epoch > (double)point->epoch) return EPOCH_AFTER;
    for (int64_t i = 0; i < point->n_history; i++) {
        const mnd_epoch_record *known = &point->history[i];
        if (known->epoch == epoch && number(object, "loss", &loss) &&
            number(object, "val_loss", &val_loss) &&
            (loss != known->loss || val_loss != known->val_loss))
            return ELSEWHERE;
    }
    return UP_TO;
}

static place place_of(const char *line, const mnd_metrics_point *point) {
    place result = NOWHERE;
    double step = 0.0;
    cJSON *object = cJSON_Parse(line);
    const cJSON *event = cJSON_GetObjectItemCaseSensitive(object, "event");
    if (!cJSON_IsString(event))
        result = NOWHERE;
    else if (strcmp(event->valuestring, "start") == 0)
        result = START;
    else if (strcmp(event->valuestring, "epoch") == 0)
        result = epoch_place(object, point);
    else if (strcmp(event->valuestring, "end") != 0 && number(object, "step", &step))
        result = step > (double)point->step ? STEP_AFTER : UP_TO;
    cJSON_Delete(object);
    return result;
}

/* "FILE.earlier-1", "FILE.earlier-2", ...: the first that does not exist. */
static mnd_status free_name(const char *path, char *name, size_t size) {
    struct stat info;
    for (int k = 1;; k++) {
        const int n = snprintf(name, size, "%s.earlier-%d", path, k);
        if (n < 0 || (size_t)n >= size)
            return mnd_fail(MND_RANGE, "%s: the path is too long", path);
        if (lstat(name, &info) != 0) return MND_OK;
    }
}

/* What of the file is kept, and whether anything is to be set aside. */
typedef struct kept {
    char *all, *text; /* owned */
    size_t n_all, n_text;
    bool aside;
} kept;

static mnd_status sort_lines(const char *path, FILE *file, const mnd_metrics_point *point,
                             kept *out) {
    mnd_status status = MND_OK;
    char *line = NULL;
    size_t capacity = 0, start = SIZE_MAX; /* where a start line is the last one of the text */
    bool elsewhere = false;
    FILE *all = open_memstream(&out->all, &out->n_all);
    struct stat info;
    if (all == NULL || fstat(fileno(file), &info) != 0)
        MND_FAIL(MND_NO_MEMORY, "%s: no memory to read it", path);
    out->text = malloc((size_t)info.st_size + 1);
    if (out->text == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory to read it", path);
    for (ssize_t n; (n = getline(&line, &capacity, file)) > 0;) {
        const place where = place_of(line, point);
        elsewhere = elsewhere || where == ELSEWHERE;
        if (fwrite(line, 1, (size_t)n, all) != (size_t)n)
            MND_FAIL(MND_NO_MEMORY, "%s: no memory to read it", path);
        if (where == STEP_AFTER || where == EPOCH_AFTER) {
            if (where == STEP_AFTER || point->branch) out->aside = true;
            /* The start that these lines belong to. */
            if (start != SIZE_MAX) out->n_text = start;
            start = SIZE_MAX;
        } else if (out->n_text + (size_t)n <= (size_t)info.st_size) {
            start = where == START ? out->n_text : SIZE_MAX;
            memcpy(out->text + out->n_text, line, (size_t)n);
            out->n_text += (size_t)n;
        }
    }
    if (ferror(file) != 0) MND_FAIL(MND_IO, "%s: cannot read: %s", path, strerror(errno));
    if (elsewhere) {
        out->aside = true;
        out->n_text = 0;
    }
cleanup:
    if (all != NULL && fclose(all) != 0 && status == MND_OK)
        status = mnd_fail(MND_NO_MEMORY, "%s: no memory to read it", path);
    free(line);
    return status;
}

mnd_status mnd_metrics_go_back(const char *path, const mnd_metrics_point *point, char *copy,
                               size_t size) {
    mnd_status status = MND_OK;
    kept lines = {0};
    char *target = NULL;
    struct stat info;
    copy[0] = '\0';
    /* A terminal or pipe has no earlier lines; what is printed stays. */
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode) || mnd_is_standard_file(&info))
        return MND_OK;
    FILE *file = fopen(path, "re");
    if (file == NULL) return mnd_fail(MND_IO, "%s: cannot read: %s", path, strerror(errno));
    MND_TRY(sort_lines(path, file, point, &lines));
    if (!lines.aside) goto cleanup;
    target = realpath(path, NULL); /* replaces the file that a link points to, not the link */
    if (target == NULL) MND_FAIL(MND_IO, "%s: %s", path, strerror(errno));
    MND_TRY(free_name(path, copy, size));
    MND_TRY(mnd_atomic_write(copy, lines.all, lines.n_all));
    MND_TRY(mnd_atomic_write(target, lines.text, lines.n_text));
cleanup:
    if (status != MND_OK) copy[0] = '\0';
    (void)fclose(file);
    free(lines.all);
    free(lines.text);
    free(target);
    return status;
}
