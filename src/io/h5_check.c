/*
 * h5_check.c - checks the structures that HDF5 1.10 follows without any check of its own.
 *
 * Files in HDF5's first format, which h5py writes by default, list the objects of the root group in
 * a B-tree and a local heap, both without checksums. A few flipped bits can turn them into cycles:
 * a cyclic free list of the heap makes HDF5 1.10 allocate until memory is exhausted, and a tree
 * node that is its own child makes it recurse without end. Therefore both are traversed here first,
 * with a limit on the number of steps. Layout: "HDF5 File Format Specification", sections II.A
 * (superblock), III.A.1 (B-tree), III.B (symbol table node), III.D (local heap), IV.A (object
 * header).
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "h5.h"

enum {
    MAX_MESSAGES = 1 << 16, /* in one object header */
    MAX_FREE = 1 << 16,     /* free blocks in one heap */
    MAX_NODES = 1 << 16,    /* in one tree; each has up to 32 entries */
    MAX_LEVEL = 16,
    MAX_CHUNKS = 256, /* in one object header */
    /* types of header messages */
    CONTINUATION = 0x10,
    SYMBOL_TABLE = 0x11,
};

typedef struct file {
    int fd;
    const char *path;
    uint64_t base; /* position of the superblock; HDF5 addresses are relative to it */
    uint64_t size;
} file;

uint64_t mnd_h5_number(const unsigned char *p, int bytes) {
    uint64_t x = 0;
    for (int i = bytes - 1; i >= 0; i--) x = x << 8 | p[i];
    return x;
}

static mnd_status damaged(const file *f, const char *what) {
    return mnd_fail(MND_FORMAT, "%s: damaged or truncated: %s; make or fetch it again", f->path,
                    what);
}

/* Reads n bytes at an HDF5 address. MND_FORMAT if they are not all inside the file. */
static mnd_status fetch(const file *f, uint64_t address, void *out, size_t n, const char *what) {
    if (address > f->size - f->base || n > f->size - f->base - address) return damaged(f, what);
    for (size_t got = 0; got < n;) {
        const ssize_t now =
            pread(f->fd, (char *)out + got, n - got, (off_t)(f->base + address + got));
        if (now < 0 && errno == EINTR) continue;
        if (now < 0) return mnd_fail(MND_IO, "%s: cannot read: %s", f->path, strerror(errno));
        if (now == 0) return damaged(f, what);
        got += (size_t)now;
    }
    return MND_OK;
}

/* The heap, which holds the names: its free list must end. */
static mnd_status check_heap(const file *f, uint64_t address) {
    static const char what[] = "its table of names";
    mnd_status status = MND_OK;
    unsigned char head[32], block[16];
    MND_TRY(fetch(f, address, head, sizeof head, what));
    if (memcmp(head, "HEAP", 4) != 0) return damaged(f, what);
    const uint64_t length = mnd_h5_number(head + 8, 8), data = mnd_h5_number(head + 24, 8);
    if (length > f->size) return damaged(f, what);
    uint64_t at = mnd_h5_number(head + 16, 8);
    for (int n = 0; at != 1; n++) { /* 1 ends the list */
        if (n == MAX_FREE || length < sizeof block || at > length - sizeof block || data > f->size)
            return damaged(f, what);
        MND_TRY(fetch(f, data + at, block, sizeof block, what));
        at = mnd_h5_number(block, 8);
    }
cleanup:
    return status;
}

/*
 * A node of the tree and all nodes below it. The level must fall by one from parent to child, down
 * to 0; `level` is the expected one, -1 for the root. *nodes counts the nodes visited so far.
 */
static mnd_status check_tree(const file *f, uint64_t address, int level, int *nodes) {
    static const char what[] = "its tree of names";
    mnd_status status = MND_OK;
    unsigned char head[24], child[8];
    MND_TRY(fetch(f, address, head, sizeof head, what));
    if (memcmp(head, "TREE", 4) != 0 || head[4] != 0 || head[5] > MAX_LEVEL ||
        (level >= 0 && head[5] != level) || ++*nodes > MAX_NODES)
        return damaged(f, what);
    const uint64_t used = mnd_h5_number(head + 6, 2);
    for (uint64_t i = 0; head[5] > 0 && i < used; i++) {
        /* After the head, keys and children alternate, 8 bytes each, beginning with a key. */
        MND_TRY(fetch(f, address + 24 + 16 * i + 8, child, sizeof child, what));
        MND_TRY(check_tree(f, mnd_h5_number(child, 8), head[5] - 1, nodes));
    }
cleanup:
    return status;
}

