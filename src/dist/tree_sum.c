#include "tree_sum.h"

#include <string.h>

#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/vector.h"

mnd_status mnd_sum_plan_make(int n, const int *subtree, mnd_sum_plan *out) {
    mnd_status status = MND_OK;
    mnd_tree_add *add = NULL;
    int *where = NULL, *idle = NULL;
    *out = (mnd_sum_plan){.n_source = n};
    MND_NEW(add, n, "gradient sum");
    MND_NEW(where, n, "gradient sum");
    MND_NEW(idle, n, "gradient sum");
    MND_NEW(out->op, n, "gradient sum");
    mnd_tree_schedule(n, subtree, add);
    int n_idle = 0;
    for (int i = 0; i < n; i++) where[i] = i;
    for (int i = 0; i < n - 1; i++) {
        const int a = where[add[i].into], b = where[add[i].from];
        /* A temporary that is read here may be written here: additions go element by element. */
        int to;
        if (a < 0) {
            to = -1 - a;
            if (b < 0) idle[n_idle++] = -1 - b;
        } else if (b < 0) {
            to = -1 - b;
        } else {
            to = n_idle > 0 ? idle[--n_idle] : out->n_temp++;
        }
        out->op[i] = (mnd_sum_op){.a = a, .b = b, .to = to};
        where[add[i].into] = -1 - to;
    }
    MND_NEW(out->temp, out->n_temp * MND_SUM_BLOCK, "gradient sum");
cleanup:
    mnd_free(add);
    mnd_free(where);
    mnd_free(idle);
    if (status != MND_OK) mnd_sum_plan_free(out);
    return status;
}

void mnd_sum_plan_free(mnd_sum_plan *plan) {
    mnd_free(plan->op);
    mnd_free(plan->temp);
    *plan = (mnd_sum_plan){0};
}

/* Three loops rather than one, so that the compiler knows what overlaps and vectorises each. */
MND_EACH_WIDTH static void add_to(size_t n, float *restrict to, const float *restrict a,
                                  const float *restrict b) {
    for (size_t i = 0; i < n; i++) to[i] = a[i] + b[i];
}

MND_EACH_WIDTH static void add_left(size_t n, float *restrict to, const float *restrict a) {
    for (size_t i = 0; i < n; i++) to[i] = a[i] + to[i];
}

MND_EACH_WIDTH static void add_right(size_t n, float *restrict to, const float *restrict b) {
    for (size_t i = 0; i < n; i++) to[i] = to[i] + b[i];
}

const float *mnd_sum_block(const mnd_sum_plan *plan, const float *const *source, size_t offset,
                           size_t count) {
    const float *result = source[0] + offset;
    for (int i = 0; i < plan->n_source - 1; i++) {
        const mnd_sum_op op = plan->op[i];
        float *to = plan->temp + (size_t)op.to * MND_SUM_BLOCK;
        const float *a =
            op.a >= 0 ? source[op.a] + offset : plan->temp + (size_t)(-1 - op.a) * MND_SUM_BLOCK;
        const float *b =
            op.b >= 0 ? source[op.b] + offset : plan->temp + (size_t)(-1 - op.b) * MND_SUM_BLOCK;
        if (to == a)
            add_right(count, to, b);
        else if (to == b)
            add_left(count, to, a);
        else
            add_to(count, to, a, b);
        result = to;
    }
    return result;
}

void mnd_sum_whole(const mnd_sum_plan *plan, const float *const *source, size_t offset,
                   size_t count, float *to) {
    for (size_t i = 0, n; i < count; i += n) {
        n = count - i < MND_SUM_BLOCK ? count - i : MND_SUM_BLOCK;
        memcpy(to + i, mnd_sum_block(plan, source, offset + i, n), n * sizeof *to);
    }
}
