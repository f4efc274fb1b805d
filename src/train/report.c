/* report.c - what a run tells: metrics lines, progress, its result. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "mnist_dist/kernels.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/timer.h"
#include "run.h"

static mnd_status write_start(mnd_run *r, const mnd_train_setup *setup) {
    const mnd_train_config *c = r->config;
    mnd_metrics *m = r->metrics;
    mnd_metrics_begin(m, "start");
    mnd_metrics_text(m, "version", MND_VERSION);
    mnd_metrics_int(m, "ranks", r->size);
    mnd_metrics_int(m, "logical_ranks", r->logical);
    mnd_metrics_int(m, "hosts", setup->nodes);
    mnd_metrics_int(m, "threads", c->threads);
    mnd_metrics_text(m, "model", mnd_model_text(r->model));
    mnd_metrics_int(m, "n_param", (int64_t)mnd_model_n_param(r->model));
    mnd_metrics_text(m, "optimizer", c->optimizer.ops->name);
    mnd_metrics_real(m, "lr", c->optimizer.lr);
    mnd_metrics_enter(m, "settings"); /* of the optimizer */
    for (int i = 0; i < c->optimizer.ops->n_setting; i++)
        mnd_metrics_real(m, c->optimizer.ops->setting[i].name, c->optimizer.setting[i]);
    mnd_metrics_leave(m);
    mnd_metrics_text(m, "schedule", r->schedule_text);
    if (c->clip_norm > 0.0) mnd_metrics_real(m, "clip_norm", c->clip_norm);
    if (c->ema > 0.0) mnd_metrics_real(m, "ema", c->ema);
    if (c->label_smoothing > 0.0) mnd_metrics_real(m, "label_smoothing", c->label_smoothing);
    char augment[MND_AUGMENT_TEXT];
    mnd_augment_text(&c->augment, augment);
    if (augment[0] != '\0') mnd_metrics_text(m, "augment", augment);
    mnd_metrics_int(m, "batch_size", c->batch_size);
    mnd_metrics_int(m, "epochs", c->epochs);
    mnd_metrics_int(m, "images", r->info.count[MND_TRAIN]);
    mnd_metrics_int(m, "validation", r->held_out);
    mnd_metrics_text(m, "monitor", mnd_monitor_name(c->monitor));
    if (c->patience > 0) mnd_metrics_int(m, "patience", c->patience);
    if (c->target_accuracy <= 1.0) mnd_metrics_real(m, "target_accuracy", c->target_accuracy);
    mnd_metrics_int(m, "seed", (int64_t)c->seed);
    mnd_metrics_text(m, "exchange", setup->exchange);
    mnd_metrics_text(m, "blas", mnd_products_name(c->plain));
    mnd_metrics_text(m, "arithmetic", mnd_arithmetic(c->plain));
    mnd_metrics_text(m, "mpi", mnd_comm_library(r->comm));
    mnd_metrics_text(m, "data", c->data);
    mnd_metrics_text(m, "data_sha256", r->info.data_sha256);
    if (c->resume != NULL) {
        mnd_metrics_text(m, "resume", c->resume);
        if (setup->resumed_from != NULL)
            mnd_metrics_text(m, "resumed_from", setup->resumed_from);
        else
            mnd_metrics_real(m, "resumed_from", NAN); /* null: nothing was found */
    }
    mnd_status status = mnd_metrics_end(m);
    if (status != MND_OK || setup->resumed_from == NULL) return status;
    mnd_metrics_begin(m, "resume");
    mnd_metrics_text(m, "path", setup->resumed_from);
    mnd_metrics_int(m, "epoch", r->epoch);
    mnd_metrics_int(m, "step", r->step);
    return mnd_metrics_end(m);
}

/* A number that cannot lie outside [0, most], whatever happened: null then. */
static void add_within(mnd_metrics *m, const char *key, double value, double most) {
    mnd_metrics_real(m, key, value >= 0.0 && value <= most ? value : NAN);
}

