/*
 * exchange_kind.h - what an exchange algorithm is. For those who add one (docs/extending.md): it is
 * one file with one mnd_exchange_ops, and one row in the table of exchange.c or one call of
 * mnd_exchange_register. Messages between processes: comm.h.
 */
#ifndef MNIST_DIST_EXCHANGE_KIND_H
#define MNIST_DIST_EXCHANGE_KIND_H

#include "mnist_dist/exchange.h"

/* More than MND_MAX_SLOTS of optimizer.h: one for an average of the parameters. */
enum { MND_EXCHANGE_SLOTS = 4 };

typedef struct mnd_exchange_ops mnd_exchange_ops;

struct mnd_exchange {
    const mnd_exchange_ops *ops;
    mnd_exchange_options options; /* without the pointers */
    mnd_comm *comm;               /* borrowed */
    int rank, size;
    size_t n_param;
    /*
     * The subtrees whose sums the processes have in their gradient buffers: those of process r are
     * [begin[r], begin[r + 1]), and subtree i covers logical ranks [subtree[i], subtree[i + 1]).
     */
    int n_subtree; /* of all processes */
    int *subtree;  /* (n_subtree + 1) */
    int *begin;    /* (size + 1) */
    /* Set by open, for instance by mnd_exchange_private. Default: the value before open. */
    float *param, *grad;
    size_t stride; /* default: n_param rounded up to whole cache lines */
    float *slot[MND_EXCHANGE_SLOTS];
    size_t first, count; /* the slice that this process updates; default: all parameters */
    /* Default: true. False: the measures and slots of this slice are taken from another process,
       which has the same slice. */
    bool gives;
    bool writes_param; /* default: true */
    mnd_exchange_times times;
    char note[256];                     /* see mnd_exchange_note */
    void *self;                         /* of the algorithm */
    struct mnd_exchange_memory *memory; /* of exchange.c and exchange_slices.c */
};

/* All but close are collective and return the same status on every process. */
struct mnd_exchange_ops {
    const char *name;
    bool any_order; /* sums in an order of its own: see mnd_exchange_fixed_order */
    mnd_status (*open)(mnd_exchange *ex);
    /* Frees self. Called whenever self is set, also after an open that failed. */
    void (*close)(mnd_exchange *ex);
    /* NULL: every process has parameters of its own. */
    mnd_status (*publish)(mnd_exchange *ex);
    mnd_status (*step)(mnd_exchange *ex, const mnd_update *update, uint32_t flags,
                       uint32_t *all_flags);
};

/*
 * Adds an algorithm, to be used by name from then on. `ops` is borrowed for the life of the
 * process. MND_USAGE when the name exists or there are too many. Not for several threads at once.
 */
MND_CHECKED mnd_status mnd_exchange_register(const mnd_exchange_ops *ops);

/* Gradient buffers of this process. */
int mnd_exchange_n_grad(const mnd_exchange *ex);
/*
 * Parameters, gradient buffers and whole slots in private memory, zeroed; freed by exchange.c. Not
 * collective.
 */
MND_CHECKED mnd_status mnd_exchange_private(mnd_exchange *ex);
/*
 * Slice q when n parameters are divided into `slices` of about equal size, which begin at multiples
 * of MND_EXCHANGE_BLOCK; it may be empty.
 */
void mnd_exchange_cut(size_t n, int slices, int q, size_t *first, size_t *count);
/*
 * The update of the slice [ex->first, ex->first + ex->count) from its summed gradient grad[0 ..
 * ex->count), measures included. Slices of all processes cover every parameter, in the order of
 * ranks; where each process has everything no message is needed. Collective.
 */
MND_CHECKED mnd_status mnd_exchange_update(mnd_exchange *ex, const mnd_update *update,
                                           const float *grad);

#endif
