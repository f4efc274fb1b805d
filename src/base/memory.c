#include "mnist_dist/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

mnd_status mnd_alloc(void **out, size_t count, size_t size, const char *what) {
    *out = NULL;
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > PTRDIFF_MAX - MND_HUGE_PAGE)
        return mnd_fail(MND_NO_MEMORY, "%s: %zu x %zu bytes do not fit in memory", what, count,
                        size);
    bytes = bytes == 0 ? MND_ALIGN : mnd_align_up(bytes);
    const bool huge = bytes >= 2 * MND_HUGE_PAGE;
    if (huge) bytes = mnd_huge_up(bytes);
    void *p = aligned_alloc(huge ? MND_HUGE_PAGE : MND_ALIGN, bytes);
    if (p == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory for %zu bytes", what, bytes);
    /* Fewer pages to fault in and to look up; where there are none, nothing is lost. */
    if (huge) (void)madvise(p, bytes, MADV_HUGEPAGE);
    memset(p, 0, bytes);
    *out = p;
    return MND_OK;
}

void mnd_free(void *p) { free(p); }

#ifdef __SSE2__
void mnd_send(void *to, const void *from, size_t bytes) {
    char *t = to;
    const char *f = from;
    const size_t vector = sizeof(__m128i);
    /* Such stores begin where vectors do. */
    size_t head = (vector - (uintptr_t)t % vector) % vector;
    if (head > bytes) head = bytes;
    memcpy(t, f, head);
    size_t i = head;
    for (; i + vector <= bytes; i += vector)
        _mm_stream_si128((__m128i *)(void *)(t + i),
                         _mm_loadu_si128((const __m128i *)(const void *)(f + i)));
    memcpy(t + i, f + i, bytes - i);
}

/* A release store does not wait for non-temporal ones. */
void mnd_sent(void) { _mm_sfence(); }

mnd_sending mnd_send_wanted(void) {
    const char *wanted = getenv("MNIST_DIST_SEND");
    if (wanted != NULL && strcmp(wanted, "always") == 0) return MND_SEND_ALWAYS;
    if (wanted != NULL && strcmp(wanted, "never") == 0) return MND_SEND_NEVER;
    return MND_SEND_IF_FASTER;
}
#else
void mnd_send(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }
void mnd_sent(void) {}
mnd_sending mnd_send_wanted(void) { return MND_SEND_NEVER; }
#endif

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
