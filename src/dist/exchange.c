#include "mnist_dist/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "exchange_impl.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/timer.h"

static const mnd_exchange_ops *const table[] = {
#define EXCHANGE_ROW(id, name, text) &mnd_exchange_ops_##id,
    MND_EXCHANGE_TABLE(EXCHANGE_ROW)
#undef EXCHANGE_ROW
};

static const char known[] = "auto"
#define EXCHANGE_NAME(id, name, text) ", " name
    MND_EXCHANGE_TABLE(EXCHANGE_NAME)
#undef EXCHANGE_NAME
    ;

static const mnd_exchange_ops *find(const char *name) {
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(table[i]->name, name) == 0) return table[i];
    return NULL;
}

static const char *best(const mnd_comm *comm) {
    if (mnd_comm_size(comm) == 1) return "local";
    return mnd_comm_nodes(comm) == 1 ? "shared" : "hierarchical";
}

static void release(mnd_exchange **ex) {
    if (*ex == NULL) return;
    if ((*ex)->slot_memory != NULL) (void)munmap((*ex)->slot_memory, (*ex)->slot_bytes);
    free((*ex)->part);
    free((*ex)->part_begin);
    free((*ex)->given);
    free((*ex)->range);
    free((*ex)->lent);
    free(*ex);
    *ex = NULL;
}

/* Everything that needs no other process. */
static mnd_status plan(mnd_comm *comm, const char *name, int logical, size_t n_param, int n_slot,
                       const mnd_exchange_owned *owned, mnd_exchange **out) {
    mnd_status status = MND_OK;
    mnd_exchange *ex = NULL;
    const int size = mnd_comm_size(comm);
    if (strcmp(name, "auto") == 0) name = best(comm);
    const mnd_exchange_ops *ops = find(name);
    /* Alone there is nothing to exchange, whatever the script that counts ranks down asks for. */
    if (ops != NULL && size == 1) ops = &mnd_exchange_ops_LOCAL;
    /* On one node nothing is left of the hierarchy but its lower half. */
    if (ops == &mnd_exchange_ops_HIERARCHICAL && mnd_comm_nodes(comm) == 1)
        ops = &mnd_exchange_ops_SHARED;
    if (ops == NULL) MND_FAIL(MND_USAGE, "'%s' is not an exchange; known: %s", name, known);
    if (logical < 1 || logical > MND_MAX_LOGICAL)
        MND_FAIL(MND_USAGE, "%d logical ranks: must be 1 to %d", logical, MND_MAX_LOGICAL);
    if (logical < size)
        MND_FAIL(MND_USAGE, "%d processes cannot share %d logical ranks: start at most %d", size,
                 logical, logical);
    if (n_param < 1) MND_FAIL(MND_RANGE, "exchange: the model has no parameters");
    if (n_param > SIZE_MAX / 64 || n_slot < 0 || n_slot > MND_EXCHANGE_SLOTS)
        MND_FAIL(MND_RANGE, "exchange: %zu parameters with %d slots are too many", n_param, n_slot);

    ex = calloc(1, sizeof *ex);
    if (ex == NULL) MND_FAIL(MND_NO_MEMORY, "exchange: no memory");
    *ex = (mnd_exchange){.ops = ops,
                         .comm = comm,
                         .rank = mnd_comm_rank(comm),
                         .size = size,
                         .logical = logical,
                         .n_param = n_param,
                         .n_slot = n_slot,
                         .stride = mnd_align_up(n_param * sizeof(float)) / sizeof(float)};
    for (int p = 0; p < size; p++)
        ex->n_all += mnd_tree_parts(logical, mnd_logical_first(logical, size, p),
                                    mnd_logical_first(logical, size, p + 1), NULL);
    ex->part = malloc(((size_t)ex->n_all + 1) * sizeof *ex->part);
    ex->part_begin = malloc(((size_t)size + 1) * sizeof *ex->part_begin);
    ex->given = calloc(2 * (size_t)size, sizeof *ex->given);
    const size_t ranges = owned != NULL && owned->bytes > 0 ? (size_t)owned->n_range : 0;
    ex->range = calloc(ranges + 1, sizeof *ex->range);
    if (ex->part == NULL || ex->part_begin == NULL || ex->given == NULL || ex->range == NULL)
        MND_FAIL(MND_NO_MEMORY, "exchange: no memory");
    if (ranges > 0) {
        if (owned->groups < 1 || size % owned->groups != 0)
            MND_FAIL(MND_RANGE, "exchange: %d processes cannot form %d groups", size,
                     owned->groups);
        ex->lend = owned->bytes;
        ex->n_range = owned->n_range;
        ex->groups = owned->groups;
        memcpy(ex->range, owned->range, ranges * sizeof *ex->range);
    }
    int n = 0;
    for (int p = 0; p < size; p++) {
        ex->part_begin[p] = n;
        n += mnd_tree_parts(logical, mnd_logical_first(logical, size, p),
                            mnd_logical_first(logical, size, p + 1), ex->part + n);
    }
    ex->part_begin[size] = n;
    ex->n_part = ex->part_begin[ex->rank + 1] - ex->part_begin[ex->rank];
cleanup:
    if (status != MND_OK) release(&ex);
    *out = ex;
    return status;
}

