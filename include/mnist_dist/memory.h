/* memory.h - aligned buffers. All numeric arrays are allocated here, before the first step. */
#ifndef MNIST_DIST_MEMORY_H
#define MNIST_DIST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "mnist_dist/status.h"

#define MND_ALIGN 64       /* a cache line and an AVX-512 register */
#define MND_LINE_FLOATS 16 /* a cache line */

/* Bytes rounded up to a multiple of MND_ALIGN. */
static inline size_t mnd_align_up(size_t bytes) {
    return (bytes + (MND_ALIGN - 1)) / MND_ALIGN * MND_ALIGN;
}

/* Prefetches all cache lines of a block, so that their latencies overlap. */
static inline void mnd_prefetch(const void *at, size_t bytes) {
    for (size_t i = 0; i < bytes; i += MND_ALIGN) __builtin_prefetch((const char *)at + i);
}

/*
 * Allocates count * size bytes, zeroed, aligned to MND_ALIGN; count * size is checked for overflow.
 * count = 0 gives a valid pointer. The error line of MND_NO_MEMORY names `what`. Free with
 * mnd_free.
 */
MND_CHECKED mnd_status mnd_alloc(void **out, size_t count, size_t size, const char *what);

/* Makes `pointer` an array of `count` elements by mnd_alloc; on failure jumps to cleanup like
 * MND_TRY. */
#define MND_NEW(pointer, count, what)                                                              \
    do {                                                                                           \
        void *mnd_new_;                                                                            \
        status = mnd_alloc(&mnd_new_, (size_t)(count), sizeof *(pointer), (what));                 \
        (pointer) = mnd_new_;                                                                      \
        if (status != MND_OK) goto cleanup;                                                        \
    } while (0)

/* free(); NULL is fine. */
void mnd_free(void *p);

/* A bump allocator: many buffers that are freed together, zeroed and aligned to MND_ALIGN. */
typedef struct mnd_arena {
    unsigned char *base; /* owned */
    size_t size, used;
} mnd_arena;

MND_CHECKED mnd_status mnd_arena_create(mnd_arena *arena, size_t size, const char *what);
/* The next `bytes` bytes, or NULL if the arena is too small. */
void *mnd_arena_take(mnd_arena *arena, size_t bytes);
void mnd_arena_destroy(mnd_arena *arena);

#endif