static mnd_status write_epoch(mnd_metrics *m, const mnd_train_epoch *e) {
    mnd_metrics_begin(m, "epoch");
    mnd_metrics_int(m, "epoch", (int64_t)e->record.epoch);
    mnd_metrics_int(m, "step", e->step);
    mnd_metrics_real(m, "loss", e->record.loss);
    add_within(m, "accuracy", e->record.accuracy, 1.0);
    mnd_metrics_real(m, "val_loss", e->record.val_loss);
    add_within(m, "val_accuracy", e->record.val_accuracy, 1.0);
    add_within(m, "seconds", e->record.seconds, DBL_MAX);
    add_within(m, "evaluate_seconds", e->evaluate_seconds, DBL_MAX);
    add_within(m, "images_per_second", e->images_per_second, DBL_MAX);
    mnd_metrics_real(m, "lr", e->lr);
    mnd_metrics_enter(m, "time");
    mnd_metrics_real(m, "data", e->time.data);
    mnd_metrics_real(m, "compute", e->time.compute);
    mnd_metrics_real(m, "exchange", e->time.exchange);
    mnd_metrics_real(m, "optimizer", e->time.optimizer);
    mnd_metrics_real(m, "wait", e->time.wait);
    mnd_metrics_leave(m);
    mnd_metrics_real(m, "process_seconds", mnd_process_age());
    return mnd_metrics_end(m);
}

mnd_status mnd_run_check_metrics(mnd_run *r) {
    const mnd_train_config *c = r->config;
    if (r->rank != 0 || c->metrics == NULL) return MND_OK;
    /* Who goes on may have to wait for the run before; a new run is not to wait for another one. */
    const double timeout = c->resume != NULL ? mnd_run_lock_timeout(r) : 0.5;
    const mnd_status status = mnd_metrics_check_free(c->metrics, timeout);
    if (status == MND_OK || c->resume == NULL) return status;
    mnd_run_warn(r, "%s", mnd_error()); /* as for the checkpoint folder */
    return MND_OK;
}

/* Sets the lines of another branch aside. */
static mnd_status go_back(mnd_run *r) {
    char copy[4096];
    const mnd_metrics_point point = {.epoch = r->epoch,
                                     .step = r->step,
                                     .history = r->history,
                                     .n_history = r->n_history,
                                     .branch = !mnd_run_picks_newest(r)};
    const char *path = r->config->metrics;
    const mnd_status status = mnd_metrics_go_back(path, &point, copy, sizeof copy);
    if (status == MND_OK && copy[0] != '\0')
        mnd_run_warn(r, "%s goes on from step %lld: as it was it is kept as %s", path,
                     (long long)r->step, copy);
    return status;
}

/* Opens the metrics file: of a new run, or of one that goes on. */
static mnd_status open_metrics(mnd_run *r, bool resumed) {
    mnd_status status = MND_OK;
    const char *path = r->config->metrics;
    char moved[4096];
    if (resumed) {
        MND_TRY(go_back(r));
        return mnd_metrics_open(path, r->epoch, &r->metrics);
    }
    MND_TRY(mnd_metrics_set_aside(path, r->aside, moved, sizeof moved));
    if (moved[0] != '\0')
        mnd_run_warn(r, "a new run: the metrics of an earlier one were moved to %s", moved);
    status = mnd_metrics_open(path, -1, &r->metrics);
cleanup:
    return status;
}

mnd_status mnd_run_report_start(mnd_run *r, const mnd_train_setup *setup) {
    mnd_status status = MND_OK;
    if (r->rank != 0) return MND_OK;
    if (r->config->metrics != NULL) {
        MND_TRY(open_metrics(r, setup->resumed_from != NULL));
        /* Epochs that the checkpoint knows but the file has lost. */
        for (int64_t i = mnd_metrics_last_epoch(r->metrics); i < r->n_history; i++)
            MND_TRY(write_epoch(
                r->metrics,
                &(mnd_train_epoch){.record = r->history[i],
                                   .step = (i + 1) * r->steps_per_epoch,
                                   .images_per_second =
                                       (double)r->info.count[MND_TRAIN] / r->history[i].seconds}));
        MND_TRY(write_start(r, setup));
    }
    if (r->observer->setup != NULL) r->observer->setup(r->observer->context, setup);
cleanup:
    return status;
}

