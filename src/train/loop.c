/* loop.c - epochs of steps: the training loop. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "mnist_dist/logical.h"
#include "mnist_dist/timer.h"
#include "replica.h"
#include "run.h"
#include "signals.h"

/* What processes tell one another with every step. */
enum { FLAG_STOP = 1, FLAG_NUMERIC = 2, FLAG_DAMAGED = 4 };

static bool all_finite(const double *x, int n) {
    for (int i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* Names what went wrong; the same line on every process. Collective. */
static mnd_status explain_numeric(mnd_run *r) {
    mnd_status status = MND_OK;
    if (!all_finite(r->step_loss, r->loader.seg.n_seg)) {
        int s = 0;
        while (isfinite(r->step_loss[s])) s++;
        const int bad = mnd_model_bad_array(r->model);
        const mnd_array_info info = mnd_model_array(r->model, bad < 0 ? 0 : bad);
        char where[160] = "no gradient is affected";
        if (bad >= 0)
            snprintf(where, sizeof where, "the first bad gradient is the %s of layer %d (%s)",
                     info.name, info.layer + 1, mnd_model_layer(r->model, info.layer).text);
        status =
            mnd_fail(MND_NUMERIC,
                     "the loss became NaN or infinite in epoch %lld, step %lld, on rank %d "
                     "(logical rank %d); %s; the last good checkpoint stays; try a smaller --lr",
                     (long long)r->epoch + 1, (long long)r->step + 1, mnd_comm_world_rank(r->comm),
                     r->first + s, where);
    }
    return mnd_comm_agree(r->comm, status, NULL);
}

static mnd_status one_step(mnd_run *r) {
    size_t stride;
    const int64_t t = r->step + 1;
    mnd_watchdog_phase(r->dog, MND_PHASE_COMPUTE, t);
    mnd_status status =
        mnd_step_gradient(&r->stepper, r->step_in_epoch, r->step_loss, r->step_correct);
    if (status != MND_OK) return status;
    mnd_fault_strike(&r->fault, t, mnd_exchange_grad(r->exchange, &stride),
                     mnd_model_n_param(r->model), r->step_loss);
    uint32_t flags = mnd_signals_pending() != 0 ? FLAG_STOP : 0, all = 0;
    if (!all_finite(r->step_loss, r->loader.seg.n_seg)) flags |= FLAG_NUMERIC;
    if (r->stepper.update.damaged) flags |= FLAG_DAMAGED;
    r->rate = mnd_schedule_rate(&r->schedule, r->step);
    mnd_watchdog_phase(r->dog, MND_PHASE_WAIT, t);
    status = mnd_updater_step(&r->stepper.update, r->rate, t, flags, &all);
    if (status != MND_OK) return status;
    if ((all & FLAG_DAMAGED) != 0) return mnd_comm_agree(r->comm, mnd_run_check_memory(r), NULL);
    if ((all & FLAG_NUMERIC) != 0) return explain_numeric(r); /* and the run ends */
    mnd_fault_flip(&r->fault, t, mnd_exchange_param(r->exchange));
    for (int s = 0; s < r->loader.seg.n_seg; s++) {
        r->loss_sum[s] += r->step_loss[s];
        r->correct[s] += r->step_correct[s];
    }
    r->step++;
    r->step_in_epoch++;
    r->stopping = (all & FLAG_STOP) != 0;
    return MND_OK;
}

static mnd_status check_replicas(mnd_run *r) {
    const int n_slot = mnd_updater_n_slot(&r->config->optimizer, r->config->ema);
    const mnd_status status =
        mnd_replica_check(r->comm, r->exchange, mnd_model_n_param(r->model), n_slot, r->step);
    return status == MND_OK ? mnd_comm_agree(r->comm, mnd_run_check_memory(r), NULL) : status;
}

/* Loss and right answers of the epoch, added in the tree of logical ranks. Collective. */
static mnd_status sum_epoch(mnd_run *r, mnd_epoch_record *record) {
    mnd_status status = MND_OK;
    int64_t correct = 0;
    const double images = (double)r->info.count[MND_TRAIN];
    MND_TRY(mnd_comm_allgatherv(r->comm, r->loss_sum, r->logical_bytes, r->loss_all));
    MND_TRY(mnd_comm_allgatherv(r->comm, r->correct, r->logical_bytes, r->correct_all));
    for (int l = 0; l < r->logical; l++) correct += r->correct_all[l];
    record->loss = mnd_tree_sum(r->loss_all, r->logical) / images;
    record->accuracy = (double)correct / images;
    memset(r->loss_sum, 0, (size_t)r->n_logical * sizeof *r->loss_sum);
    memset(r->correct, 0, (size_t)r->n_logical * sizeof *r->correct);
cleanup:
    return status;
}

/* Evaluates, compares the replicas, and reports. `images` were trained in `seconds`. Collective. */
static mnd_status finish_epoch(mnd_run *r, int64_t images, double seconds) {
    mnd_status status = MND_OK;
    mnd_evaluation test = {0};
    mnd_epoch_record record = {.epoch = (double)r->epoch + 1.0, .seconds = seconds};
    MND_TRY(sum_epoch(r, &record));
    const double begin = mnd_now();
    MND_TRY(mnd_run_evaluate(r, r->evaluator, &test));
    /* The last step's new parameters have not been through a training loss. */
    if (!isfinite(test.loss))
        MND_FAIL(MND_NUMERIC,
                 "the %s loss became NaN or infinite in epoch %lld, after step %lld; the last good "
                 "checkpoint stays; try a smaller --lr",
                 r->held_out > 0 ? "validation" : "test", (long long)r->epoch + 1,
                 (long long)r->step);
    MND_TRY(check_replicas(r));
    r->epoch++;
    r->step_in_epoch = 0;
    r->train_seconds += seconds;
    record.val_loss = test.loss;
    record.val_accuracy = (double)test.correct / (double)test.count;
    MND_TRY(mnd_run_report_epoch(r, &record, images, mnd_now() - begin));
cleanup:
    return status;
}

static mnd_status stop(mnd_run *r) {
    mnd_status status = mnd_run_save(r);
    if (status != MND_OK) return status;
    char name[16];
    mnd_signals_name(mnd_signals_pending(), name);
    if (r->config->checkpoint_dir == NULL)
        return mnd_fail(MND_STOPPED,
                        "stopped by %s after step %lld; no --checkpoint-dir, so nothing was saved",
                        name, (long long)r->step);
    return mnd_fail(MND_STOPPED,
                    "stopped by %s after step %lld, saved in %s: start again with --resume auto to "
                    "go on",
                    name, (long long)r->step, r->config->checkpoint_dir);
}

/* The steps that are left of the epoch. *stopped: it was ended by a signal before its last step. */
static mnd_status train_epoch(mnd_run *r, double begin, bool *stopped) {
    mnd_status status = MND_OK;
    const mnd_train_config *c = r->config;
    const int64_t first_step = r->step_in_epoch;
    *stopped = false;
    while (r->step_in_epoch < r->steps_per_epoch && !*stopped) {
        MND_TRY(one_step(r));
        mnd_run_report_progress(r, begin, first_step);
        if (r->step_in_epoch == r->steps_per_epoch) break; /* finish_epoch checks and saves */
        if (c->check_every > 0 && r->step % c->check_every == 0) MND_TRY(check_replicas(r));
        *stopped = r->stopping;
        if (!*stopped && c->checkpoint_every > 0 && r->step % c->checkpoint_every == 0)
            MND_TRY(mnd_run_save(r));
    }
cleanup:
    return status;
}

mnd_status mnd_run_epochs(mnd_run *r) {
    mnd_status status = MND_OK;
    while (mnd_run_finished(r) == MND_FINISH_NOT) {
        bool stopped;
        const double begin = mnd_now();
        const int64_t done = r->step_in_epoch * r->config->batch_size;
        mnd_loader_epoch(&r->loader, r->epoch + 1);
        mnd_step_reset(&r->stepper);
        MND_TRY(train_epoch(r, begin, &stopped));
        if (stopped) return stop(r);
        MND_TRY(finish_epoch(r, r->info.count[MND_TRAIN] - done, mnd_now() - begin));
        MND_TRY(mnd_run_save(r));
        if (r->stopping && mnd_run_finished(r) == MND_FINISH_NOT) return stop(r);
    }
cleanup:
    return status;
}