static mnd_status check_group(const file *f, const unsigned char *tree_and_heap) {
    mnd_status status = MND_OK;
    int nodes = 0;
    MND_TRY(check_tree(f, mnd_h5_number(tree_and_heap, 8), -1, &nodes));
    MND_TRY(check_heap(f, mnd_h5_number(tree_and_heap + 8, 8)));
cleanup:
    return status;
}

/*
 * The object header of the root group in version 1. It consists of chunks of messages; a chunk may
 * name further ones. Their number must be limited, and the group's tree and heap must be valid.
 */
static mnd_status check_header(const file *f, uint64_t address) {
    static const char what[] = "the header of its root group";
    mnd_status status = MND_OK;
    unsigned char head[16], message[8 + 16];
    struct {
        uint64_t at, left;
    } chunk[MAX_CHUNKS];
    MND_TRY(fetch(f, address, head, sizeof head, what));
    if (memcmp(head, "OHDR", 4) == 0) return MND_OK; /* version 2: HDF5 verifies its checksums */
    if (head[0] != 1) return damaged(f, what);
    chunk[0].at = address + 16;
    chunk[0].left = mnd_h5_number(head + 8, 4);
    int n_chunk = 1, n_message = 0, n_table = 0;
    for (int c = 0; c < n_chunk; c++)
        while (chunk[c].left >= 8) {
            if (n_message++ == MAX_MESSAGES) return damaged(f, what);
            MND_TRY(fetch(f, chunk[c].at, message, 8, what));
            const uint64_t type = mnd_h5_number(message, 2), size = mnd_h5_number(message + 2, 2);
            if (size > chunk[c].left - 8) return damaged(f, what);
            if (type == CONTINUATION || type == SYMBOL_TABLE) {
                if (size < 16 || n_chunk == MAX_CHUNKS) return damaged(f, what);
                MND_TRY(fetch(f, chunk[c].at + 8, message + 8, 16, what));
            }
            if (type == SYMBOL_TABLE) {
                if (n_table++ > 0) return damaged(f, what);
                MND_TRY(check_group(f, message + 8));
            }
            if (type == CONTINUATION) {
                chunk[n_chunk].at = mnd_h5_number(message + 8, 8);
                chunk[n_chunk++].left = mnd_h5_number(message + 16, 8);
            }
            chunk[c].at += 8 + size;
            chunk[c].left -= 8 + size;
        }
cleanup:
    return status;
}

mnd_status mnd_h5_check(const char *path, int fd, int64_t size) {
    mnd_status status = MND_OK;
    unsigned char block[96];
    file f = {.fd = fd, .path = path, .size = (uint64_t)size};
    /* HDF5 searches for its signature at bytes 0, 512, 1024, 2048 ... */
    for (;; f.base = f.base == 0 ? 512 : 2 * f.base) {
        if (f.base + sizeof block > f.size) return MND_OK; /* not an HDF5 file */
        MND_TRY(fetch(&f, 0, block, sizeof block, "its first block"));
        if (memcmp(block, "\x89HDF\r\n\x1a\n", 8) == 0) break;
    }
    const int version = block[8];
    if (version > 1) {
        if (block[9] != 8)
            MND_FAIL(MND_FORMAT,
                     "%s: HDF5 addresses of %d bytes, only 8 can be read; rewrite it with h5repack",
                     path, block[9]);
        return check_header(&f, mnd_h5_number(block + 36, 8));
    }
    if (block[13] != 8 || block[14] != 8)
        MND_FAIL(
            MND_FORMAT,
            "%s: HDF5 addresses of %d bytes and lengths of %d, only 8 can be read; rewrite it with "
            "h5repack",
            path, block[13], block[14]);
    /* The symbol table entry of the root group; version 1 has four more bytes before it. */
    const size_t entry = version == 1 ? 60 : 56;
    unsigned char root[40];
    MND_TRY(fetch(&f, entry, root, sizeof root, "its first block"));
    MND_TRY(check_header(&f, mnd_h5_number(root + 8, 8)));
    /* The entry may hold a copy of the addresses of tree and heap, which HDF5 may use instead. */
    if (mnd_h5_number(root + 16, 4) == 1) MND_TRY(check_group(&f, root + 24));
cleanup:
    return status;
}
