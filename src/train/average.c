/* average.c - the weights that are judged and that a model is: the parameters, or their average. */
#include <string.h>

#include "mnist_dist/memory.h"
#include "run.h"
#include "snapshot.h"

mnd_status mnd_run_weights(mnd_run *r, float **out) {
    *out = r->average != NULL ? r->average : mnd_exchange_param(r->exchange);
    if (r->average == NULL) return MND_OK;
    return mnd_exchange_collect_slot(r->exchange, r->config->optimizer.ops->n_slot, r->average);
}

mnd_status mnd_run_evaluate(mnd_run *r, mnd_evaluator *evaluator, mnd_evaluation *out) {
    mnd_status status = MND_OK;
    float *weights;
    size_t stride;
    MND_TRY(mnd_run_weights(r, &weights));
    /* The next step binds the parameters again. */
    mnd_model_bind(r->model, weights, mnd_exchange_grad(r->exchange, &stride), stride);
    mnd_watchdog_phase(r->dog, MND_PHASE_EVALUATE, r->step);
    MND_TRY(mnd_evaluate(evaluator, r->model, out));
    mnd_watchdog_phase(r->dog, MND_PHASE_WAIT, r->step);
cleanup:
    return status;
}

mnd_status mnd_run_begin_average(mnd_run *r, const mnd_checkpoint *ckpt) {
    size_t first, count;
    const float *begin = mnd_exchange_param(r->exchange);
    if (r->average == NULL) return MND_OK;
    if (ckpt != NULL && ckpt->ema > 0.0) {
        const mnd_status status = mnd_snapshot_load(r->model, ckpt, r->average);
        if (status != MND_OK) return status;
        begin = r->average;
    }
    mnd_exchange_slice(r->exchange, &first, &count);
    memcpy(mnd_exchange_slot(r->exchange, r->config->optimizer.ops->n_slot) + first, begin + first,
           count * sizeof *begin);
    return MND_OK;
}
