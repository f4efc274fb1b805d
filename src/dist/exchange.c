/* exchange.c - the table of exchange algorithms, and what they have in common. */
#include "mnist_dist/exchange.h"

#include <stdio.h>
#include <string.h>

#include "exchange_impl.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/registry.h"
#include "mnist_dist/timer.h"

/* Stands for one of the others: see choose. */
static const mnd_exchange_ops automatic = {.name = "auto"};

/* A new algorithm is one new file and one row here. */
static const void *const algorithms[] = {&automatic,           &mnd_exchange_local,
                                         &mnd_exchange_mpi,    &mnd_exchange_tree,
                                         &mnd_exchange_shared, &mnd_exchange_hierarchical};
static mnd_registry registry = {.what = "exchange",
                                .n_built_in = sizeof algorithms / sizeof algorithms[0],
                                .built_in = algorithms};

mnd_status mnd_exchange_register(const mnd_exchange_ops *ops) {
    return mnd_registry_add(&registry, ops);
}

void mnd_exchange_names(const char *between, char *out, size_t size) {
    mnd_registry_names(&registry, between, out, size);
}

bool mnd_exchange_fixed_order(const char *name) {
    const mnd_exchange_ops *ops = mnd_registry_find(&registry, name);
    return ops == NULL || !ops->any_order;
}

/* Which algorithm a name stands for on these processes; NULL with an explanation. */
static const mnd_exchange_ops *choose(const mnd_comm *comm, const char *name) {
    const int nodes = mnd_comm_nodes(comm);
    if (strcmp(name, "allreduce") == 0) {
        (void)mnd_fail(MND_USAGE,
                       "exchange 'allreduce' is now called 'tree'; 'mpi' is the one that calls "
                       "MPI_Allreduce");
        return NULL;
    }
    if (strcmp(name, "auto") == 0) name = nodes == 1 ? "shared" : "hierarchical";
    const mnd_exchange_ops *ops = mnd_registry_find(&registry, name);
    if (ops == NULL) {
        char names[256];
        mnd_exchange_names(", ", names, sizeof names);
        (void)mnd_fail(MND_USAGE, "'%s' is not an exchange; known: %s", name, names);
        return NULL;
    }
    /* A hierarchy of one node is shared memory, and one process has nothing to exchange. */
    if (ops == &mnd_exchange_hierarchical && nodes == 1) ops = &mnd_exchange_shared;
    if (mnd_comm_size(comm) == 1 && !ops->any_order) ops = &mnd_exchange_local;
    return ops;
}

void mnd_exchange_destroy(mnd_exchange **ex) {
    if (*ex == NULL) return;
    if ((*ex)->self != NULL) (*ex)->ops->close(*ex);
    mnd_exchange_free_memory(*ex);
    mnd_free((*ex)->subtree);
    mnd_free((*ex)->begin);
    mnd_free((*ex)->memory);
    mnd_free(*ex);
    *ex = NULL;
}

static mnd_status check_options(const mnd_comm *comm, const mnd_exchange_options *o) {
    const int size = mnd_comm_size(comm);
    if (o->logical < 1 || o->logical > MND_MAX_LOGICAL)
        return mnd_fail(MND_USAGE, "%d logical ranks: must be 1 to %d", o->logical,
                        MND_MAX_LOGICAL);
    if (o->logical < size)
        return mnd_fail(MND_USAGE, "%d processes cannot share %d logical ranks: start at most %d",
                        size, o->logical, o->logical);
    if (o->n_param < 1) return mnd_fail(MND_RANGE, "exchange: the model has no parameters");
    if (o->n_param > SIZE_MAX / 64 || o->n_slot < 0 || o->n_slot > MND_EXCHANGE_SLOTS)
        return mnd_fail(MND_RANGE, "exchange: %zu parameters with %d slots are too many",
                        o->n_param, o->n_slot);
    return MND_OK;
}

/* Which subtrees each process sums into its gradient buffers. */
static mnd_status find_subtrees(mnd_exchange *ex) {
    mnd_status status = MND_OK;
    const int v = ex->options.logical, size = ex->size;
    int most = 0;
    for (int p = 0; p < size; p++)
        most +=
            mnd_subtrees(v, mnd_logical_first(v, size, p), mnd_logical_first(v, size, p + 1), NULL);
    MND_NEW(ex->subtree, most + 1, "exchange");
    MND_NEW(ex->begin, size + 1, "exchange");
    for (int p = 0; p < size; p++) {
        const int first = mnd_logical_first(v, size, p), end = mnd_logical_first(v, size, p + 1);
        ex->begin[p] = ex->n_subtree;
        if (ex->ops->any_order) {
            ex->subtree[ex->n_subtree++] = first;
            ex->subtree[ex->n_subtree] = end;
        } else {
            ex->n_subtree += mnd_subtrees(v, first, end, ex->subtree + ex->n_subtree);
        }
    }
    ex->begin[size] = ex->n_subtree;
cleanup:
    return status;
}

