#include "mnist_dist/idx.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { IN_SIZE = 1 << 16, HEADER_MAX = 4 + 4 * MND_IDX_DIMS };
/* Deflate needs at least 2 bits for 258 bytes: a ratio of 1032:1 at most, as zlib documents. */
enum { DEFLATE_MAX_RATIO = 1032 };

struct mnd_idx {
    char *path;       /* owned */
    int fd;           /* owned, -1 when closed */
    bool packed;      /* gzip */
    bool member_done; /* a gzip member has ended; another may follow */
    z_stream stream;  /* valid when packed */
    mnd_sha256 *hash; /* owned; over the uncompressed bytes */
    char sha256[MND_SHA256_HEX];
    int type, size; /* of the elements; size in bytes */
    int ndim;
    int64_t dim[MND_IDX_DIMS];
    int64_t left; /* bytes not read yet */
    unsigned char in[IN_SIZE];
};

/* Calls read(2) until `size` bytes were read or the file ends. */
static mnd_status read_file(mnd_idx *idx, void *out, size_t size, size_t *got) {
    *got = 0;
    while (*got < size) {
        const ssize_t n = read(idx->fd, (char *)out + *got, size - *got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return mnd_fail(MND_IO, "%s: cannot read: %s", idx->path, strerror(errno));
        if (n == 0) break;
        *got += (size_t)n;
    }
    return MND_OK;
}

static mnd_status refill(mnd_idx *idx) {
    size_t got;
    const mnd_status status = read_file(idx, idx->in, sizeof idx->in, &got);
    idx->stream.next_in = idx->in;
    idx->stream.avail_in = (uInt)got;
    return status;
}

/*
 * After a gzip member: another one may follow, or zero bytes as padding (of tape blocks and some
 * programs), which are skipped; anything else is damage.
 */
static mnd_status next_member(mnd_idx *idx) {
    mnd_status status = MND_OK;
    z_stream *z = &idx->stream;
    while (z->avail_in > 0 && *z->next_in == 0) {
        z->next_in++;
        if (--z->avail_in == 0) MND_TRY(refill(idx));
    }
    if (z->avail_in == 0) goto cleanup;
    if (inflateReset(z) != Z_OK) MND_FAIL(MND_INTERNAL, "%s: zlib failed", idx->path);
    idx->member_done = false;
cleanup:
    return status;
}

/* Up to `size` uncompressed bytes; fewer only at the end of the data. */
static mnd_status inflate_some(mnd_idx *idx, uint8_t *out, size_t size, size_t *got) {
    z_stream *z = &idx->stream;
    mnd_status status = MND_OK;
    *got = 0;
    while (*got < size) {
        if (z->avail_in == 0) MND_TRY(refill(idx));
        if (idx->member_done) MND_TRY(next_member(idx));
        if (idx->member_done) break; /* the end of the file */
        if (z->avail_in == 0)
            MND_FAIL(MND_FORMAT, "%s: the gzip data is truncated; fetch the file again", idx->path);
        const size_t capacity = size - *got;
        z->next_out = out + *got;
        z->avail_out = capacity > UINT_MAX ? UINT_MAX : (uInt)capacity;
        const uInt before = z->avail_out;
        const int code = inflate(z, Z_NO_FLUSH);
        *got += before - z->avail_out;
        if (code == Z_STREAM_END)
            idx->member_done = true;
        else if (code == Z_MEM_ERROR)
            MND_FAIL(MND_NO_MEMORY, "%s: no memory to uncompress", idx->path);
        else if (code != Z_OK && code != Z_BUF_ERROR)
            MND_FAIL(MND_FORMAT, "%s: the gzip data is damaged (%s); fetch the file again",
                     idx->path, z->msg != NULL ? z->msg : "not gzip");
    }
cleanup:
    return status;
}

/* Up to `size` bytes of the IDX data, uncompressed if necessary; also adds them to the hash. */
static mnd_status read_some(mnd_idx *idx, uint8_t *out, size_t size, size_t *got) {
    const mnd_status status =
        idx->packed ? inflate_some(idx, out, size, got) : read_file(idx, out, size, got);
    if (status == MND_OK) mnd_sha256_update(idx->hash, out, *got);
    return status;
}

/* Bytes of an element; 0 for an unknown type. */
static int element_size(int type) {
    static const int size[] = {[0x08] = 1, [0x0b] = 2, [0x0c] = 4, [0x0d] = 4, [0x0e] = 8};
    return type >= 0 && type < (int)(sizeof size / sizeof size[0]) ? size[type] : 0;
}

static int64_t big_endian(const uint8_t *d) {
    return (int64_t)d[0] << 24 | (int64_t)d[1] << 16 | (int64_t)d[2] << 8 | d[3];
}

/* The length of the file if its dimensions were little-endian; -1 if that is impossible. */
static int64_t swapped_length(const mnd_idx *idx, const uint8_t *h) {
    int64_t bytes = idx->size;
    for (int i = 0; i < idx->ndim; i++) {
        const uint8_t *d = h + 4 + 4 * i, reversed[4] = {d[3], d[2], d[1], d[0]};
        if (__builtin_mul_overflow(bytes, big_endian(reversed), &bytes)) return -1;
    }
    return bytes > INT64_MAX - HEADER_MAX ? -1 : bytes + 4 + 4 * idx->ndim;
}

/* Whether a file became `excess` bytes longer because every LF became CR LF. */
static bool text_mode(mnd_idx *idx, int64_t excess) {
    int64_t changed = 0;
    bool after_return = false;
    size_t got = 0;
    if (lseek(idx->fd, 0, SEEK_SET) != 0) return false;
    do {
        if (read_file(idx, idx->in, sizeof idx->in, &got) != MND_OK) return false;
        for (size_t i = 0; i < got; i++) {
            if (idx->in[i] == '\n' && !after_return) return false;
            changed += idx->in[i] == '\n';
            after_return = idx->in[i] == '\r';
        }
    } while (got == sizeof idx->in);
    return changed == excess;
}

static mnd_status check_magic(mnd_idx *idx, const uint8_t *h, size_t got) {
    const char *path = idx->path;
    if (got > 0 && h[0] == '<')
        return mnd_fail(MND_FORMAT,
                        "%s: is a web page, not an IDX file: the download was refused or "
                        "redirected; fetch it again",
                        path);
    if (got < 4)
        return mnd_fail(MND_FORMAT, "%s: %zu bytes are too few for an IDX file; fetch it again",
                        path, got);
    if (h[2] == 0 && h[3] == 0 && h[0] >= 1 && h[0] <= MND_IDX_DIMS && element_size(h[1]) > 0)
        return mnd_fail(MND_FORMAT,
                        "%s: is written in little-endian byte order, IDX is big-endian; in Python "
                        "use struct.pack('>I', ...) or numpy's astype('>u4')",
                        path);
    if (h[0] != 0 || h[1] != 0)
        return mnd_fail(MND_FORMAT, "%s: not an IDX file: byte %d is 0x%02x instead of 0x00", path,
                        h[0] != 0 ? 0 : 1, h[0] != 0 ? h[0] : h[1]);
    if (element_size(h[2]) == 0)
        return mnd_fail(MND_FORMAT,
                        "%s: byte 2, the element type, is 0x%02x; 0x08 (unsigned byte) and 0x0b to "
                        "0x0e can be read",
                        path, h[2]);
    if (h[3] < 1 || h[3] > MND_IDX_DIMS)
        return mnd_fail(MND_FORMAT,
                        "%s: byte 3, the number of dimensions, is %d; 1 to %d can be read", path,
                        h[3], MND_IDX_DIMS);
    idx->type = h[2];
    idx->size = element_size(h[2]);
    idx->ndim = h[3];
    return MND_OK;
}

/* Compares the length that the header promises with that of the file. */
static mnd_status check_length(mnd_idx *idx, const uint8_t *h, int64_t file_size) {
    const char *path = idx->path;
    const int64_t expected = idx->left + 4 + 4 * idx->ndim, swapped = swapped_length(idx, h);
    const bool fits =
        idx->packed ? expected / DEFLATE_MAX_RATIO <= file_size : expected == file_size;
    if (fits) return MND_OK;
    if (swapped > 4 + 4 * idx->ndim &&
        (idx->packed ? swapped / DEFLATE_MAX_RATIO <= file_size : swapped == file_size))
        return mnd_fail(MND_FORMAT,
                        "%s: its dimensions are little-endian, IDX is big-endian; in Python use "
                        "struct.pack('>I', ...) or numpy's astype('>u4')",
                        path);
    if (idx->packed)
        return mnd_fail(
            MND_FORMAT,
            "%s: its header promises %lld bytes, more than %lld bytes of gzip data can hold", path,
            (long long)expected, (long long)file_size);
    if (file_size > expected && text_mode(idx, file_size - expected))
        return mnd_fail(MND_FORMAT,
                        "%s: every LF became CR LF, as in a transfer as text; transfer or write "
                        "it as binary",
                        path);
    return mnd_fail(MND_FORMAT,
                    "%s: is %lld bytes long, but its header promises %lld: %s; fetch it again",
                    path, (long long)file_size, (long long)expected,
                    file_size < expected ? "truncated" : "something was added");
}

static mnd_status parse_header(mnd_idx *idx, int64_t file_size) {
    mnd_status status = MND_OK;
    const char *path = idx->path;
    uint8_t h[HEADER_MAX];
    size_t got;
    MND_TRY(read_some(idx, h, 4, &got));
    MND_TRY(check_magic(idx, h, got));
    const size_t rest = 4 * (size_t)idx->ndim;
    MND_TRY(read_some(idx, h + 4, rest, &got));
    if (got < rest)
        MND_FAIL(MND_FORMAT, "%s: ends inside its header, after %zu bytes; fetch it again", path,
                 got + 4);
    int64_t bytes = idx->size;
    for (int i = 0; i < idx->ndim; i++) {
        idx->dim[i] = big_endian(h + 4 + 4 * i);
        if (idx->dim[i] == 0)
            MND_FAIL(MND_FORMAT, "%s: dimension %d (bytes %d to %d) is zero", path, i, 4 + 4 * i,
                     7 + 4 * i);
        if (bytes < 0 || __builtin_mul_overflow(bytes, idx->dim[i], &bytes) ||
            bytes > INT64_MAX - HEADER_MAX)
            bytes = -1; /* reported below, unless the order of the bytes explains it */
    }
    idx->left = bytes < 0 ? INT64_MAX - HEADER_MAX : bytes;
    status = check_length(idx, h, file_size);
    if (bytes < 0 && (status == MND_OK || strstr(mnd_error(), "little-endian") == NULL))
        MND_FAIL(MND_FORMAT, "%s: the dimensions in bytes 4 to %d overflow: not an IDX file", path,
                 3 + 4 * idx->ndim);
cleanup:
    return status;
}

mnd_status mnd_idx_open(const char *path, mnd_idx **out) {
    mnd_status status = MND_OK;
    *out = NULL;
    mnd_idx *idx = calloc(1, sizeof *idx);
    if (idx == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory", path);
    idx->fd = -1;
    idx->path = strdup(path);
    if (idx->path == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory", path);
    MND_TRY(mnd_sha256_create(&idx->hash));
    /* Non-blocking, because opening a FIFO would wait for a writer. */
    idx->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (idx->fd < 0)
        MND_FAIL(errno == ENOENT ? MND_NOT_FOUND : MND_IO, "%s: cannot open: %s", path,
                 strerror(errno));
    struct stat st;
    if (fstat(idx->fd, &st) != 0) MND_FAIL(MND_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) MND_FAIL(MND_FORMAT, "%s: is not a regular file", path);
    size_t got;
    uint8_t magic[2];
    MND_TRY(read_file(idx, magic, 2, &got));
    if (lseek(idx->fd, 0, SEEK_SET) != 0) MND_FAIL(MND_IO, "%s: %s", path, strerror(errno));
    if (got == 2 && magic[0] == 0x1f && magic[1] == 0x8b) {
        if (inflateInit2(&idx->stream, 15 + 16) != Z_OK) /* 16: gzip format, not zlib format */
            MND_FAIL(MND_NO_MEMORY, "%s: no memory to uncompress", path);
        idx->packed = true;
    }
    MND_TRY(parse_header(idx, (int64_t)st.st_size));
    *out = idx;
    return MND_OK;
cleanup:
    mnd_idx_close(&idx);
    return status;
}

int mnd_idx_type(const mnd_idx *idx) { return idx->type; }

int mnd_idx_element_size(const mnd_idx *idx) { return idx->size; }

int mnd_idx_ndim(const mnd_idx *idx) { return idx->ndim; }

int64_t mnd_idx_dim(const mnd_idx *idx, int axis) {
    return axis >= 0 && axis < idx->ndim ? idx->dim[axis] : 0;
}

mnd_status mnd_idx_read(mnd_idx *idx, uint8_t *out, size_t bytes) {
    if (bytes > (uint64_t)idx->left)
        return mnd_fail(MND_RANGE, "%s: %zu bytes asked for, %lld are left", idx->path, bytes,
                        (long long)idx->left);
    size_t got;
    const mnd_status status = read_some(idx, out, bytes, &got);
    if (status != MND_OK) return status;
    idx->left -= (int64_t)got;
    if (got < bytes)
        return mnd_fail(MND_FORMAT, "%s: ends %lld bytes too early; fetch it again", idx->path,
                        (long long)idx->left);
    return MND_OK;
}

mnd_status mnd_idx_expect_end(mnd_idx *idx) {
    if (idx->left > 0)
        return mnd_fail(MND_RANGE, "%s: %lld bytes have not been read", idx->path,
                        (long long)idx->left);
    uint8_t extra;
    size_t got;
    /* Reading past the last element also makes zlib check the CRC and length of the gzip data. */
    mnd_status status =
        idx->packed ? inflate_some(idx, &extra, 1, &got) : read_file(idx, &extra, 1, &got);
    if (status != MND_OK) return status;
    if (got != 0)
        return mnd_fail(MND_FORMAT, "%s: holds more than its header promises; fetch it again",
                        idx->path);
    if (idx->sha256[0] == '\0') status = mnd_sha256_finish(idx->hash, idx->sha256);
    return status;
}

const char *mnd_idx_sha256(const mnd_idx *idx) { return idx->sha256; }

void mnd_idx_close(mnd_idx **idx) {
    if (*idx == NULL) return;
    if ((*idx)->packed) inflateEnd(&(*idx)->stream);
    if ((*idx)->fd >= 0) close((*idx)->fd);
    mnd_sha256_destroy(&(*idx)->hash);
    free((*idx)->path);
    free(*idx);
    *idx = NULL;
}
