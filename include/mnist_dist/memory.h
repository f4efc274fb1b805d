/* memory.h - aligned buffers. Everything numeric is allocated here, once, before the first step. */
#ifndef MNIST_DIST_MEMORY_H
#define MNIST_DIST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "mnist_dist/status.h"

#define MND_ALIGN 64       /* a cache line and an AVX-512 register */
#define MND_LINE_FLOATS 16 /* a cache line */
/* Of what is huge on x86-64, and mostly on AArch64; elsewhere merely an alignment. */
#define MND_HUGE_PAGE ((size_t)2 << 20)

/* Bytes rounded up to a multiple of MND_ALIGN. */
static inline size_t mnd_align_up(size_t bytes) {
    return (bytes + (MND_ALIGN - 1)) / MND_ALIGN * MND_ALIGN;
}

/* And to one of MND_HUGE_PAGE. */
static inline size_t mnd_huge_up(size_t bytes) {
    return (bytes + (MND_HUGE_PAGE - 1)) / MND_HUGE_PAGE * MND_HUGE_PAGE;
}

/* Asks for all lines of something far away at once, so that none of them is waited for alone. */
static inline void mnd_prefetch(const void *at, size_t bytes) {
    for (size_t i = 0; i < bytes; i += MND_ALIGN) __builtin_prefetch((const char *)at + i);
}

/*
 * Copies what another core reads next past the caches (non-temporal stores, Intel 64 and IA-32
 * Architectures Software Developer's Manual, volume 1, 10.4.6.2): it is in none of them afterwards.
 * To store in the usual way where the reader still has the lines of the time before takes a way to
 * his cache and back for each. `to` and `from` do not overlap. After the last one, on the same
 * thread, and before anybody is told that it is there: mnd_sent. Where there are no such stores,
 * memcpy.
 */
void mnd_send(void *to, const void *from, size_t bytes);
void mnd_sent(void);
/*
 * When that is to be done: where it is faster than to write it there in the first place, for who
 * writes and who reads together, or as MNIST_DIST_SEND=always or =never in the environment says;
 * and never where there are no such stores. Bits do not hang on it, and processes may disagree.
 */
typedef enum mnd_sending { MND_SEND_NEVER, MND_SEND_IF_FASTER, MND_SEND_ALWAYS } mnd_sending;
mnd_sending mnd_send_wanted(void);

/*
 * Allocates count * size bytes, zeroed, aligned to MND_ALIGN; count * size is checked for overflow.
 * count = 0 gives a valid pointer. MND_NO_MEMORY names `what`. Free with mnd_free.
 */
MND_CHECKED mnd_status mnd_alloc(void **out, size_t count, size_t size, const char *what);

/* free(); NULL is fine. */
void mnd_free(void *p);

/* A bump allocator: many buffers, one free. Buffers are zeroed and aligned to MND_ALIGN. */
typedef struct mnd_arena {
    unsigned char *base; /* owned */
    size_t size, used;
} mnd_arena;

MND_CHECKED mnd_status mnd_arena_create(mnd_arena *arena, size_t size, const char *what);
/* The next `bytes` bytes, or NULL when the arena was planned too small. */
void *mnd_arena_take(mnd_arena *arena, size_t bytes);
void mnd_arena_destroy(mnd_arena *arena);

#endif