/* Processes that ask for different things would wait for each other forever. */
static mnd_status check_same(const mnd_exchange *ex) {
    /* FNV-1a, by words. */
    const uint64_t prime = UINT64_C(0x100000001b3);
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (const char *p = ex->ops->name; *p != '\0'; p++) hash = (hash ^ (unsigned char)*p) * prime;
    hash = (hash ^ (uint64_t)ex->logical) * prime;
    hash = (hash ^ ex->n_param) * prime;
    hash = (hash ^ (uint64_t)ex->n_slot) * prime;
    hash = (hash ^ ex->lend) * prime;
    hash = (hash ^ (uint64_t)ex->groups) * prime;
    for (int i = 0; i < ex->n_range; i++) {
        hash = (hash ^ ex->range[i].first) * prime;
        hash = (hash ^ ex->range[i].count) * prime;
        hash = (hash ^ ex->range[i].unit) * prime;
        hash = (hash ^ ex->range[i].cost) * prime;
    }
    hash ^= hash >> 32;
    const double mine = (double)(hash & UINT64_C(0xfffffffffffff)); /* exact in a double */
    double most[2] = {mine, -mine};
    const mnd_status status = mnd_comm_max_f64(ex->comm, most, 2);
    if (status != MND_OK || most[0] == -most[1]) return status;
    return mnd_fail(MND_MISMATCH,
                    "the ranks want different exchanges (this one '%s', %d logical "
                    "ranks, %zu parameters): give all the same options and program",
                    ex->ops->name, ex->logical, ex->n_param);
}

mnd_status mnd_exchange_create(mnd_comm *comm, const char *name, int logical, size_t n_param,
                               int n_slot, const mnd_exchange_owned *owned, mnd_exchange **out) {
    mnd_exchange *ex = NULL;
    mnd_status status = plan(comm, name, logical, n_param, n_slot, owned, &ex);
    status = mnd_comm_agree(comm, status, NULL);
    if (status == MND_OK) status = check_same(ex);
    if (status == MND_OK) {
        status = ex->ops->open(ex);
        if (status != MND_OK) ex->ops->close(ex);
    }
    if (status != MND_OK) release(&ex);
    /* No room in /dev/shm, or an MPI library that cannot share memory here. */
    const int elsewhere =
        status == MND_NO_MEMORY || status == MND_UNSUPPORTED || status == MND_COMM;
    if (elsewhere && strcmp(name, "auto") == 0 && mnd_comm_size(comm) > 1) {
        char note[sizeof ex->note];
        snprintf(note, sizeof note, "%s", mnd_error());
        status = mnd_exchange_create(comm, "allreduce", logical, n_param, n_slot, NULL, &ex);
        if (status == MND_OK) memcpy(ex->note, note, sizeof note);
    }
    *out = ex;
    return status;
}

void mnd_exchange_destroy(mnd_exchange **out) {
    if (*out == NULL) return;
    (*out)->ops->close(*out);
    release(out);
}

const char *mnd_exchange_name(const mnd_exchange *ex) { return ex->ops->name; }
const char *mnd_exchange_note(const mnd_exchange *ex) { return ex->note; }
float *mnd_exchange_param(mnd_exchange *ex) { return ex->param; }

float *mnd_exchange_grad(mnd_exchange *ex, size_t *stride) {
    *stride = ex->stride;
    return ex->grad;
}

char *const *mnd_exchange_lent(const mnd_exchange *ex) { return ex->lent; }

void mnd_exchange_meet(mnd_exchange *ex) {
    const double begin = mnd_now();
    ex->ops->meet(ex);
    ex->times.wait += mnd_now() - begin;
}

void mnd_exchange_choose_sending(mnd_exchange *ex) {
    if (ex->ops->choose_sending != NULL) ex->ops->choose_sending(ex);
}

bool mnd_exchange_sends(const mnd_exchange *ex) { return ex->sends; }

void mnd_exchange_set_owner(mnd_exchange *ex, mnd_owner_fn owner, void *context) {
    ex->owner = owner;
    ex->owner_context = context;
}

