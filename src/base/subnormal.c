#include "mnist_dist/subnormal.h"

#if defined(__SSE__)
#include <xmmintrin.h>

bool mnd_flush_subnormals(void) {
    enum { DAZ = 1 << 6, FTZ = 1 << 15 };
    _mm_setcsr(_mm_getcsr() | DAZ | FTZ);
    return true;
}
#elif defined(__aarch64__)
bool mnd_flush_subnormals(void) {
    const unsigned long long fz = 1ULL << 24;
    unsigned long long mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | fz));
    return true;
}
#else
bool mnd_flush_subnormals(void) { return false; }
#endif
