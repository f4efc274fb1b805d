#include "update.h"

#include <math.h>
#include <string.h>

#include "mnist_dist/exchange_kind.h"
#include "mnist_dist/loops.h"
#include "mnist_dist/vector.h"

/* Elements that are updated at a time: a block, its state and its gradient fit an L1 cache. Blocks
   of the exchange are cut again at the ends of arrays. */
enum { BLOCK = MND_EXCHANGE_BLOCK };

/* Elements that are worth waking the threads for; a thread takes multiples of GRAIN blocks. */
enum { WORTH_THREADS = 64 * BLOCK, GRAIN = 4 };

MND_EACH_WIDTH static uint32_t sum_of_bits(size_t n, const float *x) {
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += mnd_bits(x[i]);
    return sum;
}

static uint32_t slice_bits(const mnd_optimizer_ops *ops, const mnd_slice *s) {
    uint32_t sum = sum_of_bits(s->count, s->param);
    for (int i = 0; i < ops->n_slot; i++) sum += sum_of_bits(s->count, s->slot[i]);
    return sum;
}

MND_EACH_WIDTH static void scaled(size_t n, float factor, const float *restrict x,
                                  float *restrict y) {
    for (size_t i = 0; i < n; i++) y[i] = factor * x[i];
}

/* Moves the average towards w, and adds the checksums of the average. */
MND_EACH_WIDTH static void move_average(size_t n, float take, const float *restrict w,
                                        float *restrict average, mnd_bit_sum *restrict sum) {
    uint32_t before = 0, after = 0;
    for (size_t i = 0; i < n; i++) {
        before += mnd_bits(average[i]);
        average[i] += take * (w[i] - average[i]);
        after += mnd_bits(average[i]);
    }
    sum->before += before;
    sum->after += after;
}

/* Updates elements of one array, a block at most, and their average unless it is NULL. */
static void update_block(mnd_updater *u, mnd_slice *s, bool trained, float *average) {
    float clipped[BLOCK];
    const mnd_optimizer_ops *ops = u->optimizer->ops;
    const bool sums = trained && ops->sums_bits;
    if (!sums) s->sum->before += slice_bits(ops, s);
    if (!trained) {
        mnd_add(s->count, s->grad, s->param);
    } else {
        if (u->clip_norm > 0.0) {
            scaled(s->count, u->clip, s->grad, clipped);
            s->grad = clipped;
        }
        ops->apply(&u->step, s);
    }
    if (!sums) s->sum->after += slice_bits(ops, s);
    if (average != NULL) move_average(s->count, u->take, s->param, average, s->sum);
}

