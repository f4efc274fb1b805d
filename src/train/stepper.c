#include "stepper.h"

#include "mnist_dist/timer.h"

void mnd_stepper_gradient(mnd_stepper *st, int64_t s, double *loss, int64_t *correct) {
    mnd_batch batch;
    const double t0 = mnd_now();
    (void)mnd_feed_batch(st->feed, s, mnd_model_input(st->model), &batch);
    const double t1 = mnd_now();
    mnd_model_gradient(st->model, &batch, loss, correct, NULL, NULL);
    st->data += t1 - t0;
    st->compute += mnd_now() - t1;
}

static void update(void *context, size_t first, size_t count, const float *grad) {
    const mnd_stepper *st = context;
    float *slot[MND_MAX_SLOTS] = {NULL};
    for (int s = 0; s < mnd_optimizer_slots(st->optimizer->kind); s++)
        slot[s] = mnd_exchange_slot(st->exchange, s) + first;
    mnd_optimizer_apply(&st->rates, st->threads, count, mnd_exchange_param(st->exchange) + first,
                        grad, slot);
}

mnd_status mnd_stepper_update(mnd_stepper *st, double lr, int64_t t, uint32_t flags,
                              uint32_t *all_flags) {
    mnd_optimizer_begin(st->optimizer, lr, t, &st->rates);
    return mnd_exchange_step(st->exchange, update, st, flags, all_flags);
}

mnd_time_split mnd_stepper_time(const mnd_stepper *st) {
    const mnd_exchange_times now = mnd_exchange_time(st->exchange);
    return (mnd_time_split){.data = st->data,
                            .compute = st->compute,
                            .exchange = now.exchange - st->begin.exchange,
                            .optimizer = now.update - st->begin.update,
                            .wait = now.wait - st->begin.wait};
}

void mnd_stepper_reset(mnd_stepper *st) {
    st->data = st->compute = 0.0;
    st->begin = mnd_exchange_time(st->exchange);
}
