/*
 * h5_variable.c - reads strings of variable length from attributes of the root group, as h5py
 * writes them by default, without HDF5: HDF5 1.10 trusts the global heap that holds them, which has
 * no checksum, so that a flipped bit can make it loop for ever or write outside its buffers.
 * Layout: "HDF5 File Format Specification", sections III.E (global heap), IV.A.1 (object headers),
 * IV.A.2.m (attribute message).
 */
#include <string.h>
#include <unistd.h>

#include "h5.h"

enum {
    MAX_BLOCK = 1 << 16, /* bytes of one block of header messages */
    MAX_BLOCKS = 64,
    REFERENCE = 16, /* bytes of a reference to a string: length, address, index */
    /* types of header messages */
    ATTRIBUTE = 0x0c,
    CONTINUATION = 0x10,
    SHARED = 2, /* flag of a message that is stored elsewhere */
    STRING_OF_VARIABLE_LENGTH = 9
};

typedef struct header {
    int fd;
    const char *name; /* of the attribute to find */
    bool v2;          /* version 2 of object headers */
    int order;        /* bytes of creation order in each of its messages */
    int n_block;
    struct {
        uint64_t at, size;
    } block[MAX_BLOCKS];
    unsigned char bytes[MAX_BLOCK];
    unsigned char *reference; /* found: n_reference bytes inside `bytes`; NULL if not */
    size_t n_reference;
} header;

static bool fetch(int fd, uint64_t at, void *out, size_t n) {
    return at <= INT64_MAX - n && pread(fd, out, n, (off_t)at) == (ssize_t)n;
}

static size_t pad(size_t n, int version) { return version == 1 ? (n + 7) / 8 * 8 : n; }

/* Searches for the attribute in one message. */
static void take_attribute(header *h, unsigned char *p, size_t size) {
    if (size < 9 || p[0] < 1 || p[0] > 3) return;
    const int version = p[0];
    const size_t name = mnd_h5_number(p + 2, 2), type = mnd_h5_number(p + 4, 2),
                 space = mnd_h5_number(p + 6, 2);
    const size_t at_name = version == 3 ? 9 : 8, at_type = at_name + pad(name, version);
    const size_t data = at_type + pad(type, version) + pad(space, version);
    if (data > size || type < 8 || name != strlen(h->name) + 1) return;
    if (memcmp(p + at_name, h->name, name) != 0) return;
    if ((p[at_type] & 15) != STRING_OF_VARIABLE_LENGTH || (p[at_type + 1] & 15) != 1) return;
    h->reference = p + data;
    h->n_reference = size - data;
}

/* All messages of a block; continuations are added to the list of blocks. */
static void take_block(header *h, uint64_t at, uint64_t size) {
    const size_t head = h->v2 ? 4 + (size_t)h->order : 8;
    if (size > MAX_BLOCK || !fetch(h->fd, at, h->bytes, (size_t)size)) return;
    for (size_t used = 0; used + head <= size && h->reference == NULL;) {
        unsigned char *p = h->bytes + used;
        const uint64_t type = h->v2 ? p[0] : mnd_h5_number(p, 2);
        const size_t length = mnd_h5_number(p + (h->v2 ? 1 : 2), 2);
        const int flags = h->v2 ? p[3] : p[4];
        if (length > size - used - head) return;
        p += head;
        used += head + length;
        if (type == ATTRIBUTE && (flags & SHARED) == 0) take_attribute(h, p, length);
        if (type != CONTINUATION || length < 16 || h->n_block == MAX_BLOCKS) continue;
        uint64_t next = mnd_h5_number(p, 8), bytes = mnd_h5_number(p + 8, 8);
        if (h->v2 && bytes < 8) continue;
        h->block[h->n_block].at = h->v2 ? next + 4 : next; /* signature and checksum */
        h->block[h->n_block++].size = h->v2 ? bytes - 8 : bytes;
    }
}

/* The first block of messages of the root group. */
static bool find_first(header *h) {
    unsigned char block[96], head[32];
    if (!fetch(h->fd, 0, block, sizeof block) || memcmp(block, "\x89HDF\r\n\x1a\n", 8) != 0)
        return false;
    const uint64_t root = block[8] > 1    ? mnd_h5_number(block + 36, 8)
                          : block[8] == 1 ? mnd_h5_number(block + 68, 8)
                                          : mnd_h5_number(block + 64, 8);
    if (!fetch(h->fd, root, head, sizeof head)) return false;
    h->n_block = 1;
    h->v2 = memcmp(head, "OHDR", 4) == 0;
    if (!h->v2) {
        h->block[0].at = root + 16;
        h->block[0].size = mnd_h5_number(head + 8, 4);
        return head[0] == 1;
    }
    const int flags = head[5], width = 1 << (flags & 3);
    const size_t at = 6 + ((flags & 0x20) != 0 ? 16U : 0U) + ((flags & 0x10) != 0 ? 4U : 0U);
    if (at + 8 > sizeof head) return false;
    h->order = (flags & 4) != 0 ? 2 : 0;
    h->block[0].at = root + at + (unsigned)width;
    h->block[0].size = mnd_h5_number(head + at, width);
    return head[4] == 2;
}

/* Copies object `index` of the heap at `at`; at most size - 1 bytes. False if there is none. */
static bool read_object(int fd, uint64_t at, uint64_t index, uint64_t length, char *out,
                        size_t size) {
    unsigned char head[16];
    if (!fetch(fd, at, head, sizeof head) || memcmp(head, "GCOL", 4) != 0) return false;
    const uint64_t end = mnd_h5_number(head + 8, 8);
    for (uint64_t used = 16; end <= INT32_MAX && used + 16 <= end;) {
        if (!fetch(fd, at + used, head, sizeof head)) return false;
        const uint64_t id = mnd_h5_number(head, 2), bytes = mnd_h5_number(head + 8, 8);
        if (id == 0 || bytes > end - used - 16) return false;
        if (id == index) {
            const size_t n = (size_t)(bytes < length ? bytes : length);
            const size_t taken = n < size - 1 ? n : size - 1;
            memset(out, 0, size);
            return fetch(fd, at + used + 16, out, taken);
        }
        used += 16 + (bytes + 7) / 8 * 8;
    }
    return false;
}

int mnd_h5_read_variable(int fd, const char *name, int count, char *out, size_t size) {
    header h = {.fd = fd, .name = name};
    if (!find_first(&h)) return 0;
    for (int i = 0; i < h.n_block && h.reference == NULL; i++)
        take_block(&h, h.block[i].at, h.block[i].size);
    if (h.reference == NULL) return 0;
    if (h.n_reference / REFERENCE < (size_t)count) return -1;
    for (int i = 0; i < count; i++) {
        const unsigned char *r = h.reference + (size_t)i * REFERENCE;
        const uint64_t length = mnd_h5_number(r, 4), at = mnd_h5_number(r + 4, 8),
                       index = mnd_h5_number(r + 12, 4);
        out[(size_t)i * size] = '\0';
        if (length > 0 && !read_object(fd, at, index, length, out + (size_t)i * size, size))
            return -1;
    }
    return 1;
}