void mnd_run_report_progress(const mnd_run *r, double begin, int64_t first_step) {
    if (r->rank != 0 || r->observer->progress == NULL) return;
    double loss = 0.0;
    int64_t correct = 0, seen = 0;
    const int64_t batch = r->config->batch_size, images = r->info.count[MND_TRAIN];
    const int64_t done = r->step_in_epoch * batch < images ? r->step_in_epoch * batch : images;
    for (int s = 0; s < r->n_logical; s++) {
        loss += r->loss_sum[s];
        correct += r->correct[s];
        seen += mnd_samples_before(done, r->logical, r->first + s);
    }
    const double seconds = mnd_now() - begin, n = (double)(seen > 0 ? seen : 1);
    const mnd_train_progress p = {.epoch = r->epoch + 1,
                                  .epochs = r->config->epochs,
                                  .step = r->step_in_epoch,
                                  .steps = r->steps_per_epoch,
                                  .loss = loss / n,
                                  .accuracy = (double)correct / n,
                                  .images_per_second =
                                      (double)(done - first_step * batch) / seconds,
                                  .seconds = seconds};
    r->observer->progress(r->observer->context, &p);
}

/* The mean over all processes. Collective. */
static mnd_status mean_time(mnd_run *r, mnd_time_split *time) {
    mnd_status status = MND_OK;
    mnd_time_split *all;
    const mnd_time_split mine = *time;
    MND_NEW_AGREED(r->comm, all, r->size, "times");
    MND_TRY(mnd_comm_allgather(r->comm, &mine, sizeof mine, all));
    *time = (mnd_time_split){0};
    for (int q = 0; q < r->size; q++) mnd_time_add(time, &all[q], 1.0 / r->size);
cleanup:
    mnd_free(all);
    return status;
}

mnd_status mnd_run_report_epoch(mnd_run *r, const mnd_epoch_record *record, int64_t images,
                                double evaluate_seconds) {
    mnd_status status = MND_OK;
    if (r->n_history < r->history_capacity) r->history[r->n_history++] = *record;
    mnd_run_take_best(r);
    mnd_train_epoch e = {.record = *record,
                         .epochs = r->config->epochs,
                         .step = r->step,
                         .images_per_second = (double)images / record->seconds,
                         .evaluate_seconds = evaluate_seconds,
                         .lr = r->rate,
                         .time = mnd_step_time(&r->stepper),
                         .best = r->best_epoch == r->epoch};
    MND_TRY(mean_time(r, &e.time));
    if (r->metrics != NULL) status = write_epoch(r->metrics, &e);
    MND_TRY(mnd_comm_agree(r->comm, status, NULL));
    if (r->rank == 0 && r->observer->epoch != NULL) r->observer->epoch(r->observer->context, &e);
cleanup:
    return status;
}

mnd_status mnd_run_report_end(mnd_run *r) {
    mnd_train_result *out = r->result;
    const mnd_finish finish = mnd_run_finished(r);
    out->best_accuracy = r->best_accuracy;
    out->best_loss = r->best_loss;
    out->best_epoch = r->best_epoch;
    out->epochs = r->epoch;
    out->steps = r->step;
    out->seconds = mnd_now() - r->started;
    out->validation = r->held_out;
    mnd_run_best_checkpoint(r, out->best_checkpoint, sizeof out->best_checkpoint);
    if (finish != MND_FINISH_EPOCHS || r->step == r->first_step)
        mnd_finish_text(finish, r->config, r->history, r->n_history, out->finished,
                        sizeof out->finished);
    float *weights;
    mnd_status status = mnd_run_weights(r, &weights);
    if (status != MND_OK) return status;
    status = mnd_sha256_buffer(weights, mnd_model_n_param(r->model) * sizeof *weights,
                               out->weights_sha256);
    if (status == MND_OK && r->metrics != NULL) {
        mnd_metrics *m = r->metrics;
        mnd_metrics_begin(m, "end");
        mnd_metrics_real(m, "test_accuracy", out->test_accuracy);
        mnd_metrics_real(m, "test_loss", out->test_loss);
        mnd_metrics_real(m, "best_accuracy", out->best_accuracy);
        mnd_metrics_real(m, "best_loss", out->best_loss);
        mnd_metrics_int(m, "best_epoch", out->best_epoch);
        mnd_metrics_text(m, "reason", mnd_finish_name(finish));
        mnd_metrics_int(m, "epochs", out->epochs);
        mnd_metrics_int(m, "step", out->steps);
        mnd_metrics_text(m, "weights_sha256", out->weights_sha256);
        mnd_metrics_real(m, "seconds", out->seconds);
        mnd_metrics_real(m, "process_seconds", mnd_process_age());
        status = mnd_metrics_end(m);
    }
    return mnd_comm_agree(r->comm, status, NULL);
}
