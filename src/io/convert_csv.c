/*
 * convert_csv.c - reads CSV files, raw or gzip: one image a line, its label in the first or the
 * last column (Kaggle's digit-recognizer, "MNIST in CSV", OpenML's exports).
 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "convert_source.h"

enum { MAX_LINE = 1 << 26, MAX_FIELD = 64 };

typedef struct table {
    char *path;      /* owned; NULL: no such file */
    char separator;  /* ',', ';' or a tab */
    bool header;     /* the first line holds names */
    int64_t columns; /* of the first line */
    int64_t label;   /* the column of the label; -1: there is none */
} table;

typedef struct csv {
    table file[2]; /* by split */
    gzFile stream; /* owned */
    int64_t line;  /* number of the last line read, from 1 */
    char *text;    /* that line, owned */
    size_t capacity;
} csv;

/* Reads the next line that is not empty, without its end; *end at the end of the file. */
static mnd_status read_line(csv *c, const char *path, bool *end) {
    *end = false;
    do {
        size_t n = 0;
        do {
            if (n + 2 > c->capacity) {
                const size_t more = c->capacity == 0 ? 1 << 14 : 2 * c->capacity;
                char *text = more > MAX_LINE ? NULL : realloc(c->text, more);
                if (text == NULL)
                    return mnd_fail(MND_FORMAT, "%s: line %lld is too long for one image", path,
                                    (long long)c->line + 1);
                c->text = text;
                c->capacity = more;
            }
            c->text[n] = '\0';
            if (gzgets(c->stream, c->text + n, (int)(c->capacity - n)) == NULL) break;
            n += strlen(c->text + n);
        } while (n > 0 && c->text[n - 1] != '\n' && !gzeof(c->stream));
        int code = Z_OK;
        const char *why = gzerror(c->stream, &code);
        if (code != Z_OK && code != Z_STREAM_END)
            return code == Z_ERRNO
                       ? mnd_fail(MND_IO, "%s: cannot read: %s", path, strerror(errno))
                       : mnd_fail(MND_FORMAT, "%s: the gzip data is damaged (%s)", path, why);
        *end = n == 0;
        c->line += n > 0;
        while (n > 0 && isspace((unsigned char)c->text[n - 1])) c->text[--n] = '\0';
    } while (!*end && c->text[0] == '\0');
    return MND_OK;
}

static mnd_status open_stream(csv *c, const char *path) {
    if (c->stream != NULL) gzclose(c->stream);
    c->line = 0;
    errno = 0;
    c->stream = gzopen(path, "rbe");
    if (c->stream == NULL)
        return mnd_fail(errno == ENOENT ? MND_NOT_FOUND : MND_IO, "%s: cannot open: %s", path,
                        errno != 0 ? strerror(errno) : "no memory");
    (void)gzbuffer(c->stream, 1 << 17);
    return MND_OK;
}

/* One field as a number; *p moves to the separator or the end. False if it is no number. */
static bool take_number(const char **p, char separator, float *out) {
    const char *q = *p;
    while (*q == ' ' || *q == '"' || *q == '\'') q++;
    const char *first = q;
    int whole = 0;
    while (isdigit((unsigned char)*q) && q - first < 7) whole = 10 * whole + (*q++ - '0');
    *out = (float)whole;
    if (q == first || *q == '.' || *q == 'e' || *q == 'E' || isdigit((unsigned char)*q)) {
        char *end;
        *out = strtof(first, &end);
        if (end == first) return false;
        q = end;
    }
    while (*q == ' ' || *q == '"' || *q == '\'') q++;
    if (*q != separator && *q != '\0') return false;
    *p = q;
    return true;
}

/* The text of a field of a header in lower case, without quotation marks. */
static void take_word(const char *text, char separator, char word[MAX_FIELD]) {
    size_t n = 0;
    for (; *text != '\0' && *text != separator && n + 1 < MAX_FIELD; text++)
        if (isalnum((unsigned char)*text)) word[n++] = (char)tolower((unsigned char)*text);
    word[n] = '\0';
}

static bool means_label(const char *word) {
    static const char *const name[] = {"label", "labels", "class", "target", "digit", "y"};
    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++)
        if (strcmp(word, name[i]) == 0) return true;
    return false;
}

static int64_t square_root(int64_t n) {
    const int64_t side = (int64_t)(sqrt((double)n) + 0.5);
    return side * side == n ? side : 0;
}

