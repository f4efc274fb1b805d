/* must.h - the programs of this folder give up at the first thing that fails. */
#ifndef MNIST_DIST_BENCH_MUST_H
#define MNIST_DIST_BENCH_MUST_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mnist_dist/memory.h"
#include "mnist_dist/status.h"

static inline void must(mnd_status status) {
    if (status == MND_OK) return;
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, mnd_error());
    exit(1);
}

static inline void *must_alloc(size_t count, size_t size) {
    void *p = NULL;
    must(mnd_alloc(&p, count, size, "bench"));
    return p;
}

#endif
