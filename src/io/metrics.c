#include "mnist_dist/metrics.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "metrics_lock.h"
#include "mnist_dist/folder.h"
#include "mnist_dist/memory.h"
#include "standard_file.h"

struct mnd_metrics {
    char *path; /* owned */
    int fd;
    bool shared; /* fd is standard output's or standard error's, and so is the file */
    int64_t last_epoch;
    cJSON *object; /* the line being built, owned; NULL between lines */
    cJSON *inner; /* the object that gets the next member: `object` or one nested in it; borrowed */
    bool failed;  /* a member of this line could not be added */
};

/* --- lines of an earlier start ---------------------------------------------------------------- */

/*
 * Whether to keep a line. Not kept are lines that are not a JSON object (incomplete after a crash)
 * and those that the resumed run writes again. *last_epoch becomes the largest epoch that is kept.
 */
static bool keep_line(const char *line, size_t length, int64_t resume_epoch, int64_t *last_epoch) {
    const char *end = NULL;
    cJSON *object = cJSON_ParseWithLengthOpts(line, length, &end, false);
    bool keep = cJSON_IsObject(object);
    for (; keep && end < line + length; end++) keep = strchr(" \t\r", *end) != NULL && *end != '\0';
    const cJSON *event = cJSON_GetObjectItemCaseSensitive(object, "event");
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(object, "epoch");
    if (keep && cJSON_IsString(event)) {
        if (strcmp(event->valuestring, "end") == 0) keep = false;
        if (strcmp(event->valuestring, "epoch") == 0 && cJSON_IsNumber(number)) {
            keep = number->valuedouble <= (double)resume_epoch;
            if (keep && number->valuedouble > (double)*last_epoch)
                *last_epoch = (int64_t)number->valuedouble;
        }
    }
    cJSON_Delete(object);
    return keep;
}

/* Reads a regular file into *text, which has space for one byte more. Free with mnd_free. */
static mnd_status read_all(const char *path, int fd, size_t size, char **text, size_t *n_text) {
    mnd_status status = mnd_alloc((void **)text, size + 1, 1, path);
    *n_text = 0;
    while (status == MND_OK && *n_text < size) {
        const ssize_t n = read(fd, *text + *n_text, size - *n_text);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) status = mnd_fail(MND_IO, "%s: cannot read: %s", path, strerror(errno));
        if (n == 0) break;
        if (n > 0) *n_text += (size_t)n;
    }
    return status;
}

/* Rewrites the file with only the lines to keep. MND_OK if there is no such file. */
static mnd_status keep_lines(const char *path, int64_t resume_epoch, int64_t *last_epoch) {
    mnd_status status = MND_OK;
    char *text = NULL, *target = NULL;
    size_t n_text = 0, kept = 0;
    struct stat info;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) return MND_OK;
    if (fd < 0) return mnd_fail(MND_IO, "%s: cannot read: %s", path, strerror(errno));
    if (fstat(fd, &info) != 0) MND_FAIL(MND_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode)) goto cleanup; /* a terminal or pipe has no earlier lines */
    MND_TRY(read_all(path, fd, (size_t)info.st_size, &text, &n_text));
    bool same = true;
    for (size_t at = 0; at < n_text;) {
        const char *line = text + at;
        const char *newline = memchr(line, '\n', n_text - at);
        const size_t length = newline == NULL ? n_text - at : (size_t)(newline - line);
        at += length + (newline != NULL);
        if (!keep_line(line, length, resume_epoch, last_epoch)) {
            same = false;
            continue;
        }
        /* A last line without its newline gets one, in the additional byte of read_all. */
        same = same && newline != NULL;
        memmove(text + kept, line, length);
        kept += length;
        text[kept++] = '\n';
    }
    if (same) goto cleanup;
    target =
        realpath(path, NULL); /* replaces the file that a symbolic link points to, not the link */
    if (target == NULL) MND_FAIL(MND_IO, "%s: %s", path, strerror(errno));
    MND_TRY(mnd_atomic_write(target, text, kept));
cleanup:
    close(fd);
    free(target);
    mnd_free(text);
    return status;
}

/* --- opening and closing ---------------------------------------------------------------------- */

