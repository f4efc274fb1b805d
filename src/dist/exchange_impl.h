/* exchange_impl.h - what exchange.c and the built-in algorithms share besides exchange_kind.h. */
#ifndef MND_DIST_EXCHANGE_IMPL_H
#define MND_DIST_EXCHANGE_IMPL_H

#include "mnist_dist/exchange_kind.h"
#include "tree_reduce.h"
#include "tree_sum.h"

extern const mnd_exchange_ops mnd_exchange_local, mnd_exchange_mpi, mnd_exchange_tree,
    mnd_exchange_shared, mnd_exchange_hierarchical;

/* What exchange.c and exchange_slices.c keep of an exchange. */
typedef struct mnd_exchange_memory {
    void *private; /* of mnd_exchange_private */
    void *slots;   /* of mnd_exchange_map_slots: a mapping of so many bytes */
    size_t slots_size;
    size_t *count; /* (size) elements of the slice that each process gives; 0 for none */
    bool whole;    /* every process has everything */
    size_t *bytes; /* (size) of a collective call */
    double *mine;  /* (blocks, n_value) measures of this process' blocks */
    double *value; /* (blocks, n_value) those of all blocks */
    float *sum;    /* (count) a summed slice that is to be measured; NULL without measures */
    size_t sample; /* which block the next step times: see mnd_exchange_sum_update */
} mnd_exchange_memory;

/*
 * Whole slots in memory of which only the slice is ever touched: other pages take no memory. Not
 * collective.
 */
MND_CHECKED mnd_status mnd_exchange_map_slots(mnd_exchange *ex);

/* After open: tells all processes the slices, and allocates for measures. Collective. */
MND_CHECKED mnd_status mnd_exchange_share_slices(mnd_exchange *ex);
/* Frees what the functions above and mnd_exchange_private allocated. */
void mnd_exchange_free_memory(mnd_exchange *ex);

/* Sums and updates the slice of this process, in blocks. Collective if measured. */
MND_CHECKED mnd_status mnd_exchange_sum_update(mnd_exchange *ex, const mnd_sum_plan *sum,
                                               const float *const *source,
                                               const mnd_update *update);
/* Updates the slice of this process from the sum of it over `size` processes. */
MND_CHECKED mnd_status mnd_exchange_update_reduced(mnd_exchange *ex, const mnd_tree_reduce *sum,
                                                   int size, const mnd_update *update);

#endif
