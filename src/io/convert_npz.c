/*
 * convert_npz.c - reads images and labels from npz files (Keras' mnist.npz, numpy.savez): a zip
 * archive of .npy files. Format: numpy.lib.format in NumPy's reference.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "convert_source.h"

enum { MAX_ARRAYS = 256, MAX_HEADER = 1 << 16 };

typedef struct npy_state {
    zip_t *archive; /* borrowed */
    zip_uint64_t index;
    zip_file_t *file; /* owned; NULL before rewind */
    mnd_element type;
    bool big_endian;
    size_t row; /* elements of a row */
} npy_state;

static mnd_status read_exactly(mnd_array *a, void *out, size_t bytes) {
    npy_state *t = a->state;
    for (size_t got = 0; got < bytes;) {
        const zip_int64_t n = zip_fread(t->file, (char *)out + got, bytes - got);
        if (n < 0)
            return mnd_fail(MND_FORMAT, "%s: is damaged (%s); make or fetch it again", a->where,
                            zip_file_strerror(t->file));
        if (n == 0)
            return mnd_fail(MND_FORMAT, "%s: ends too early; make or fetch it again", a->where);
        got += (size_t)n;
    }
    return MND_OK;
}

/* The text after "'key':" in the header, or NULL. */
static const char *value_of(const char *header, const char *key) {
    const char *at = strstr(header, key);
    if (at == NULL || (at = strchr(at, ':')) == NULL) return NULL;
    return at + 1 + strspn(at + 1, " ");
}

/* 'descr': "<f4" and the like. */
static mnd_status parse_type(mnd_array *a, const char *header) {
    npy_state *t = a->state;
    const char *descr = value_of(header, "'descr'");
    if (descr == NULL || descr[0] != '\'' || strlen(descr) < 4)
        return mnd_fail(MND_FORMAT, "%s: holds records, not numbers", a->where);
    static const struct {
        char text[3];
        mnd_element type;
    } table[] = {{"u1", MND_U1}, {"b1", MND_U1}, {"i1", MND_I1}, {"u2", MND_U2},
                 {"i2", MND_I2}, {"u4", MND_U4}, {"i4", MND_I4}, {"u8", MND_U8},
                 {"i8", MND_I8}, {"f4", MND_F4}, {"f8", MND_F8}};
    t->big_endian = descr[1] == '>';
    t->type = 0;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strncmp(descr + 2, table[i].text, 2) == 0 && descr[4] == '\'') t->type = table[i].type;
    if (t->type == 0)
        return mnd_fail(
            MND_FORMAT,
            "%s: holds values of numpy's type %.*s, which cannot be read; store it with "
            "astype('uint8')",
            a->where, (int)strcspn(descr + 1, "'"), descr + 1);
    a->bytes = t->type == MND_U1;
    const char *order = value_of(header, "'fortran_order'");
    if (order == NULL || strncmp(order, "False", 5) != 0)
        return mnd_fail(MND_FORMAT,
                        "%s: is stored in Fortran's order; store numpy.ascontiguousarray(...)",
                        a->where);
    return MND_OK;
}

static mnd_status parse_shape(mnd_array *a, const char *header) {
    npy_state *t = a->state;
    const char *p = value_of(header, "'shape'");
    if (p == NULL || *p++ != '(') return mnd_fail(MND_FORMAT, "%s: has no shape", a->where);
    t->row = 1;
    for (a->ndim = 0; *p != ')'; a->ndim++) {
        char *end;
        const long long size = strtoll(p, &end, 10);
        if (end == p || a->ndim == MND_ARRAY_DIMS || size < 1 || size > INT32_MAX)
            return mnd_fail(MND_FORMAT, "%s: its shape (%.40s cannot be used", a->where,
                            value_of(header, "'shape'") + 1);
        a->dim[a->ndim] = size;
        if (a->ndim > 0 && __builtin_mul_overflow(t->row, (size_t)size, &t->row))
            return mnd_fail(MND_FORMAT, "%s: its shape overflows", a->where);
        p = end + strspn(end, ", ");
    }
    if (a->ndim == 0) return mnd_fail(MND_FORMAT, "%s: is a single number", a->where);
    return MND_OK;
}