static mnd_status open_file(mnd_metrics *metrics) {
    /* Non-blocking, because opening a FIFO would wait for a reader. */
    metrics->fd = open(metrics->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
    if (metrics->fd < 0 && errno == ENXIO)
        return mnd_fail(MND_IO, "%s: cannot write metrics: no process reads this FIFO",
                        metrics->path);
    if (metrics->fd < 0 || fcntl(metrics->fd, F_SETFL, O_APPEND) != 0)
        return mnd_fail(MND_IO, "%s: cannot write metrics: %s", metrics->path, strerror(errno));
    return MND_OK;
}

/* Locks the file, and empties it for a new run: only then, another run's file keeps its lines. */
static mnd_status take_file(mnd_metrics *metrics, bool is_new) {
    const mnd_status status = mnd_metrics_lock(metrics->path, metrics->fd, 0.0);
    /* What is left of a lost job may still have the lock: mnd_metrics_check_free tells. */
    if (!is_new) return MND_OK;
    /* A pipe or terminal cannot be cut. */
    if (status == MND_OK && ftruncate(metrics->fd, 0) != 0 && errno != EINVAL)
        return mnd_fail(MND_IO, "%s: cannot write metrics: %s", metrics->path, strerror(errno));
    return status;
}

mnd_status mnd_metrics_open(const char *path, int64_t resume_epoch, mnd_metrics **out) {
    mnd_status status = MND_OK;
    *out = NULL;
    mnd_metrics *metrics = calloc(1, sizeof *metrics);
    if (metrics == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory for metrics", path);
    metrics->fd = -1;
    metrics->path = strdup(path);
    if (metrics->path == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory for metrics", path);
    metrics->fd = mnd_standard_file(path);
    metrics->shared = metrics->fd >= 0;
    if (!metrics->shared) {
        MND_TRY(mnd_folder_make_parents(path));
        if (resume_epoch >= 0) MND_TRY(keep_lines(path, resume_epoch, &metrics->last_epoch));
        MND_TRY(open_file(metrics));
        MND_TRY(take_file(metrics, resume_epoch < 0));
    }
    *out = metrics;
    metrics = NULL;
cleanup:
    mnd_metrics_close(&metrics);
    return status;
}

int64_t mnd_metrics_last_epoch(const mnd_metrics *metrics) { return metrics->last_epoch; }

void mnd_metrics_close(mnd_metrics **metrics) {
    if (*metrics == NULL) return;
    cJSON_Delete((*metrics)->object);
    if ((*metrics)->fd >= 0) close((*metrics)->fd);
    free((*metrics)->path);
    free(*metrics);
    *metrics = NULL;
}

/* --- building a line -------------------------------------------------------------------------- */

/* Adds `item` to the open object, which then owns it. NULL: there was no memory for the item. */
static void add(mnd_metrics *metrics, const char *key, cJSON *item) {
    if (item == NULL || !cJSON_AddItemToObject(metrics->inner, key, item)) {
        cJSON_Delete(item);
        metrics->failed = true;
    }
}

void mnd_metrics_begin(mnd_metrics *metrics, const char *event) {
    cJSON_Delete(metrics->object);
    metrics->object = metrics->inner = cJSON_CreateObject();
    metrics->failed = metrics->object == NULL;
    mnd_metrics_text(metrics, "event", event);
}

void mnd_metrics_int(mnd_metrics *metrics, const char *key, int64_t value) {
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, value);
    add(metrics, key, cJSON_CreateRaw(text)); /* cJSON's own numbers are doubles */
}

void mnd_metrics_number(double value, char text[MND_METRICS_NUMBER]) {
    snprintf(text, MND_METRICS_NUMBER, "null");
    if (!isfinite(value)) return;
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, MND_METRICS_NUMBER, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
}

void mnd_metrics_real(mnd_metrics *metrics, const char *key, double value) {
    char text[MND_METRICS_NUMBER];
    mnd_metrics_number(value, text); /* cJSON's own form may be one ulp off */
    add(metrics, key, cJSON_CreateRaw(text));
}

/* Length of the UTF-8 sequence at s (zero-terminated), or 0 if it is not valid. */
static size_t utf8_length(const unsigned char *s) {
    if (s[0] < 0x80) return 1;
    const size_t n = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
                     : s[0] >= 0xe0 && s[0] <= 0xef ? 3
                     : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                    : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    /* Overlong forms, surrogates, beyond U+10FFFF. */
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

void mnd_metrics_text(mnd_metrics *metrics, const char *key, const char *value) {
    cJSON *item = cJSON_CreateString(value);
    /* JSON must be UTF-8, but file names may be any bytes. */
    if (item != NULL)
        for (unsigned char *s = (unsigned char *)item->valuestring; *s != '\0';) {
            const size_t n = utf8_length(s);
            if (n == 0) *s = '?';
            s += n > 0 ? n : 1;
        }
    add(metrics, key, item);
}

void mnd_metrics_enter(mnd_metrics *metrics, const char *key) {
    cJSON *object = cJSON_CreateObject();
    metrics->inner = metrics->object;
    add(metrics, key, object);
    if (!metrics->failed) metrics->inner = object;
}

void mnd_metrics_leave(mnd_metrics *metrics) { metrics->inner = metrics->object; }

/* Appends the line. If the disk is full, truncates the file to its earlier length. */
static mnd_status append(mnd_metrics *metrics, const char *line, size_t length) {
    struct stat info;
    if (fstat(metrics->fd, &info) != 0)
        return mnd_fail(MND_IO, "%s: %s", metrics->path, strerror(errno));
    if (S_ISREG(info.st_mode) && info.st_nlink == 0 && !metrics->shared) {
        /* The file was removed. Creates it again, since no process could read the removed one. */
        close(metrics->fd);
        mnd_status status = open_file(metrics);
        if (status == MND_OK) status = take_file(metrics, false);
        if (status != MND_OK) return status;
        info.st_size = 0;
    }
    for (size_t done = 0; done < length;) {
        const ssize_t n = write(metrics->fd, line + done, length - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            const int bad = errno;
            const bool incomplete = done > 0 && (metrics->shared || !S_ISREG(info.st_mode) ||
                                                 ftruncate(metrics->fd, info.st_size) != 0);
            return mnd_fail(MND_IO, "%s: cannot write metrics: %s%s", metrics->path, strerror(bad),
                            incomplete ? "; its last line is incomplete" : "");
        }
        done += (size_t)n;
    }
    return MND_OK;
}

mnd_status mnd_metrics_end(mnd_metrics *metrics) {
    mnd_status status = MND_OK;
    char *text = metrics->failed ? NULL : cJSON_PrintUnformatted(metrics->object);
    if (text == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory for metrics", metrics->path);
    /* The newline replaces the terminating zero, so that one write(2) writes the whole line. */
    const size_t length = strlen(text);
    text[length] = '\n';
    MND_TRY(append(metrics, text, length + 1));
cleanup:
    cJSON_free(text);
    cJSON_Delete(metrics->object);
    metrics->object = metrics->inner = NULL;
    return status;
}