float *mnd_exchange_slot(mnd_exchange *ex, int s) { return ex->slot[s]; }

void mnd_exchange_slice(const mnd_exchange *ex, size_t *first, size_t *count) {
    *first = ex->first;
    *count = ex->count;
}

mnd_exchange_times mnd_exchange_time(const mnd_exchange *ex) { return ex->times; }

int mnd_exchange_writes_param(const mnd_exchange *ex) { return ex->writes_param; }
mnd_status mnd_exchange_publish(mnd_exchange *ex) { return ex->ops->publish(ex); }

void mnd_exchange_keep_sum(void *context, size_t first, size_t count, float *param,
                           const float *grad) {
    (void)context;
    (void)first;
    memcpy(param, grad, count * sizeof *grad);
}

mnd_status mnd_exchange_step(mnd_exchange *ex, mnd_update_fn update, void *context, uint32_t flags,
                             uint32_t *all_flags) {
    return ex->ops->step(ex, update, context, flags & 0xffff, all_flags);
}

mnd_status mnd_exchange_gather_slot(mnd_exchange *ex, int s, float *all) {
    return ex->ops->gather(ex, s, all);
}

void mnd_exchange_cut(size_t n, int slices, int q, size_t *first, size_t *count) {
    const size_t page = 1024, parts = (size_t)slices, i = (size_t)q;
    const size_t unit = n / parts >= 16 * page ? page : MND_LINE_FLOATS;
    const size_t units = (n + unit - 1) / unit;
    /* Without the product units * q, which may be too large. */
    const size_t more = units % parts;
    size_t begin = (units / parts * i + (i < more ? i : more)) * unit;
    size_t end = begin + (units / parts + (i < more)) * unit;
    if (begin > n) begin = n;
    if (end > n) end = n;
    *first = begin;
    *count = end - begin;
}

/* The place to cut an owned range where its first part is `target` work, or near. */
static size_t cut_range(const mnd_owned *r, size_t target, size_t slice) {
    /* What there is to prepare for a few units is not worth it. */
    const size_t few = slice / 32;
    if (target <= few) return r->first;
    if (r->count * r->cost - target <= few) return r->first + r->count;
    return r->first + (target / r->cost + r->unit / 2) / r->unit * r->unit;
}

/* Where the work up to a parameter is that of `q` slices, or near. */
static size_t cut_at(const mnd_exchange *ex, size_t slice, size_t q) {
    size_t at = 0, target = slice * q;
    for (int i = 0; i <= ex->n_range; i++) {
        const size_t begin = i < ex->n_range ? ex->range[i].first : ex->n_param;
        if (target <= MND_UPDATE_COST * (begin - at)) return at + target / MND_UPDATE_COST;
        target -= MND_UPDATE_COST * (begin - at);
        at = begin;
        if (i == ex->n_range) break;
        const mnd_owned *r = &ex->range[i];
        if (target <= r->count * r->cost) return cut_range(r, target, slice);
        target -= r->count * r->cost;
        at += r->count;
    }
    return at;
}

void mnd_exchange_cut_owned(mnd_exchange *ex) {
    if (ex->n_range == 0) {
        mnd_exchange_cut(ex->n_param, ex->size, ex->rank, &ex->first, &ex->count);
        return;
    }
    size_t work = MND_UPDATE_COST * ex->n_param;
    for (int i = 0; i < ex->n_range; i++)
        work += ex->range[i].count * (ex->range[i].cost - MND_UPDATE_COST);
    const size_t parts = (size_t)ex->size;
    const size_t q =
        (size_t)(ex->rank % ex->groups * (ex->size / ex->groups) + ex->rank / ex->groups);
    ex->first = cut_at(ex, work / parts, q);
    ex->count = (q + 1 == parts ? ex->n_param : cut_at(ex, work / parts, q + 1)) - ex->first;
}

mnd_status mnd_exchange_private(mnd_exchange *ex, void **memory) {
    const size_t rows = 1 + (size_t)ex->n_part + (size_t)ex->n_slot;
    mnd_status status =
        mnd_alloc(memory, rows * ex->stride, sizeof(float), "parameters and gradients");
    if (status != MND_OK) return status;
    float *row = *memory;
    ex->param = row;
    row += ex->stride;
    ex->grad = row;
    row += (size_t)ex->n_part * ex->stride;
    for (int s = 0; s < ex->n_slot; s++, row += ex->stride) ex->slot[s] = row;
    ex->first = 0;
    ex->count = ex->n_param;
    ex->writes_param = 1;
    return MND_OK;
}

