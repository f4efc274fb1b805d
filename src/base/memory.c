#include "mnist_dist/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* A huge page on x86-64 and usually on AArch64; elsewhere merely an alignment. */
static const size_t huge_page = (size_t)2 << 20;

static size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

mnd_status mnd_alloc(void **out, size_t count, size_t size, const char *what) {
    *out = NULL;
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > PTRDIFF_MAX - huge_page)
        return mnd_fail(MND_NO_MEMORY, "%s: %zu x %zu bytes do not fit in memory", what, count,
                        size);
    bytes = bytes == 0 ? MND_ALIGN : mnd_align_up(bytes);
    const bool huge = bytes >= 2 * huge_page;
    if (huge) bytes = round_up(bytes, huge_page);
    void *p = aligned_alloc(huge ? huge_page : MND_ALIGN, bytes);
    if (p == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory for %zu bytes", what, bytes);
    /* Huge pages save page faults and TLB misses; a kernel without them ignores the call. */
    if (huge) (void)madvise(p, bytes, MADV_HUGEPAGE);
    memset(p, 0, bytes);
    *out = p;
    return MND_OK;
}

void mnd_free(void *p) { free(p); }

mnd_status mnd_arena_create(mnd_arena *arena, size_t size, const char *what) {
    void *base = NULL;
    *arena = (mnd_arena){0};
    mnd_status status = mnd_alloc(&base, size, 1, what);
    if (status == MND_OK) *arena = (mnd_arena){.base = base, .size = mnd_align_up(size)};
    return status;
}

void *mnd_arena_take(mnd_arena *arena, size_t bytes) {
    bytes = mnd_align_up(bytes);
    if (bytes > arena->size - arena->used) return NULL;
    void *p = arena->base + arena->used;
    arena->used += bytes;
    return p;
}

void mnd_arena_destroy(mnd_arena *arena) {
    free(arena->base);
    *arena = (mnd_arena){0};
}