/* The array that holds element `at` of all. */
static int array_at(const mnd_model *model, size_t at) {
    int low = 0, high = mnd_model_n_array(model) - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (mnd_model_array(model, middle).offset <= at)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Parameters [first, first + count), from param and grad on. */
static void update_range(mnd_updater *u, size_t first, size_t count, float *param,
                         const float *grad, mnd_bit_sum *sum) {
    const int n_slot = u->optimizer->ops->n_slot;
    float *const average = u->ema > 0.0 ? mnd_exchange_slot(u->exchange, n_slot) : NULL;
    int array = array_at(u->model, first);
    mnd_array_info info = mnd_model_array(u->model, array);
    for (size_t done = 0, n; done < count; done += n) {
        const size_t at = first + done;
        if (at == info.offset + info.count) info = mnd_model_array(u->model, ++array);
        n = info.offset + info.count - at;
        if (n > count - done) n = count - done;
        if (n > BLOCK) n = BLOCK;
        mnd_slice s = {.array = array,
                       .first = at - info.offset,
                       .count = n,
                       .param = param + done,
                       .grad = grad + done,
                       .sum = sum};
        for (int i = 0; i < n_slot; i++) s.slot[i] = mnd_exchange_slot(u->exchange, i) + at;
        update_block(u, &s, info.trained, average != NULL ? average + at : NULL);
    }
}

typedef struct range {
    mnd_updater *u;
    size_t first, count;
    float *param;
    const float *grad;
} range;

/* Blocks [first, last). */
static void update_blocks(void *context, int thread, int first, int last) {
    const range *r = context;
    const size_t from = (size_t)first * BLOCK;
    const size_t to = (size_t)last * BLOCK < r->count ? (size_t)last * BLOCK : r->count;
    update_range(r->u, r->first + from, to - from, r->param + from, r->grad + from,
                 &r->u->sum[thread]);
}

static void apply(void *context, size_t first, size_t count, float *param, const float *grad) {
    mnd_updater *u = context;
    range r = {.u = u, .first = first, .count = count, .param = param, .grad = grad};
    mnd_parallel(count < WORTH_THREADS ? 1 : u->threads, (int)((count + BLOCK - 1) / BLOCK), GRAIN,
                 update_blocks, &r);
}

/* ------------------------------------------------------------- clipping by the global norm */

/* The sum of squares of the trained elements among [first, first + count). The order is fixed:
   eight sums in turn, then these in pairs. */
static void measure_squares(void *context, int i, size_t first, size_t count, const float *param,
                            const float *grad, double *value) {
    const mnd_updater *u = context;
    enum { LANES = 8 };
    double sum[LANES] = {0.0};
    (void)i;
    (void)param;
    for (size_t done = 0, n; done < count; done += n) {
        const mnd_array_info info = mnd_model_array(u->model, array_at(u->model, first + done));
        n = info.offset + info.count - (first + done);
        if (n > count - done) n = count - done;
        for (size_t k = done; k < done + n && info.trained; k++)
            sum[k % LANES] += (double)grad[k] * (double)grad[k];
    }
    *value = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

/* As torch.nn.utils.clip_grad_norm_: g *= min(1, clip_norm / (norm + 1e-6)). */
static void choose_clip(void *context, int i, size_t n_block, const double *value) {
    mnd_updater *u = context;
    double square = 0.0;
    (void)i;
    for (size_t b = 0; b < n_block; b++) square += value[b];
    u->clip = (float)fmin(1.0, u->clip_norm / (sqrt(square) + 1e-6));
}

int mnd_updater_n_value(double clip_norm) { return clip_norm > 0.0 ? 1 : 0; }

_Static_assert((int)MND_MAX_SLOTS < (int)MND_EXCHANGE_SLOTS, "a slot for the average");
int mnd_updater_n_slot(const mnd_optimizer *optimizer, double ema) {
    return optimizer->ops->n_slot + (ema > 0.0);
}

/* -------------------------------------------------------------------------------- the step */

mnd_status mnd_updater_step(mnd_updater *u, double lr, int64_t t, uint32_t flags,
                            uint32_t *all_flags) {
    const mnd_update update = {.context = u,
                               .apply = apply,
                               .n_measure = u->clip_norm > 0.0 ? 1 : 0,
                               .n_value = mnd_updater_n_value(u->clip_norm),
                               .measure = measure_squares,
                               .measured = choose_clip};
    u->optimizer->ops->prepare(u->optimizer, lr, t, &u->step);
    u->take = (float)(1.0 - fmin(u->ema, (1.0 + (double)t) / (10.0 + (double)t)));
    memset(u->sum, 0, (size_t)u->threads * sizeof *u->sum);
    const mnd_status status = mnd_exchange_step(u->exchange, &update, flags, all_flags);
    uint32_t before = 0, after = 0;
    for (int i = 0; i < u->threads; i++) {
        before += u->sum[i].before;
        after += u->sum[i].after;
    }
    if (u->last_known && before != u->last_sum) u->damaged = true;
    u->last_sum = after;
    u->last_known = true;
    return status;
}

bool mnd_updater_intact(mnd_updater *u) {
    size_t first, count;
    mnd_exchange_slice(u->exchange, &first, &count);
    uint32_t now = sum_of_bits(count, mnd_exchange_param(u->exchange) + first);
    for (int s = 0; s < mnd_updater_n_slot(u->optimizer, u->ema); s++)
        now += sum_of_bits(count, mnd_exchange_slot(u->exchange, s) + first);
    if (u->last_known && now != u->last_sum) u->damaged = true;
    return !u->damaged;
}