/* Decides from the first line what the columns are. */
static mnd_status examine_line(table *t, const char *text) {
    char first[MAX_FIELD], last[MAX_FIELD];
    int64_t n[3] = {0};
    static const char separators[] = ",;\t";
    if (strncmp(text, "\xef\xbb\xbf", 3) == 0) text += 3;
    if (text[0] == '<')
        return mnd_fail(MND_FORMAT, "%s: is a web page, not a CSV file; fetch it again", t->path);
    for (const char *p = text; *p != '\0'; p++)
        for (int i = 0; i < 3; i++) n[i] += *p == separators[i];
    int best = 0;
    for (int i = 1; i < 3; i++)
        if (n[i] > n[best]) best = i;
    t->separator = separators[best];
    t->columns = n[best] + 1;
    const char *p = text;
    t->header = false;
    for (int64_t i = 0; i < t->columns && !t->header; i++) {
        float value;
        t->header = !take_number(&p, t->separator, &value);
        p += *p != '\0';
    }
    const char *end = strrchr(text, t->separator);
    take_word(text, t->separator, first);
    take_word(end == NULL ? text : end + 1, t->separator, last);
    const bool first_named = t->header && means_label(first);
    t->label = -1;
    if (!first_named && t->header && means_label(last))
        t->label = t->columns - 1;
    else if (first_named || (strcmp(first, "id") != 0 && square_root(t->columns - 1) > 0))
        t->label = 0;
    return MND_OK;
}

/* Reads a table's first line and, if it has labels, counts its images. */
static mnd_status examine_table(mnd_source *s, int split) {
    mnd_status status = MND_OK;
    csv *c = s->state;
    table *t = &c->file[split];
    bool end = false;
    if (t->path == NULL) return MND_OK;
    MND_TRY(open_stream(c, t->path));
    MND_TRY(read_line(c, t->path, &end));
    if (end) MND_FAIL(MND_FORMAT, "%s: is empty", t->path);
    MND_TRY(examine_line(t, c->text));
    if (t->label < 0) {
        if (split == MND_TRAIN)
            MND_FAIL(MND_FORMAT,
                     "%s: %lld columns without one named label; write the label first, then the "
                     "pixels of a square image",
                     t->path, (long long)t->columns);
        mnd_source_note(s, "%s has no labels", mnd_source_base(t->path));
        return MND_OK;
    }
    const int64_t side = square_root(t->columns - 1);
    if (side == 0)
        MND_FAIL(MND_FORMAT, "%s: %lld pixels in a line are no square image", t->path,
                 (long long)t->columns - 1);
    if (s->dim[0] != 0 && s->dim[0] != side)
        MND_FAIL(MND_FORMAT, "%s: training images are %lld x %lld, test images %lld x %lld",
                 s->path, (long long)s->dim[0], (long long)s->dim[0], (long long)side,
                 (long long)side);
    s->dim[0] = s->dim[1] = side;
    s->dim[2] = 1;
    s->count[split] = !t->header;
    for (;; s->count[split]++) {
        MND_TRY(read_line(c, t->path, &end));
        if (end) break;
    }
    if (s->count[split] == 0) MND_FAIL(MND_FORMAT, "%s: holds no images", t->path);
cleanup:
    return status;
}

/* The CSV file of a folder whose name contains `word`; any, if the folder has only one. */
static mnd_status find(mnd_source *s, char **name, int n, const char *word, char **path) {
    const char *found = NULL;
    *path = NULL;
    for (int i = 0; i < n; i++) {
        if (!mnd_source_is_csv(name[i]) || strcasestr(name[i], word) == NULL) continue;
        if (found != NULL)
            return mnd_fail(MND_FORMAT, "%s: both %s and %s fit; give the file to convert", s->path,
                            found, name[i]);
        found = name[i];
    }
    if (found == NULL) return MND_OK;
    *path = mnd_source_join(s->path, found);
    return *path != NULL ? MND_OK
                         : mnd_fail(MND_NO_MEMORY, "%s: no memory for file names", s->path);
}