mnd_status mnd_exchange_publish_private(mnd_exchange *ex) {
    (void)ex;
    return MND_OK;
}

mnd_status mnd_exchange_gather_private(mnd_exchange *ex, int s, float *all) {
    if (ex->rank == 0) memcpy(all, ex->slot[s], ex->n_param * sizeof *all);
    return MND_OK;
}

mnd_status mnd_exchange_map_slots(mnd_exchange *ex) {
    if (ex->n_slot == 0) return MND_OK;
    const size_t first = ex->first * sizeof(float), slice = ex->count * sizeof(float);
    /* The slice of each slot begins on a huge page, with room for whole ones. */
    const size_t each = mnd_huge_up(ex->stride * sizeof(float)) + MND_HUGE_PAGE;
    ex->slot_bytes = (size_t)ex->n_slot * each + MND_HUGE_PAGE;
    void *memory = mmap(NULL, ex->slot_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return mnd_fail(MND_NO_MEMORY, "optimizer state: no memory for %zu bytes", ex->slot_bytes);
    ex->slot_memory = memory;
    char *slot = memory;
    slot += MND_HUGE_PAGE - ((uintptr_t)memory + first) % MND_HUGE_PAGE;
    for (int s = 0; s < ex->n_slot; s++, slot += each) {
        ex->slot[s] = (float *)(void *)slot;
        /* Many ranks with a small slice each would only waste memory on them. */
        if (slice >= MND_HUGE_PAGE / 2)
            (void)madvise(slot + first, mnd_huge_up(slice), MADV_HUGEPAGE);
    }
    return MND_OK;
}

mnd_status mnd_exchange_give(mnd_exchange *ex, size_t first, size_t count) {
    const uint64_t mine[2] = {first, count};
    return mnd_comm_allgather(ex->comm, mine, sizeof mine, ex->given);
}

mnd_status mnd_exchange_gather_given(mnd_exchange *ex, int s, float *all) {
    mnd_status status = MND_OK;
    size_t *bytes = calloc((size_t)ex->size, sizeof *bytes);
    if (bytes == NULL) status = mnd_fail(MND_NO_MEMORY, "optimizer state: no memory");
    MND_TRY(mnd_comm_agree(ex->comm, status, NULL));
    /* One after the other, since slices do not lie in the order of ranks. */
    for (int r = 0; r < ex->size; r++) {
        const size_t first = (size_t)ex->given[2 * r];
        bytes[r] = (size_t)ex->given[2 * r + 1] * sizeof(float);
        if (bytes[r] > 0)
            MND_TRY(mnd_comm_gatherv(ex->comm, ex->slot[s] + first, bytes,
                                     ex->rank == 0 ? all + first : NULL, 0));
        bytes[r] = 0;
    }
cleanup:
    free(bytes);
    return status;
}

static void update_block(mnd_exchange *ex, mnd_update_fn update, void *context, size_t first,
                         size_t count, const float *grad) {
    float *const param = ex->param + first;
    if (!ex->sends) {
        update(context, first, count, param, grad);
        return;
    }
    float block[MND_SUM_BLOCK] __attribute__((aligned(MND_ALIGN)));
    memcpy(block, param, count * sizeof *block);
    update(context, first, count, block, grad);
    mnd_send(param, block, count * sizeof *block);
}

void mnd_exchange_sum_update(mnd_exchange *ex, const mnd_sum_plan *sum, const float *const *source,
                             size_t base, size_t first, size_t count, mnd_update_fn update,
                             void *context) {
    if (count == 0) return;
    /*
     * Looking at the clock around every block would cost as much as a tenth of it. One block a step
     * stands for all, another one each time; an interrupted one cannot stand for more than there
     * was.
     */
    const double begin = mnd_now();
    double seconds = 0.0;
    const size_t blocks = (count + MND_SUM_BLOCK - 1) / MND_SUM_BLOCK;
    if (++ex->sample >= blocks) ex->sample = 0;
    for (size_t i = 0, block = 0; i < count; i += MND_SUM_BLOCK, block++) {
        const size_t n = count - i < MND_SUM_BLOCK ? count - i : MND_SUM_BLOCK;
        const float *grad = mnd_sum_block(sum, source, first - base + i, n);
        if (block != ex->sample) {
            update_block(ex, update, context, first + i, n, grad);
        } else {
            const double start = mnd_now();
            update_block(ex, update, context, first + i, n, grad);
            seconds = (mnd_now() - start) * (double)blocks;
        }
    }
    if (ex->sends) mnd_sent();
    const double whole = mnd_now() - begin;
    if (seconds > whole) seconds = whole;
    ex->times.update += seconds;
    ex->times.exchange -= seconds;
}