/* Everything that needs no other process. */
static mnd_status plan(mnd_comm *comm, const mnd_exchange_options *options, mnd_exchange **out) {
    mnd_status status = MND_OK;
    mnd_exchange *ex = NULL;
    const mnd_exchange_ops *ops = choose(comm, options->name);
    if (ops == NULL) MND_TRY(MND_USAGE); /* choose has explained it */
    MND_TRY(check_options(comm, options));
    MND_NEW(ex, 1, "exchange");
    *ex = (mnd_exchange){.ops = ops,
                         .options = *options,
                         .comm = comm,
                         .rank = mnd_comm_rank(comm),
                         .size = mnd_comm_size(comm),
                         .n_param = options->n_param,
                         .stride = mnd_align_up(options->n_param * sizeof(float)) / sizeof(float),
                         .count = options->n_param,
                         .gives = true,
                         .writes_param = true};
    MND_NEW(ex->memory, 1, "exchange");
    MND_TRY(find_subtrees(ex));
cleanup:
    if (status != MND_OK) mnd_exchange_destroy(&ex);
    *out = ex;
    return status;
}

/* Processes that ask for different things would wait for each other forever. Collective. */
static mnd_status check_same(const mnd_exchange *ex) {
    mnd_status status = MND_OK;
    const mnd_exchange_options *o = &ex->options;
    char first[128], mine[sizeof first];
    snprintf(mine, sizeof mine,
             "'%.40s', %d logical ranks, %zu parameters, %d slots, %d numbers a block",
             ex->ops->name, o->logical, o->n_param, o->n_slot, o->n_value);
    memcpy(first, mine, sizeof first);
    MND_TRY(mnd_comm_bcast(ex->comm, first, sizeof first, 0));
    if (strcmp(first, mine) != 0)
        status = mnd_fail(MND_MISMATCH,
                          "the ranks want different exchanges (%s; rank 0: %s): give all the same "
                          "options and program",
                          mine, first);
cleanup:
    return mnd_comm_agree(ex->comm, status, NULL);
}

/* One algorithm, without falling back on another. Collective. */
static mnd_status create(mnd_comm *comm, const mnd_exchange_options *options, mnd_exchange **out) {
    mnd_exchange *ex = NULL;
    mnd_status status = mnd_comm_agree(comm, plan(comm, options, &ex), NULL);
    if (status == MND_OK && ex != NULL) status = check_same(ex);
    if (status == MND_OK && ex != NULL) {
        status = ex->ops->open(ex);
        if (status == MND_OK) status = mnd_exchange_share_slices(ex);
    }
    if (status != MND_OK) mnd_exchange_destroy(&ex);
    if (ex != NULL) ex->options.name = NULL;
    *out = ex;
    return status;
}

mnd_status mnd_exchange_create(mnd_comm *comm, const mnd_exchange_options *options,
                               mnd_exchange **out) {
    mnd_status status = create(comm, options, out);
    /* /dev/shm is too small, or the MPI library cannot share memory here. */
    const bool elsewhere =
        status == MND_NO_MEMORY || status == MND_UNSUPPORTED || status == MND_COMM;
    if (elsewhere && strcmp(options->name, "auto") == 0 && mnd_comm_size(comm) > 1) {
        mnd_exchange_options other = *options;
        char note[sizeof(*out)->note];
        snprintf(note, sizeof note, "%.*s", (int)sizeof note - 1, mnd_error());
        other.name = "tree";
        status = create(comm, &other, out);
        if (*out != NULL) memcpy((*out)->note, note, sizeof note);
    }
    return status;
}

const char *mnd_exchange_name(const mnd_exchange *ex) { return ex->ops->name; }
const char *mnd_exchange_note(const mnd_exchange *ex) { return ex->note; }
float *mnd_exchange_param(mnd_exchange *ex) { return ex->param; }

float *mnd_exchange_grad(mnd_exchange *ex, size_t *stride) {
    *stride = ex->stride;
    return ex->grad;
}

float *mnd_exchange_slot(mnd_exchange *ex, int s) { return ex->slot[s]; }

void mnd_exchange_slice(const mnd_exchange *ex, size_t *first, size_t *count) {
    *first = ex->first;
    *count = ex->count;
}

mnd_exchange_times mnd_exchange_time(const mnd_exchange *ex) { return ex->times; }

bool mnd_exchange_writes_param(const mnd_exchange *ex) { return ex->writes_param; }

mnd_status mnd_exchange_publish(mnd_exchange *ex) {
    return ex->ops->publish != NULL ? ex->ops->publish(ex) : MND_OK;
}

static void keep_sum(void *context, size_t first, size_t count, float *param, const float *grad) {
    (void)context;
    (void)first;
    memcpy(param, grad, count * sizeof *grad);
}

const mnd_update mnd_update_keep_sum = {.apply = keep_sum};

mnd_status mnd_exchange_step(mnd_exchange *ex, const mnd_update *update, uint32_t flags,
                             uint32_t *all_flags) {
    if (update->n_measure > 0 && update->n_value > ex->options.n_value)
        return mnd_fail(MND_INTERNAL, "exchange: more numbers per block than it was opened for");
    return ex->ops->step(ex, update, flags & 0xffff, all_flags);
}