static mnd_status csv_open(mnd_source *s) {
    mnd_status status = MND_OK;
    char **name = NULL;
    int n = 0;
    csv *c = calloc(1, sizeof *c);
    s->state = c;
    if (c == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory to convert it", s->path);
    if (mnd_source_list(s->path, &name, &n) == MND_OK) {
        MND_TRY(find(s, name, n, "train", &c->file[MND_TRAIN].path));
        MND_TRY(find(s, name, n, "test", &c->file[MND_TEST].path));
        if (c->file[MND_TRAIN].path == NULL && c->file[MND_TEST].path == NULL)
            MND_TRY(find(s, name, n, ".csv", &c->file[MND_TRAIN].path));
    } else {
        c->file[MND_TRAIN].path = strdup(s->path);
        if (c->file[MND_TRAIN].path == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory", s->path);
    }
    for (int split = 0; split < 2; split++) {
        MND_TRY(examine_table(s, split));
        s->label_file[split] = c->file[split].path;
    }
    if (s->count[0] + s->count[1] == 0)
        MND_FAIL(MND_FORMAT, "%s: holds no labelled images", s->path);
    s->floats = true; /* until all lines were read nothing is known of their numbers */
cleanup:
    mnd_source_list_free(&name, n);
    return status;
}

static mnd_status csv_start(mnd_source *s, mnd_split split) {
    mnd_status status = MND_OK;
    csv *c = s->state;
    bool end;
    s->split = split;
    MND_TRY(open_stream(c, c->file[split].path));
    if (c->file[split].header) MND_TRY(read_line(c, c->file[split].path, &end));
cleanup:
    return status;
}

/* One line: its label, and its pixels unless `pixel` is NULL. */
static mnd_status parse_line(const csv *c, const table *t, float *pixel, int64_t *label) {
    const char *p = c->text;
    if (c->line == 1 && strncmp(p, "\xef\xbb\xbf", 3) == 0) p += 3;
    for (int64_t i = 0; i < t->columns; i++) {
        float value;
        const char *field = p;
        if (*p == '\0' || !take_number(&p, t->separator, &value)) {
            const bool missing = *field == '\0';
            return mnd_fail(MND_FORMAT, "%s: line %lld, column %lld %s%.*s", t->path,
                            (long long)c->line, (long long)i + 1,
                            missing ? "is missing" : "is no number: ",
                            missing ? 0 : (int)strcspn(field, ",;\t") % MAX_FIELD, field);
        }
        if (i != t->label && pixel != NULL) *pixel++ = value;
        if (i == t->label) {
            if (!(fabsf(value) < 1e9F) || value != truncf(value))
                return mnd_fail(MND_FORMAT, "%s: line %lld: label %g is not a whole number",
                                t->path, (long long)c->line, (double)value);
            *label = (int64_t)value;
        }
        if (*p != '\0' && i + 1 < t->columns) p++;
    }
    if (*p != '\0')
        return mnd_fail(MND_FORMAT, "%s: line %lld has more than the %lld columns of line 1",
                        t->path, (long long)c->line, (long long)t->columns);
    return MND_OK;
}

static mnd_status csv_next(mnd_source *s, int64_t n, void *images, int64_t *labels) {
    mnd_status status = MND_OK;
    csv *c = s->state;
    const table *t = &c->file[s->split];
    const int64_t size = s->dim[0] * s->dim[1];
    for (int64_t i = 0; i < n; i++) {
        bool end;
        MND_TRY(read_line(c, t->path, &end));
        if (end) MND_FAIL(MND_FORMAT, "%s: became shorter while it was read", t->path);
        MND_TRY(parse_line(c, t, images == NULL ? NULL : (float *)images + i * size, &labels[i]));
    }
cleanup:
    return status;
}

static mnd_status csv_end(mnd_source *s, mnd_dataset_writer *writer) {
    mnd_status status = MND_OK;
    csv *c = s->state;
    const char *path = c->file[s->split].path;
    char hex[MND_SHA256_HEX];
    if (strcmp(path, s->path) == 0) return MND_OK; /* named by mnd_convert */
    MND_TRY(mnd_sha256_file(path, hex));
    MND_TRY(mnd_dataset_writer_source(writer, mnd_source_base(path), hex));
cleanup:
    return status;
}

static void csv_close(mnd_source *s) {
    csv *c = s->state;
    if (c == NULL) return;
    if (c->stream != NULL) gzclose(c->stream);
    free(c->file[0].path);
    free(c->file[1].path);
    free(c->text);
    free(c);
    s->state = NULL;
}

const mnd_source_format mnd_source_csv = {"CSV file", csv_open, csv_start,
                                          csv_next,   csv_end,  csv_close};
