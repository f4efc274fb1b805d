/*
 * exchange_tree.c - the fixed tree by messages (tree_reduce.h): every process has the parameters
 * for itself, gets the whole sum, and takes the whole optimizer step.
 */
#include "exchange_impl.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/timer.h"

typedef struct tree {
    mnd_comm *comm; /* a duplicate: its messages mix with no others */
    mnd_tree_reduce *reduce;
} tree;

/* The gradient buffers of this process, and who has the others. */
static mnd_status prepare(mnd_exchange *ex, int **owner, const float ***row) {
    mnd_status status = MND_OK;
    tree *x;
    MND_NEW(x, 1, "exchange");
    ex->self = x;
    MND_TRY(mnd_tree_reduce_fits(ex->n_param, ex->size));
    MND_TRY(mnd_exchange_private(ex));
    MND_NEW(*owner, ex->n_subtree, "exchange");
    MND_NEW(*row, ex->n_subtree, "exchange");
    for (int r = 0; r < ex->size; r++)
        for (int i = ex->begin[r]; i < ex->begin[r + 1]; i++) {
            (*owner)[i] = r;
            if (r == ex->rank) (*row)[i] = ex->grad + (size_t)(i - ex->begin[r]) * ex->stride;
        }
cleanup:
    return mnd_comm_agree(ex->comm, status, NULL);
}

static mnd_status tree_open(mnd_exchange *ex) {
    mnd_status status = MND_OK;
    int *owner = NULL;
    const float **row = NULL;
    MND_TRY(prepare(ex, &owner, &row));
    tree *x = ex->self;
    MND_TRY(mnd_comm_split(ex->comm, 0, &x->comm));
    const mnd_tree_rows rows = {.count = ex->n_param,
                                .n_subtree = ex->n_subtree,
                                .subtree = ex->subtree,
                                .owner = owner,
                                .row = row};
    MND_TRY(mnd_tree_reduce_open(x->comm, &rows, &x->reduce));
cleanup:
    mnd_free(owner);
    mnd_free(row);
    return status;
}

static void tree_close(mnd_exchange *ex) {
    tree *x = ex->self;
    mnd_tree_reduce_close(&x->reduce);
    mnd_comm_finish(&x->comm);
    mnd_free(x);
}

static mnd_status tree_step(mnd_exchange *ex, const mnd_update *update, uint32_t flags,
                            uint32_t *all_flags) {
    mnd_status status = MND_OK;
    tree *x = ex->self;
    const double start = mnd_now();
    MND_TRY(mnd_tree_reduce_run(x->reduce, &flags));
    *all_flags = flags;
    ex->times.exchange += mnd_now() - start;
    MND_TRY(mnd_exchange_update_reduced(ex, x->reduce, ex->size, update));
cleanup:
    return status;
}

const mnd_exchange_ops mnd_exchange_tree = {
    .name = "tree", .open = tree_open, .close = tree_close, .step = tree_step};
