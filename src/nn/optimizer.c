#include "mnist_dist/optimizer.h"

#include <math.h>
#include <string.h>

#include "kernels.h"
#include "parallel.h"

static const struct {
    const char *name;
    int slots;
} kinds[MND_N_OPTIMIZERS] = {
#define OPTIMIZER_ROW(id, name, slots, text) {name, slots},
    MND_OPTIMIZER_TABLE(OPTIMIZER_ROW)
#undef OPTIMIZER_ROW
};

mnd_status mnd_optimizer_default(const char *name, mnd_optimizer *out) {
    for (int i = 0; i < MND_N_OPTIMIZERS; i++) {
        if (strcmp(kinds[i].name, name) != 0) continue;
        *out = (mnd_optimizer){.kind = (mnd_optimizer_kind)i,
                               .lr = 0.001,
                               .beta1 = 0.9,
                               .beta2 = 0.999,
                               .rho = 0.9,
                               .momentum = 0.0,
                               .epsilon = 1e-8};
        if (i == MND_ADAMW) out->weight_decay = 0.01;
        if (i == MND_RMSPROP) out->epsilon = 1e-7;
        if (i == MND_SGD) {
            out->lr = 0.01;
            out->momentum = 0.9;
        }
        return MND_OK;
    }
    return mnd_fail(MND_USAGE, "optimizer '%s' is not one of adam, adamw, rmsprop, sgd", name);
}

const char *mnd_optimizer_name(mnd_optimizer_kind kind) { return kinds[kind].name; }

int mnd_optimizer_slots(mnd_optimizer_kind kind) { return kinds[kind].slots; }

const char *mnd_optimizer_slot_name(mnd_optimizer_kind kind, int slot) {
    return kinds[kind].slots == 2 && slot == 0 ? "m" : "v";
}

void mnd_optimizer_pack(const mnd_optimizer *opt, double setting[8]) {
    setting[0] = (double)opt->kind;
    setting[1] = opt->lr;
    setting[2] = opt->beta1;
    setting[3] = opt->beta2;
    setting[4] = opt->rho;
    setting[5] = opt->momentum;
    setting[6] = opt->epsilon;
    setting[7] = opt->weight_decay;
}

void mnd_optimizer_unpack(const double setting[8], mnd_optimizer *opt) {
    *opt = (mnd_optimizer){.kind = (mnd_optimizer_kind)setting[0],
                           .lr = setting[1],
                           .beta1 = setting[2],
                           .beta2 = setting[3],
                           .rho = setting[4],
                           .momentum = setting[5],
                           .epsilon = setting[6],
                           .weight_decay = setting[7]};
}

void mnd_optimizer_begin(const mnd_optimizer *opt, double lr, int64_t t, mnd_optimizer_rates *out) {
    *out = (mnd_optimizer_rates){
        .kind = opt->kind, .step = (float)lr, .epsilon = (float)opt->epsilon, .keep = 1.0F};
    switch (opt->kind) {
    case MND_ADAM:
    case MND_ADAMW:
        out->a = (float)opt->beta1;
        out->a1 = (float)(1.0 - opt->beta1);
        out->b = (float)opt->beta2;
        out->b1 = (float)(1.0 - opt->beta2);
        out->step = (float)(lr / (1.0 - pow(opt->beta1, (double)t)));
        out->root = (float)(1.0 / sqrt(1.0 - pow(opt->beta2, (double)t)));
        if (opt->kind == MND_ADAMW) out->keep = (float)(1.0 - lr * opt->weight_decay);
        return;
    case MND_RMSPROP:
        out->a = (float)opt->rho;
        out->a1 = (float)(1.0 - opt->rho);
        return;
    case MND_SGD:
        out->a = (float)opt->momentum;
        out->keep = (float)opt->weight_decay;
        return;
    case MND_N_OPTIMIZERS: return;
    }
}

static void apply(const mnd_optimizer_rates *r, size_t n, float *param, const float *grad,
                  float *slot0, float *slot1, mnd_word_sum *sum) {
    const mnd_kernels *k = mnd_kernels_native();
    switch (r->kind) {
    case MND_ADAM:
    case MND_ADAMW:
        k->adam(n, param, grad, slot0, slot1, r->a, r->a1, r->b, r->b1, r->step, r->root,
                r->epsilon, r->keep, sum);
        return;
    case MND_RMSPROP:
        k->rmsprop(n, param, grad, slot0, r->a, r->a1, r->step, r->epsilon, sum);
        return;
    case MND_SGD: k->sgd(n, param, grad, slot0, r->a, r->step, r->keep, sum); return;
    case MND_N_OPTIMIZERS: return;
    }
}

typedef struct job {
    const mnd_optimizer_rates *rates;
    size_t n;
    float *param;
    const float *grad;
    float *slot[MND_MAX_SLOTS];
    mnd_word_sum sum[MND_MAX_THREADS];
} job;

/* What a thread takes at a time, and what is worth waking one for. */
enum { BLOCK = 4096, WORTH = 16 * BLOCK };

static void apply_blocks(void *context, int thread, int first, int last) {
    job *j = context;
    const size_t from = (size_t)first * BLOCK;
    const size_t to = (size_t)last * BLOCK < j->n ? (size_t)last * BLOCK : j->n;
    apply(j->rates, to - from, j->param + from, j->grad + from, j->slot[0] + from,
          j->slot[1] == NULL ? NULL : j->slot[1] + from, &j->sum[thread]);
}

void mnd_optimizer_apply(const mnd_optimizer_rates *rates, int threads, size_t n, float *param,
                         const float *grad, float *const slot[MND_MAX_SLOTS], mnd_word_sum *sum) {
    if (threads <= 1 || n < WORTH) {
        apply(rates, n, param, grad, slot[0], slot[1], sum);
        return;
    }
    job j = {.rates = rates, .n = n, .param = param, .grad = grad, .slot = {slot[0], slot[1]}};
    mnd_parallel(threads, (int)((n + BLOCK - 1) / BLOCK), 1, apply_blocks, &j);
    for (int t = 0; t < threads; t++) {
        sum->before += j.sum[t].before;
        sum->after += j.sum[t].after;
    }
}

void mnd_optimizer_step(const mnd_optimizer *opt, double lr, int64_t t, size_t n, float *param,
                        const float *grad, float *const slot[MND_MAX_SLOTS]) {
    mnd_optimizer_rates rates;
    mnd_word_sum sum = {0};
    mnd_optimizer_begin(opt, lr, t, &rates);
    apply(&rates, n, param, grad, slot[0], slot[1], &sum);
}

uint32_t mnd_word_total(size_t n, const float *x) {
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += mnd_word(x[i]);
    return sum;
}
