/* exchange_impl.h - what exchange.c and the algorithms share. One file and one row an algorithm. */
#ifndef MND_DIST_EXCHANGE_IMPL_H
#define MND_DIST_EXCHANGE_IMPL_H

#include "mnist_dist/exchange.h"
#include "tree_sum.h"

#define MND_EXCHANGE_SLOTS 4

typedef struct mnd_exchange_ops mnd_exchange_ops;

struct mnd_exchange {
    const mnd_exchange_ops *ops;
    mnd_comm *comm; /* borrowed */
    int rank, size;
    int logical;
    size_t n_param;
    int n_slot;
    /* The parts of all processes: boundaries, and which are whose. Owned by exchange.c. */
    int n_all, n_part; /* parts of all, and of this process */
    int *part;         /* (n_all + 1) first logical rank of each part, and V */
    int *part_begin;   /* (size + 1) index of each process' first part */
    /* Set by open. `stride` is preset to n_param rounded up to whole cache lines. */
    float *param, *grad;
    size_t stride;
    size_t sample; /* which block the next step times; see mnd_exchange_sum_update */
    float *slot[MND_EXCHANGE_SLOTS];
    size_t first, count; /* the slice this process updates */
    int writes_param;
    bool sends;  /* see mnd_exchange_choose_sending */
    size_t lend; /* bytes that owners want; 0 for none */
    int n_range, groups;
    mnd_owned *range; /* (n_range), owned by exchange.c */
    char **lent;      /* (size), or NULL; owned by exchange.c */
    mnd_owner_fn owner;
    void *owner_context;
    mnd_exchange_times times;
    void *slot_memory; /* of mnd_exchange_map_slots; unmapped by exchange.c */
    size_t slot_bytes;
    uint64_t
        *given; /* (size, 2) first and count that each process gives to a gathered slot; owned */
    char note[256]; /* see mnd_exchange_note */
    void *impl;     /* the algorithm's own state */
};

/* What an algorithm does. All but close are collective and return the same on every process. */
struct mnd_exchange_ops {
    const char *name;
    mnd_status (*open)(mnd_exchange *ex);
    void (*close)(mnd_exchange *ex); /* also of what open left half done */
    mnd_status (*publish)(mnd_exchange *ex);
    mnd_status (*step)(mnd_exchange *ex, mnd_update_fn update, void *context, uint32_t flags,
                       uint32_t *all_flags);
    mnd_status (*gather)(mnd_exchange *ex, int s, float *all);
    void (*meet)(mnd_exchange *ex); /* of an algorithm that lends; sets no error */
    /* Sets `sends`, and grad, which may change by it; NULL: it never sends. Cannot fail. */
    void (*choose_sending)(mnd_exchange *ex);
};

#define MND_EXCHANGE_DECLARE(id, name, text) extern const mnd_exchange_ops mnd_exchange_ops_##id;
MND_EXCHANGE_TABLE(MND_EXCHANGE_DECLARE)
#undef MND_EXCHANGE_DECLARE

/*
 * Cuts n parameters into slices that begin on cache lines, or on pages where slices are long:
 * slice q of `slices` is [*first, *first + *count), possibly empty.
 */
void mnd_exchange_cut(size_t n, int slices, int q, size_t *first, size_t *count);
/* The same for this process among all, by the cost of owned ranges, on their units, and in the
   order of the ranks' groups. */
void mnd_exchange_cut_owned(mnd_exchange *ex);

/* One private zeroed buffer for parameters, gradient parts and whole slots; *memory is owned. */
MND_CHECKED mnd_status mnd_exchange_private(mnd_exchange *ex, void **memory);

/*
 * Slots of n_param floats each of which only the slice is ever touched: it begins on a huge page
 * and lies on such pages if it fills half of one, near the process that steps it; other pages take
 * no memory.
 */
MND_CHECKED mnd_status mnd_exchange_map_slots(mnd_exchange *ex);

/* publish of an algorithm whose processes each have their own parameters: nothing to do. */
MND_CHECKED mnd_status mnd_exchange_publish_private(mnd_exchange *ex);
/* gather of an algorithm whose processes each hold whole slots. */
MND_CHECKED mnd_status mnd_exchange_gather_private(mnd_exchange *ex, int s, float *all);

/*
 * For algorithms whose processes hold slices of slots: tells all what this one gives to a gathered
 * slot (all of them together every parameter once), and the gather itself. Collective.
 */
MND_CHECKED mnd_status mnd_exchange_give(mnd_exchange *ex, size_t first, size_t count);
MND_CHECKED mnd_status mnd_exchange_gather_given(mnd_exchange *ex, int s, float *all);

/*
 * Sums and steps parameters [first, first + count), by blocks; source[i] begins with parameter
 * `base` <= first.
 */
void mnd_exchange_sum_update(mnd_exchange *ex, const mnd_sum_plan *sum, const float *const *source,
                             size_t base, size_t first, size_t count, mnd_update_fn update,
                             void *context);

#endif
