/* kernels.c - picks the table of kernels for this CPU and completes it. */
#include "mnist_dist/kernels.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tables.h"

#ifdef MND_X86_KERNELS
/* The entries of a fast table, and those of the base table where it has none. */
static mnd_kernels complete(const mnd_kernels *fast) {
    mnd_kernels all = *fast;
#define TAKE(entry)                                                                                \
    if (all.entry == NULL) all.entry = mnd_kernels_blas.entry
    TAKE(forward);
    TAKE(input_grad);
    TAKE(weight_grad);
    TAKE(conv_forward);
    TAKE(conv_input_grad);
    TAKE(conv_weight_grad);
    TAKE(convpool_forward);
    TAKE(convpool_weight_grad);
    TAKE(product_scratch);
    TAKE(conv_scratch);
#undef TAKE
    return all;
}

#endif

enum { MAX_TABLES = 3 };
static mnd_kernels table[MAX_TABLES];
static int n_table;

static void find_tables(void) {
    if (n_table > 0) return;
    int n = 0;
#ifdef MND_X86_KERNELS
    __builtin_cpu_init();
    const bool bmi = __builtin_cpu_supports("bmi");
    if (bmi && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        table[n++] = complete(&mnd_kernels_avx512);
    if (bmi && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        table[n++] = complete(&mnd_kernels_avx2);
#endif
    table[n++] = mnd_kernels_blas;
    n_table = n;
}

const mnd_kernels *mnd_kernels_at(int i) {
    find_tables();
    return i >= 0 && i < n_table ? &table[i] : NULL;
}

const mnd_kernels *mnd_kernels_fast(void) {
    const char *wanted = getenv("MNIST_DIST_KERNELS");
    for (int i = 0; wanted != NULL && mnd_kernels_at(i) != NULL; i++)
        if (strcmp(mnd_kernels_at(i)->name, wanted) == 0) return mnd_kernels_at(i);
    return mnd_kernels_at(0);
}

const mnd_kernels *mnd_kernels_base(void) {
    find_tables();
    return &table[n_table - 1];
}

static bool uses_blas(bool plain) { return plain || mnd_kernels_fast() == mnd_kernels_base(); }

static const char *openblas_name(void) {
    static char name[128];
    char config[64]; /* begins with "OpenBLAS 0.3.21 ..." */
    snprintf(config, sizeof config, "%s", openblas_get_config());
    char *blank = strchr(config, ' ');
    if (blank != NULL) blank = strchr(blank + 1, ' ');
    if (blank != NULL) *blank = '\0';
    snprintf(name, sizeof name, "%s %s", config, openblas_get_corename());
    return name;
}

const char *mnd_products_name(bool plain) {
    static char name[64];
    if (uses_blas(plain)) return openblas_name();
    snprintf(name, sizeof name, "native %s", mnd_kernels_fast()->name);
    return name;
}

const char *mnd_arithmetic(bool plain) {
    return uses_blas(plain) ? openblas_name() : MND_ARITHMETIC;
}

void mnd_blas_set_threads(int threads) { openblas_set_num_threads(threads); }
