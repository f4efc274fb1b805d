/* kernels.c - picks the table for this CPU. */
#include "kernels.h"

#include <stdlib.h>
#include <string.h>

extern const mnd_kernels mnd_kernels_openblas;
#ifdef MND_X86_KERNELS
extern const mnd_kernels mnd_kernels_avx512, mnd_kernels_avx2;
#endif

const mnd_kernels *mnd_kernels_plain(void) { return &mnd_kernels_openblas; }

const mnd_kernels *mnd_kernels_at(int i) {
    const mnd_kernels *usable[3];
    int n = 0;
#ifdef MND_X86_KERNELS
    __builtin_cpu_init();
    const bool bmi = __builtin_cpu_supports("bmi");
    if (bmi && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        usable[n++] = &mnd_kernels_avx512;
    if (bmi && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        usable[n++] = &mnd_kernels_avx2;
#endif
    usable[n++] = &mnd_kernels_openblas;
    return i >= 0 && i < n ? usable[i] : NULL;
}

static const mnd_kernels *chosen;

const mnd_kernels *mnd_kernels_choose(void) {
    const char *wanted = getenv("MNIST_DIST_KERNELS");
    chosen = mnd_kernels_at(0);
    for (int i = 0; wanted != NULL && mnd_kernels_at(i) != NULL; i++)
        if (strcmp(mnd_kernels_at(i)->name, wanted) == 0) chosen = mnd_kernels_at(i);
    return chosen;
}

const mnd_kernels *mnd_kernels_native(void) {
    return chosen != NULL ? chosen : mnd_kernels_choose();
}
