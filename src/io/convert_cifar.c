/*
 * convert_cifar.c - reads CIFAR-10 and CIFAR-100 in the binary version: records of one label byte
 * (CIFAR-100: two, coarse and fine) and 3072 bytes of pixels, red, green and blue planes of 32
 * x 32.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "convert_source.h"

enum { SIDE = 32, CHANNELS = 3, PIXELS = SIDE * SIDE * CHANNELS, MAX_FILES = 6 };

typedef struct cifar {
    char *path[2][MAX_FILES]; /* by split, owned */
    int n_file[2];
    int label_bytes; /* of a record; the last one is the label */
    int next;        /* the next file of the split to open */
    FILE *file;      /* owned */
} cifar;

/* Adds a file, if the folder has it. */
static mnd_status add(mnd_source *s, int split, const char *name) {
    cifar *c = s->state;
    struct stat st;
    char *path = mnd_source_join(s->path, name);
    if (path == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory for file names", s->path);
    if (stat(path, &st) != 0) {
        free(path);
        return MND_OK;
    }
    c->path[split][c->n_file[split]++] = path;
    const int record = PIXELS + c->label_bytes;
    if (st.st_size == 0 || st.st_size % record != 0)
        return mnd_fail(MND_FORMAT,
                        "%s: %lld bytes are no multiple of the %d of a record: truncated, or not "
                        "the binary version of CIFAR",
                        path, (long long)st.st_size, record);
    s->count[split] += st.st_size / record;
    return MND_OK;
}

static void read_names(mnd_source *s, const char *name) {
    char line[128], *path = mnd_source_join(s->path, name);
    FILE *f = path == NULL ? NULL : fopen(path, "re");
    for (int i = 0; f != NULL && fgets(line, sizeof line, f) != NULL;) {
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] != '\0') mnd_source_name(s, i++, line);
    }
    if (f != NULL) fclose(f);
    free(path);
}

static mnd_status cifar_open(mnd_source *s) {
    mnd_status status = MND_OK;
    cifar *c = calloc(1, sizeof *c);
    s->state = c;
    if (c == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory to convert it", s->path);
    c->label_bytes = 1;
    for (int i = 1; i <= 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "data_batch_%d.bin", i);
        MND_TRY(add(s, MND_TRAIN, name));
    }
    MND_TRY(add(s, MND_TEST, "test_batch.bin"));
    if (c->n_file[0] > 0 && c->n_file[0] < 5)
        mnd_source_note(s, "only %d of the 5 training files of CIFAR-10 are there", c->n_file[0]);
    read_names(s, "batches.meta.txt");
    if (c->n_file[0] + c->n_file[1] == 0) {
        c->label_bytes = 2;
        MND_TRY(add(s, MND_TRAIN, "train.bin"));
        MND_TRY(add(s, MND_TEST, "test.bin"));
        read_names(s, "fine_label_names.txt");
    }
    s->dim[0] = s->dim[1] = SIDE;
    s->dim[2] = CHANNELS;
    s->channels_first = true;
    s->label_file[0] = s->label_file[1] = s->path;
cleanup:
    return status;
}

static mnd_status cifar_start(mnd_source *s, mnd_split split) {
    cifar *c = s->state;
    if (c->file != NULL) fclose(c->file);
    c->file = NULL;
    c->next = 0;
    s->split = split;
    return MND_OK;
}

static mnd_status cifar_next(mnd_source *s, int64_t n, void *images, int64_t *labels) {
    cifar *c = s->state;
    uint8_t record[2 + PIXELS];
    const size_t size = (size_t)(PIXELS + c->label_bytes);
    for (int64_t i = 0; i < n; i++) {
        while (c->file == NULL || fread(record, 1, size, c->file) != size) {
            if (c->file != NULL && ferror(c->file))
                return mnd_fail(MND_IO, "%s: cannot read: %s", c->path[s->split][c->next - 1],
                                strerror(errno));
            if (c->file != NULL) fclose(c->file);
            c->file = NULL;
            if (c->next == c->n_file[s->split])
                return mnd_fail(MND_FORMAT, "%s: became shorter while it was read", s->path);
            c->file = fopen(c->path[s->split][c->next++], "re");
            if (c->file == NULL)
                return mnd_fail(MND_IO, "%s: cannot open: %s", c->path[s->split][c->next - 1],
                                strerror(errno));
        }
        labels[i] = record[c->label_bytes - 1];
        if (images != NULL) memcpy((uint8_t *)images + i * PIXELS, record + c->label_bytes, PIXELS);
    }
    return MND_OK;
}

static mnd_status cifar_end(mnd_source *s, mnd_dataset_writer *writer) {
    mnd_status status = MND_OK;
    cifar *c = s->state;
    char hex[MND_SHA256_HEX];
    for (int i = 0; i < c->n_file[s->split]; i++) {
        const char *path = c->path[s->split][i];
        MND_TRY(mnd_sha256_file(path, hex));
        MND_TRY(mnd_dataset_writer_source(writer, mnd_source_base(path), hex));
    }
cleanup:
    return status;
}

static void cifar_close(mnd_source *s) {
    cifar *c = s->state;
    if (c == NULL) return;
    if (c->file != NULL) fclose(c->file);
    for (int split = 0; split < 2; split++)
        for (int i = 0; i < c->n_file[split]; i++) free(c->path[split][i]);
    free(c);
    s->state = NULL;
}

const mnd_source_format mnd_source_cifar = {"CIFAR files", cifar_open, cifar_start,
                                            cifar_next,    cifar_end,  cifar_close};
