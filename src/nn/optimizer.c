#include "mnist_dist/optimizer.h"

#include <math.h>
#include <string.h>

#include "kernels.h"

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

void mnd_optimizer_step(const mnd_optimizer *opt, double lr, int64_t t, size_t n, float *param,
                        const float *grad, float *const slot[MND_MAX_SLOTS]) {
    const mnd_kernels *k = mnd_kernels_native();
    switch (opt->kind) {
    case MND_ADAM:
    case MND_ADAMW: {
        const double step = lr / (1.0 - pow(opt->beta1, (double)t));
        const double root = 1.0 / sqrt(1.0 - pow(opt->beta2, (double)t));
        const double keep = opt->kind == MND_ADAMW ? 1.0 - lr * opt->weight_decay : 1.0;
        k->adam(n, param, grad, slot[0], slot[1], (float)opt->beta1, (float)(1.0 - opt->beta1),
                (float)opt->beta2, (float)(1.0 - opt->beta2), (float)step, (float)root,
                (float)opt->epsilon, (float)keep);
        return;
    }
    case MND_RMSPROP:
        k->rmsprop(n, param, grad, slot[0], (float)opt->rho, (float)(1.0 - opt->rho), (float)lr,
                   (float)opt->epsilon);
        return;
    case MND_SGD:
        k->sgd(n, param, grad, slot[0], (float)opt->momentum, (float)lr, (float)opt->weight_decay);
        return;
    case MND_N_OPTIMIZERS: return;
    }
}
