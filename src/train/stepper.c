#include "stepper.h"

#include "mnist_dist/timer.h"

static void own(void *context) {
    const mnd_stepper *st = context;
    mnd_model_owned_gradient(st->model);
}

static void meet(void *context) {
    mnd_stepper *st = context;
    mnd_watchdog_phase(st->dog, MND_PHASE_WAIT, st->step);
    mnd_exchange_meet(st->exchange);
    mnd_watchdog_phase(st->dog, MND_PHASE_COMPUTE, st->step);
}

static void bind(mnd_stepper *st) {
    size_t stride;
    float *grad = mnd_exchange_grad(st->exchange, &stride);
    mnd_model_bind(st->model, mnd_exchange_param(st->exchange), grad, stride);
}

/* Once an epoch, since a host may move the cores of a virtual machine. */
static void choose_sending(mnd_stepper *st) {
    mnd_watchdog_phase(st->dog, MND_PHASE_WAIT, st->step);
    mnd_exchange_choose_sending(st->exchange);
    mnd_watchdog_phase(st->dog, MND_PHASE_COMPUTE, st->step);
    mnd_model_send(st->model, mnd_exchange_sends(st->exchange));
    bind(st);
    st->chosen_epoch = st->feed->epoch;
}

mnd_status mnd_stepper_join(mnd_stepper *st, mnd_comm *comm, const char *exchange) {
    mnd_owned range[MND_MAX_LAYERS];
    const size_t lent = mnd_model_shared_size(st->model);
    int from, to;
    mnd_model_reads(st->model, &from, &to);
    const size_t staged = to - from > 1 ? mnd_feed_stage_size(st->feed, mnd_comm_size(comm)) : 0;
    const mnd_exchange_owned offer = {.bytes = lent + staged,
                                      .n_range = mnd_model_owned(st->model, range),
                                      .range = range,
                                      .groups = mnd_model_groups(st->model)};
    const mnd_status status =
        mnd_exchange_create(comm, exchange, st->feed->logical, mnd_model_n_param(st->model),
                            mnd_optimizer_slots(st->optimizer->kind), &offer, &st->exchange);
    if (status != MND_OK) return status;
    bind(st);
    st->staged = -1;
    st->chosen_epoch = 0;
    st->feed->stage = NULL;
    char *const *const memory = mnd_exchange_lent(st->exchange);
    if (memory != NULL) {
        size_t first, count;
        mnd_exchange_slice(st->exchange, &first, &count);
        mnd_model_share(st->model, memory, first, count, meet, st);
        mnd_exchange_set_owner(st->exchange, own, st);
        if (staged > 0)
            mnd_feed_share(st->feed, memory, lent, mnd_comm_rank(comm), mnd_comm_size(comm), from,
                           to);
    }
    return MND_OK;
}

static void stage(mnd_stepper *st, int64_t s) {
    mnd_feed_stage(st->feed, s, mnd_exchange_sends(st->exchange));
    st->staged = s;
    st->staged_epoch = st->feed->epoch;
}

void mnd_stepper_gradient(mnd_stepper *st, int64_t s, double *loss, int64_t *correct) {
    mnd_batch batch;
    mnd_feed *const feed = st->feed;
    if (st->chosen_epoch != feed->epoch) choose_sending(st);
    double from = mnd_now();
    if (feed->stage != NULL && (st->staged != s || st->staged_epoch != feed->epoch)) {
        stage(st, s);
        st->data += mnd_now() - from;
        meet(st);
        from = mnd_now();
    }
    mnd_feed_batch(feed, s, &batch);
    const double begin = mnd_now(), waited = mnd_exchange_time(st->exchange).wait;
    mnd_model_gradient(st->model, &batch, loss, correct);
    const double end = mnd_now();
    st->data += begin - from;
    st->compute += end - begin - (mnd_exchange_time(st->exchange).wait - waited);
    /* The next one's pixels are with the others by the time this step ends; those of the step
       before, whose place they take, nobody has read since it ended. */
    if (feed->stage != NULL && s + 1 < mnd_feed_steps(feed)) {
        stage(st, s + 1);
        st->data += mnd_now() - end;
    }
}

static void update(void *context, size_t first, size_t count, float *param, const float *grad) {
    mnd_stepper *st = context;
    float *slot[MND_MAX_SLOTS] = {NULL};
    for (int s = 0; s < mnd_optimizer_slots(st->optimizer->kind); s++)
        slot[s] = mnd_exchange_slot(st->exchange, s) + first;
    mnd_optimizer_apply(&st->rates, st->threads, count, param, grad, slot, &st->sum);
}

mnd_status mnd_stepper_update(mnd_stepper *st, double lr, int64_t t, uint32_t flags,
                              uint32_t *all_flags) {
    mnd_optimizer_begin(st->optimizer, lr, t, &st->rates);
    st->sum = (mnd_word_sum){0};
    const mnd_status status = mnd_exchange_step(st->exchange, update, st, flags, all_flags);
    if (st->left_known && st->sum.before != st->left) st->damaged = true;
    st->left = st->sum.after;
    st->left_known = true;
    return status;
}

bool mnd_stepper_intact(mnd_stepper *st) {
    size_t first, count;
    mnd_exchange_slice(st->exchange, &first, &count);
    uint32_t now = mnd_word_total(count, mnd_exchange_param(st->exchange) + first);
    for (int s = 0; s < mnd_optimizer_slots(st->optimizer->kind); s++)
        now += mnd_word_total(count, mnd_exchange_slot(st->exchange, s) + first);
    if (st->left_known && now != st->left) st->damaged = true;
    return !st->damaged;
}

mnd_time_split mnd_stepper_time(const mnd_stepper *st) {
    const mnd_exchange_times now = mnd_exchange_time(st->exchange);
    return (mnd_time_split){.data = st->data,
                            .compute = st->compute + now.owner - st->begin.owner,
                            .exchange = now.exchange - st->begin.exchange,
                            .optimizer = now.update - st->begin.update,
                            .wait = now.wait - st->begin.wait};
}

void mnd_stepper_reset(mnd_stepper *st) {
    st->data = st->compute = 0.0;
    st->begin = mnd_exchange_time(st->exchange);
}
