/* step.c - the first half of a training step: load a batch and compute its gradient; and where the
   time of steps goes. mnd_updater_step (update.c) does the rest, one_step (loop.c) calls both. */
#include "step.h"

#include "mnist_dist/timer.h"

/* An exchange may take gradients from another buffer in every step (exchange_shared.c does). */
static void bind(const mnd_step *st) {
    size_t stride;
    float *const grad = mnd_exchange_grad(st->update.exchange, &stride);
    mnd_model_bind(st->model, mnd_exchange_param(st->update.exchange), grad, stride);
}

void mnd_step_open(mnd_step *st, mnd_loader *loader, mnd_model *model, const mnd_updater *update,
                   mnd_group_sum *sum) {
    *st = (mnd_step){.loader = loader, .model = model, .update = *update, .sum = sum};
    bind(st);
}

mnd_status mnd_step_gradient(mnd_step *st, int64_t s, double *loss, int64_t *correct) {
    mnd_batch batch;
    const double begin = mnd_now();
    mnd_loader_batch(st->loader, s, mnd_model_input(st->model), &batch);
    const double loaded = mnd_now();
    batch.sum = mnd_group_sum_add;
    batch.sum_context = st->sum;
    bind(st);
    mnd_model_gradient(st->model, &batch, loss, correct);
    st->data += loaded - begin;
    st->compute += mnd_now() - loaded;
    return st->sum->status;
}

mnd_time_split mnd_step_time(const mnd_step *st) {
    const mnd_exchange_times now = mnd_exchange_time(st->update.exchange);
    return (mnd_time_split){.data = st->data,
                            .compute = st->compute,
                            .exchange = now.exchange - st->begin.exchange,
                            .optimizer = now.update - st->begin.update,
                            .wait = now.wait - st->begin.wait};
}

void mnd_step_reset(mnd_step *st) {
    st->data = st->compute = 0.0;
    st->begin = mnd_exchange_time(st->update.exchange);
}

void mnd_time_add(mnd_time_split *sum, const mnd_time_split *time, double factor) {
    sum->data += factor * time->data;
    sum->compute += factor * time->compute;
    sum->exchange += factor * time->exchange;
    sum->optimizer += factor * time->optimizer;
    sum->wait += factor * time->wait;
}