static mnd_status npy_rewind(mnd_array *a) {
    mnd_status status = MND_OK;
    npy_state *t = a->state;
    unsigned char head[12] = {0};
    char *header = NULL;
    if (t->file != NULL) (void)zip_fclose(t->file);
    t->file = zip_fopen_index(t->archive, t->index, 0);
    if (t->file == NULL)
        MND_FAIL(MND_FORMAT, "%s: cannot be read (%s)", a->where, zip_strerror(t->archive));
    MND_TRY(read_exactly(a, head, 10));
    if (memcmp(head, "\x93NUMPY", 6) != 0 || head[6] < 1 || head[6] > 3)
        MND_FAIL(MND_FORMAT, "%s: is not an array by numpy", a->where);
    size_t length = head[8] + 256U * head[9];
    if (head[6] > 1) {
        MND_TRY(read_exactly(a, head + 10, 2));
        length += 65536U * head[10] + 16777216U * head[11];
    }
    if (length > MAX_HEADER) MND_FAIL(MND_FORMAT, "%s: is not an array by numpy", a->where);
    header = calloc(1, length + 1);
    if (header == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory to read it", a->where);
    MND_TRY(read_exactly(a, header, length));
    MND_TRY(parse_type(a, header));
    MND_TRY(parse_shape(a, header));
cleanup:
    free(header);
    return status;
}

static mnd_status npy_read(mnd_array *a, int64_t rows, void *out) {
    const npy_state *t = a->state;
    return mnd_array_elements(a, read_exactly, t->type, t->big_endian, (size_t)rows * t->row, out);
}

/* Reading past the end makes libzip compare the checksum. */
static mnd_status npy_end(mnd_array *a, mnd_dataset_writer *writer) {
    char extra;
    (void)writer;
    const zip_int64_t n = zip_fread(((npy_state *)a->state)->file, &extra, 1);
    if (n == 0) return MND_OK;
    return mnd_fail(MND_FORMAT, "%s: is damaged (%s); make or fetch it again", a->where,
                    n > 0 ? "longer than its shape says"
                          : zip_file_strerror(((npy_state *)a->state)->file));
}

static void npy_close(mnd_array *a) {
    npy_state *t = a->state;
    if (t == NULL) return;
    if (t->file != NULL) (void)zip_fclose(t->file);
    free(t);
}

static const mnd_array_ops npy_ops = {npy_rewind, npy_read, npy_end, npy_close};

static mnd_status open_array(mnd_source *s, const char *name, zip_uint64_t index, mnd_array *a) {
    mnd_status status = MND_OK;
    mnd_arrays *arrays = s->state;
    npy_state *t = calloc(1, sizeof *t);
    a->ops = &npy_ops;
    a->state = t;
    a->name = strdup(name);
    if (asprintf(&a->where, "%s: %s", s->path, name) < 0) a->where = NULL;
    if (t == NULL || a->where == NULL || a->name == NULL)
        MND_FAIL(MND_NO_MEMORY, "%s: no memory to convert it", s->path);
    t->archive = arrays->archive;
    t->index = index;
    MND_TRY(npy_rewind(a));
    /* A wrong shape must not make anything as large as it says. */
    zip_stat_t st;
    const uint64_t limit = zip_stat_index(t->archive, index, 0, &st) == 0 ? st.size : 0;
    uint64_t bytes;
    if (__builtin_mul_overflow((uint64_t)a->dim[0], t->row * ((size_t)t->type & 0xff), &bytes) ||
        bytes > limit)
        MND_FAIL(MND_FORMAT, "%s: ends too early; make or fetch it again", a->where);
cleanup:
    return status;
}

static mnd_status npz_open(mnd_source *s) {
    mnd_status status = MND_OK;
    char *name[MAX_ARRAYS];
    zip_uint64_t index[MAX_ARRAYS];
    int n = 0, code = 0, chosen[MND_ARRAYS];
    mnd_arrays *arrays = calloc(1, sizeof *arrays);
    s->state = arrays;
    if (arrays == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory to convert it", s->path);
    zip_t *archive = zip_open(s->path, ZIP_RDONLY, &code);
    arrays->archive = archive;
    if (archive == NULL)
        return mnd_fail(MND_FORMAT, "%s: its zip archive is damaged or truncated; fetch it again",
                        s->path);
    const zip_int64_t entries = zip_get_num_entries(archive, 0);
    for (zip_int64_t i = 0; i < entries && n < MAX_ARRAYS; i++) {
        const char *full = zip_get_name(archive, (zip_uint64_t)i, 0);
        const size_t length = full == NULL ? 0 : strlen(full);
        if (length < 5 || strcmp(full + length - 4, ".npy") != 0) continue;
        name[n] = strndup(full, length - 4);
        if (name[n] == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory for its names", s->path);
        index[n++] = (zip_uint64_t)i;
    }
    if (n == 0)
        MND_FAIL(MND_FORMAT,
                 "%s: holds no arrays by numpy; if it is another archive, unpack it and give the "
                 "folder",
                 s->path);
    MND_TRY(mnd_arrays_choose(s, name, n, chosen));
    for (int i = 0; i < MND_ARRAYS; i++)
        if (chosen[i] >= 0)
            MND_TRY(open_array(s, name[chosen[i]], index[chosen[i]], &arrays->array[i]));
    MND_TRY(mnd_arrays_examine(s));
cleanup:
    for (int i = 0; i < n; i++) free(name[i]);
    return status;
}

static void npz_close(mnd_source *s) {
    mnd_arrays *arrays = s->state;
    zip_t *archive = arrays == NULL ? NULL : arrays->archive;
    mnd_arrays_close(s);
    if (archive != NULL) zip_discard(archive);
}

const mnd_source_format mnd_source_npz = {"npz file",      npz_open,       mnd_arrays_start,
                                          mnd_arrays_next, mnd_arrays_end, npz_close};
