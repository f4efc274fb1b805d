#include "mnist_dist/train.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault.h"
#include "feed.h"
#include "mnist_dist/doctor.h"
#include "mnist_dist/evaluate.h"
#include "mnist_dist/exchange.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/metrics.h"
#include "mnist_dist/timer.h"
#include "mnist_dist/watchdog.h"
#include "replica.h"
#include "signals.h"
#include "snapshot.h"
#include "stepper.h"

/* What processes tell one another with every exchange. */
enum { FLAG_STOP = 1, FLAG_NUMERIC = 2, FLAG_DAMAGED = 4 };

typedef struct run {
    const mnd_train_config *config;
    const mnd_train_observer *observer;
    mnd_comm *comm;
    int rank, size;
    double started;

    mnd_dataset *data; /* open during set-up only */
    mnd_dataset_info info;
    mnd_shape input;
    int logical, first, n_seg; /* logical ranks [first, first + n_seg) are here */
    mnd_model *model;
    mnd_exchange *exchange;
    mnd_feed feed;
    mnd_stepper stepper;
    mnd_evaluator *evaluator;
    mnd_metrics *metrics; /* rank 0 */
    int folder_lock;      /* rank 0: as long as it is open no other run writes there; or -1 */
    mnd_schedule schedule;
    char schedule_text[128];

    /* Where the run is. */
    int64_t steps_per_epoch, epoch, step, step_in_epoch; /* finished epochs; steps taken */
    double *loss_sum, *step_loss; /* (n_seg): of the epoch so far, of one step; owned */
    int64_t *correct, *step_correct;
    double best_accuracy;
    int64_t best_epoch;
    double train_seconds;      /* of earlier starts and this one, epochs only */
    mnd_epoch_record *history; /* owned */
    int64_t n_history, history_room;

    double rate;                    /* of the current step */
    float *described;               /* (n_param) for mnd_model_describe, owned */
    mnd_checkpoint saved;           /* filled once, then only its figures change; rank 0 */
    float *slot_all[MND_MAX_SLOTS]; /* rank 0: whole slots, owned */
    double *loss_all;               /* (logical), owned */
    int64_t *correct_all;           /* (logical), owned */
    size_t *seg_bytes;              /* (size): 8 bytes a logical rank, owned */
    bool stopping;
    mnd_watchdog *dog;
    mnd_fault fault;
    mnd_train_result *result;
} run;

static void warn(const run *r, const char *format, ...) MND_PRINTF(2, 3);
static void warn(const run *r, const char *format, ...) {
    if (r->rank != 0 || r->observer->warning == NULL) return;
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    r->observer->warning(r->observer->context, text);
}

/* -------------------------------------------------------------------------------------- set-up */

/* All processes must have opened the same data. */
static mnd_status open_data(run *r) {
    mnd_status status = mnd_dataset_open(r->config->data, &r->data);
    status = mnd_comm_agree(r->comm, status, NULL);
    if (status != MND_OK) return status;
    r->info = *mnd_dataset_about(r->data);
    r->input = (mnd_shape){.ndim = 3, .dim = {r->info.height, r->info.width, r->info.channels}};

    mnd_dataset_info first = r->info;
    status = mnd_comm_bcast(r->comm, &first, sizeof first, 0);
    if (status != MND_OK) return status;
    if (memcmp(first.count, r->info.count, sizeof first.count) != 0 ||
        first.height != r->info.height || first.width != r->info.width ||
        first.channels != r->info.channels || first.classes != r->info.classes ||
        strcmp(first.data_sha256, r->info.data_sha256) != 0)
        status =
            mnd_fail(MND_MISMATCH,
                     "%s on %s is not the file that rank 0 sees: give every host the same file",
                     r->config->data, mnd_comm_host(r->comm));
    return mnd_comm_agree(r->comm, status, NULL);
}

/* Two runs in one folder would take each other's checkpoints away. Nothing to do before it exists.
 */
static mnd_status lock_folder(run *r) {
    const mnd_train_config *c = r->config;
    if (r->rank != 0 || c->checkpoint_dir == NULL || r->folder_lock >= 0) return MND_OK;
    /* A run that was just killed may take a moment to go. */
    const double patience =
        c->stall_timeout > 0.0 && c->stall_timeout < 10.0 ? c->stall_timeout / 2.0 : 5.0;
    const mnd_status status = mnd_checkpoint_lock(c->checkpoint_dir, patience, &r->folder_lock);
    if (status != MND_IO || c->resume == NULL) return status;
    /* Slurm puts a job back while what is left of it may still hang on a node it has lost. */
    warn(r, "%s", mnd_error());
    return MND_OK;
}

static void note_skipped(void *context, const char *path, const char *why) {
    (void)path; /* `why` begins with it */
    warn(context, "passed over: %s", why);
}

/* Rank 0 picks the checkpoint, every process reads it. *found is false for a fresh start. */
static mnd_status read_checkpoint(run *r, mnd_checkpoint *ckpt, char path[4096], bool *found) {
    const mnd_train_config *c = r->config;
    mnd_status status = MND_OK;
    *found = false;
    if (c->resume == NULL) return MND_OK;
    if (strcmp(c->resume, "auto") != 0) {
        snprintf(path, 4096, "%s", c->resume);
        status = mnd_checkpoint_read(path, ckpt);
    } else {
        if (c->checkpoint_dir == NULL)
            return mnd_fail(MND_USAGE, "--resume auto needs --checkpoint-dir");
        path[0] = '\0';
        if (r->rank == 0) {
            status =
                mnd_checkpoint_read_latest(c->checkpoint_dir, note_skipped, r, ckpt, path, 4096);
            if (status == MND_NOT_FOUND) {
                path[0] = '\0';
                status = MND_OK;
            }
        }
        status = mnd_comm_agree(r->comm, status, NULL);
        if (status == MND_OK) status = mnd_comm_bcast(r->comm, path, 4096, 0);
        if (status != MND_OK || path[0] == '\0') return status;
        if (r->rank != 0) status = mnd_checkpoint_read(path, ckpt);
    }
    status = mnd_comm_agree(r->comm, status, NULL);
    if (status != MND_OK) return status;
    *found = true;
    char first[MND_SHA256_HEX];
    memcpy(first, ckpt->weights_sha256, sizeof first);
    status = mnd_comm_bcast(r->comm, first, sizeof first, 0);
    if (status == MND_OK && strcmp(first, ckpt->weights_sha256) != 0)
        status = mnd_fail(MND_MISMATCH, "%s on %s is not the file that rank 0 reads", path,
                          mnd_comm_host(r->comm));
    return mnd_comm_agree(r->comm, status, NULL);
}

/* Whether the options continue the run of the checkpoint. The same on every process. */
static mnd_status check_resume(const run *r, const mnd_checkpoint *k, const char *path) {
    const mnd_train_config *c = r->config;
    char spec[MND_SPEC_MAX];
    mnd_status status = mnd_model_spec(c->model, r->info.classes, spec, sizeof spec);
    if (status != MND_OK) return status;
    if (strcmp(spec, k->spec) != 0)
        return mnd_fail(MND_MISMATCH, "%s is of the model %s: give --model %s, or start afresh",
                        path, k->spec, k->spec);
    if (k->input[0] != r->input.dim[0] || k->input[1] != r->input.dim[1] ||
        k->input[2] != r->input.dim[2] || k->classes != r->info.classes)
        return mnd_fail(MND_MISMATCH, "%s was trained on images of %d x %d x %d, not those of %s",
                        path, k->input[0], k->input[1], k->input[2], c->data);
    if (k->seed != c->seed)
        return mnd_fail(MND_MISMATCH,
                        "%s was written with --seed %llu: give the same, or start "
                        "afresh",
                        path, (unsigned long long)k->seed);
    if (k->batch_size != c->batch_size)
        return mnd_fail(MND_MISMATCH,
                        "%s was written with --batch-size %lld: give the same, or start afresh",
                        path, (long long)k->batch_size);
    if (c->logical_ranks > 0 && c->logical_ranks != k->logical_ranks)
        return mnd_fail(MND_MISMATCH,
                        "%s has %d logical ranks: leave --logical-ranks out, or start afresh", path,
                        k->logical_ranks);
    if (strcmp(k->optimizer, mnd_optimizer_name(c->optimizer.kind)) != 0)
        return mnd_fail(MND_MISMATCH,
                        "%s was written with --optimizer %s: give the same, or start afresh", path,
                        k->optimizer);
    if (strcmp(k->data_sha256, r->info.data_sha256) != 0)
        return mnd_fail(MND_MISMATCH, "%s was trained on other data than %s holds", path, c->data);
    double setting[8];
    mnd_optimizer_pack(&c->optimizer, setting);
    if (memcmp(setting, k->setting, sizeof setting) != 0 ||
        strcmp(r->schedule_text, k->schedule) != 0)
        warn(r,
             "learning rate, schedule or optimizer settings differ from those of %s: the run goes "
             "on with the new ones",
             path);
    if (strcmp(k->blas, mnd_arithmetic(c->plain)) != 0)
        warn(r,
             "%s was computed with '%s', this run uses '%s': the bits will differ from an "
             "uninterrupted run",
             path, k->blas, mnd_arithmetic(c->plain));
    return MND_OK;
}

static void plan_schedule(run *r) {
    const mnd_train_config *c = r->config;
    const double steps = (double)r->steps_per_epoch;
    r->schedule = (mnd_schedule){.kind = c->schedule,
                                 .lr = c->optimizer.lr,
                                 .warmup = (int64_t)(c->warmup_epochs * steps + 0.5),
                                 .period = (int64_t)(c->step_epochs * steps + 0.5),
                                 .gamma = c->step_gamma,
                                 .total = r->steps_per_epoch * c->epochs,
                                 .final_fraction = c->final_fraction};
    mnd_schedule_text(&r->schedule, r->schedule_text, sizeof r->schedule_text);
}

static mnd_status check_sizes(const run *r) {
    const mnd_train_config *c = r->config;
    const int64_t images = r->info.count[MND_TRAIN];
    if (r->logical < r->size)
        return mnd_fail(
            MND_USAGE,
            "%d processes cannot share %d logical ranks: start at most %d processes, or "
            "a new run with --logical-ranks %d",
            r->size, r->logical, r->logical, r->size);
    if (r->logical > images)
        return mnd_fail(MND_USAGE,
                        "%d logical ranks (at least one a process) are more than the %lld training "
                        "images of %s",
                        r->logical, (long long)images, c->data);
    if (c->batch_size > INT32_MAX / 2)
        return mnd_fail(MND_USAGE, "--batch-size %lld is too large", (long long)c->batch_size);
    return MND_OK;
}

static mnd_status allocate(run *r) {
    mnd_status status = MND_OK;
    void *p = NULL;
    const size_t n = (size_t)r->n_seg, v = (size_t)r->logical;
    MND_TRY(mnd_alloc(&p, n, sizeof *r->loss_sum, "sums"));
    r->loss_sum = p;
    MND_TRY(mnd_alloc(&p, n, sizeof *r->step_loss, "sums"));
    r->step_loss = p;
    MND_TRY(mnd_alloc(&p, n, sizeof *r->correct, "sums"));
    r->correct = p;
    MND_TRY(mnd_alloc(&p, n, sizeof *r->step_correct, "sums"));
    r->step_correct = p;
    MND_TRY(mnd_alloc(&p, v, sizeof *r->loss_all, "sums"));
    r->loss_all = p;
    MND_TRY(mnd_alloc(&p, v, sizeof *r->correct_all, "sums"));
    r->correct_all = p;
    MND_TRY(mnd_alloc(&p, (size_t)r->size, sizeof *r->seg_bytes, "sums"));
    r->seg_bytes = p;
    for (int q = 0; q < r->size; q++)
        r->seg_bytes[q] = 8 * (size_t)(mnd_logical_first(r->logical, r->size, q + 1) -
                                       mnd_logical_first(r->logical, r->size, q));
    r->history_room = r->config->epochs > r->epoch ? r->config->epochs : r->epoch;
    MND_TRY(mnd_alloc(&p, (size_t)r->history_room + 1, sizeof *r->history, "the history"));
    r->history = p;
    MND_TRY(mnd_alloc(&p, mnd_model_n_param(r->model), sizeof *r->described, "the parameters"));
    r->described = p;
cleanup:
    return status;
}

/* Shards, model, and room for everything: what may fail on one process alone. */
static mnd_status prepare(run *r) {
    mnd_status status = MND_OK;
    const mnd_train_config *c = r->config;
    MND_TRY(
        mnd_feed_create(&r->feed, r->data, r->logical, r->first, r->n_seg, c->batch_size, c->seed));
    MND_TRY(mnd_evaluator_create(r->comm, r->data, MND_TEST, &r->evaluator));
    const mnd_model_options options = {
        .max_rows = r->feed.max_rows > MND_EVALUATE_CHUNK ? r->feed.max_rows : MND_EVALUATE_CHUNK,
        .max_seg = r->n_seg,
        .training = true,
        .plain = c->plain,
        .threads = c->threads,
        .peers = mnd_feed_peers(&r->feed, r->comm, MND_EVALUATE_CHUNK)};
    MND_TRY(mnd_model_create(c->model, &r->input, r->info.classes, &options, &r->model));
    MND_TRY(allocate(r));
cleanup:
    return status;
}

/* Parameters and optimizer state: drawn from the seed, or those of the checkpoint. */
static mnd_status fill_state(run *r, const mnd_checkpoint *ckpt) {
    mnd_status status = MND_OK;
    float *param = mnd_exchange_param(r->exchange);
    size_t first, count;
    if (mnd_exchange_writes_param(r->exchange)) {
        if (ckpt == NULL)
            mnd_model_initialize(r->model, r->config->init, r->config->seed);
        else
            status = mnd_snapshot_load(r->model, ckpt, r->described);
        if (ckpt != NULL && status == MND_OK) mnd_model_keep(r->model, r->described, param);
    }
    mnd_exchange_slice(r->exchange, &first, &count);
    const int slots = mnd_optimizer_slots(r->config->optimizer.kind);
    if (status == MND_OK && ckpt != NULL) {
        const int64_t n = (int64_t)mnd_model_n_param(r->model);
        if (ckpt->n_slot != slots)
            status = mnd_fail(MND_MISMATCH, "the checkpoint has %d optimizer slots instead of %d",
                              ckpt->n_slot, slots);
        for (int s = 0; s < slots && status == MND_OK; s++) {
            if (ckpt->slot[s].dim[0] != n || ckpt->slot[s].ndim != 1)
                status =
                    mnd_fail(MND_MISMATCH, "the checkpoint's optimizer state has another size");
            if (status != MND_OK) break;
            mnd_model_keep(r->model, ckpt->slot[s].data, r->described);
            memcpy(mnd_exchange_slot(r->exchange, s) + first, r->described + first,
                   count * sizeof(float));
        }
    }
    status = mnd_comm_agree(r->comm, status, NULL);
    return status == MND_OK ? mnd_exchange_publish(r->exchange) : status;
}

static void take_progress(run *r, const mnd_checkpoint *k) {
    r->epoch = k->epoch;
    r->step = k->step;
    r->step_in_epoch = k->step_in_epoch;
    r->best_accuracy = k->best_accuracy;
    r->best_epoch = k->best_epoch;
    r->train_seconds = k->train_seconds;
}

/* What rank 0 needs to write checkpoints. */
static mnd_status prepare_checkpoints(run *r) {
    mnd_status status = MND_OK;
    const mnd_train_config *c = r->config;
    void *p = NULL;
    mnd_checkpoint *k = &r->saved;
    if (c->checkpoint_dir == NULL || r->rank != 0) return MND_OK;
    if (mkdir(c->checkpoint_dir, 0777) != 0 && errno != EEXIST)
        MND_FAIL(MND_IO, "%s: cannot create the checkpoint folder: %s", c->checkpoint_dir,
                 strerror(errno));
    if (access(c->checkpoint_dir, W_OK | X_OK) != 0)
        MND_FAIL(MND_IO, "%s: cannot write checkpoints there: %s", c->checkpoint_dir,
                 strerror(errno));
    MND_TRY(lock_folder(r));
    MND_TRY(mnd_snapshot_describe(r->model, &r->input, r->info.classes, r->described, k));
    k->n_slot = mnd_optimizer_slots(c->optimizer.kind);
    MND_TRY(mnd_alloc(&p, (size_t)k->n_slot, sizeof *k->slot, "the checkpoint"));
    k->slot = p;
    const size_t n = mnd_model_n_param(r->model);
    for (int s = 0; s < k->n_slot; s++) {
        MND_TRY(mnd_alloc(&p, n, sizeof(float), "the checkpoint's optimizer state"));
        r->slot_all[s] = p;
        k->slot[s] = (mnd_ckpt_array){.ndim = 1, .dim = {(int64_t)n}, .data = p};
        snprintf(k->slot[s].name, sizeof k->slot[s].name, "%s",
                 mnd_optimizer_slot_name(c->optimizer.kind, s));
    }
    snprintf(k->blas, sizeof k->blas, "%s", mnd_arithmetic(c->plain));
    snprintf(k->optimizer, sizeof k->optimizer, "%s", mnd_optimizer_name(c->optimizer.kind));
    mnd_optimizer_pack(&c->optimizer, k->setting);
    snprintf(k->schedule, sizeof k->schedule, "%s", r->schedule_text);
    snprintf(k->data_sha256, sizeof k->data_sha256, "%s", r->info.data_sha256);
    k->seed = c->seed;
    k->logical_ranks = r->logical;
    k->batch_size = c->batch_size;
    k->planned_epochs = c->epochs;
cleanup:
    return status;
}

static mnd_status write_start(run *r, const mnd_train_setup *setup) {
    const mnd_train_config *c = r->config;
    mnd_metrics *m = r->metrics;
    if (m == NULL) return MND_OK;
    mnd_metrics_begin(m, "start");
    mnd_metrics_text(m, "version", MND_VERSION);
    mnd_metrics_int(m, "ranks", r->size);
    mnd_metrics_int(m, "logical_ranks", r->logical);
    mnd_metrics_int(m, "hosts", setup->nodes);
    mnd_metrics_int(m, "threads", c->threads);
    mnd_metrics_text(m, "model", mnd_model_text(r->model));
    mnd_metrics_int(m, "n_param", (int64_t)mnd_model_n_param(r->model));
    mnd_metrics_text(m, "optimizer", mnd_optimizer_name(c->optimizer.kind));
    mnd_metrics_real(m, "lr", c->optimizer.lr);
    mnd_metrics_text(m, "schedule", r->schedule_text);
    mnd_metrics_int(m, "batch_size", c->batch_size);
    mnd_metrics_int(m, "epochs", c->epochs);
    mnd_metrics_int(m, "seed", (int64_t)c->seed);
    mnd_metrics_text(m, "exchange", setup->exchange);
    mnd_metrics_text(m, "blas", mnd_products_name(c->plain));
    mnd_metrics_text(m, "arithmetic", mnd_arithmetic(c->plain));
    mnd_metrics_text(m, "mpi", mnd_comm_library(r->comm));
    mnd_metrics_text(m, "data", c->data);
    mnd_metrics_text(m, "data_sha256", r->info.data_sha256);
    mnd_status status = mnd_metrics_end(m);
    if (status != MND_OK || setup->resumed_from == NULL) return status;
    mnd_metrics_begin(m, "resume");
    mnd_metrics_text(m, "path", setup->resumed_from);
    mnd_metrics_int(m, "epoch", r->epoch);
    mnd_metrics_int(m, "step", r->step);
    return mnd_metrics_end(m);
}

static mnd_status write_epoch_line(run *r, const mnd_train_epoch *e) {
    mnd_metrics *m = r->metrics;
    mnd_metrics_begin(m, "epoch");
    mnd_metrics_int(m, "epoch", (int64_t)e->record.epoch);
    mnd_metrics_int(m, "step", e->step);
    mnd_metrics_real(m, "loss", e->record.loss);
    mnd_metrics_real(m, "accuracy", e->record.accuracy);
    mnd_metrics_real(m, "val_loss", e->record.val_loss);
    mnd_metrics_real(m, "val_accuracy", e->record.val_accuracy);
    mnd_metrics_real(m, "seconds", e->record.seconds);
    mnd_metrics_real(m, "evaluate_seconds", e->evaluate_seconds);
    mnd_metrics_real(m, "images_per_second", e->images_per_second);
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

/* Rank 0: the metrics file. Epochs that the checkpoint knows but the file lost come from history.
 */
static mnd_status open_metrics(run *r, bool resumed) {
    mnd_status status = MND_OK;
    if (r->rank != 0 || r->config->metrics == NULL) return MND_OK;
    MND_TRY(mnd_metrics_open(r->config->metrics, resumed ? r->epoch : -1, &r->metrics));
    for (int64_t i = mnd_metrics_last_epoch(r->metrics); i < r->n_history; i++) {
        const mnd_train_epoch e = {.record = r->history[i],
                                   .step = (i + 1) * r->steps_per_epoch,
                                   .images_per_second =
                                       (double)r->info.count[MND_TRAIN] / r->history[i].seconds};
        MND_TRY(write_epoch_line(r, &e));
    }
cleanup:
    return status;
}

static mnd_status set_up(run *r) {
    mnd_status status = MND_OK;
    const mnd_train_config *c = r->config;
    mnd_checkpoint ckpt = {0};
    char path[4096];
    bool resumed = false;
    /* Only where it does the products: its idle threads would cost address space. */
    mnd_blas_set_threads(strcmp(mnd_arithmetic(c->plain), MND_NATIVE_ARITHMETIC) == 0 ? 1
                                                                                      : c->threads);
    const mnd_doctor_request doctor = {.threads = c->threads, .plain = c->plain};
    MND_TRY(mnd_doctor_admit(r->comm, &doctor));
    MND_TRY(mnd_comm_agree(r->comm, mnd_fault_read(r->rank, &r->fault), NULL));
    MND_TRY(mnd_watchdog_start(r->comm, c->stall_timeout, &r->dog));
    mnd_watchdog_phase(r->dog, MND_PHASE_DATA, 0);
    MND_TRY(open_data(r));
    r->steps_per_epoch = (r->info.count[MND_TRAIN] + c->batch_size - 1) / c->batch_size;
    plan_schedule(r);
    MND_TRY(mnd_comm_agree(r->comm, lock_folder(r), NULL));
    MND_TRY(read_checkpoint(r, &ckpt, path, &resumed));
    if (resumed) {
        MND_TRY(check_resume(r, &ckpt, path));
        take_progress(r, &ckpt);
    }
    r->logical = resumed ? ckpt.logical_ranks : c->logical_ranks > 0 ? c->logical_ranks : r->size;
    MND_TRY(check_sizes(r));
    r->first = mnd_logical_first(r->logical, r->size, r->rank);
    r->n_seg = mnd_logical_first(r->logical, r->size, r->rank + 1) - r->first;
    MND_TRY(mnd_comm_agree(r->comm, prepare(r), NULL));
    mnd_dataset_close(&r->data);
    if (resumed) {
        r->n_history = ckpt.n_history < r->history_room ? ckpt.n_history : r->history_room;
        memcpy(r->history, ckpt.history, (size_t)r->n_history * sizeof *r->history);
        memcpy(r->loss_sum, ckpt.loss_sum + r->first, (size_t)r->n_seg * sizeof *r->loss_sum);
        memcpy(r->correct, ckpt.correct + r->first, (size_t)r->n_seg * sizeof *r->correct);
    }
    r->stepper = (mnd_stepper){.feed = &r->feed,
                               .model = r->model,
                               .optimizer = &c->optimizer,
                               .threads = c->threads,
                               .dog = r->dog};
    MND_TRY(mnd_stepper_join(&r->stepper, r->comm, c->exchange));
    r->exchange = r->stepper.exchange;
    if (mnd_exchange_note(r->exchange)[0] != '\0') warn(r, "%s", mnd_exchange_note(r->exchange));
    MND_TRY(fill_state(r, resumed ? &ckpt : NULL));
    status = prepare_checkpoints(r);
    if (status == MND_OK && r->rank == 0 && !resumed && c->checkpoint_dir != NULL) {
        char aside[4096] = "";
        status = mnd_checkpoint_set_aside(c->checkpoint_dir, aside, sizeof aside);
        if (status == MND_OK && aside[0] != '\0')
            warn(r,
                 "a new run: the checkpoints of an earlier one were moved to %s (--resume auto "
                 "goes on instead)",
                 aside);
    }
    if (status == MND_OK) status = open_metrics(r, resumed);
    const mnd_train_setup setup = {.config = c,
                                   .data = &r->info,
                                   .model = r->model,
                                   .comm = r->comm,
                                   .logical_ranks = r->logical,
                                   .threads = c->threads,
                                   .nodes = mnd_comm_nodes(r->comm),
                                   .exchange = mnd_exchange_name(r->exchange),
                                   .steps_per_epoch = r->steps_per_epoch,
                                   .resumed_epoch = r->epoch,
                                   .resumed_step = r->step,
                                   .resumed_from = resumed ? path : NULL};
    if (status == MND_OK) status = write_start(r, &setup);
    MND_TRY(mnd_comm_agree(r->comm, status, NULL));
    if (r->rank == 0 && r->observer->setup != NULL)
        r->observer->setup(r->observer->context, &setup);
cleanup:
    mnd_dataset_close(&r->data);
    mnd_checkpoint_free(&ckpt);
    return status;
}

/* Before the state is saved, or called the result. */
static mnd_status check_memory(run *r) {
    if (mnd_stepper_intact(&r->stepper)) return MND_OK;
    return mnd_fail(MND_MISMATCH,
                    "parameters or optimizer state of rank %d on host %s are not what the step "
                    "before left behind (noticed at step %lld): a bit was flipped in memory; the "
                    "last good checkpoint stays: start again with --resume auto",
                    r->rank, mnd_comm_host(r->comm), (long long)r->step);
}

/* ---------------------------------------------------------------------------------- checkpoints */

/* Also leaves the parameters in r->described. */
static mnd_status hash_weights(const run *r, char hex[MND_SHA256_HEX]) {
    mnd_model_describe(r->model, mnd_exchange_param(r->exchange), r->described);
    return mnd_sha256_buffer(r->described, mnd_model_n_param(r->model) * sizeof(float), hex);
}

/* Brings the state to rank 0, which writes it. Collective. */
static mnd_status save(run *r) {
    mnd_status status = MND_OK;
    const mnd_train_config *c = r->config;
    if (c->checkpoint_dir == NULL) return MND_OK;
    mnd_watchdog_phase(r->dog, MND_PHASE_WAIT, r->step);
    MND_TRY(mnd_comm_agree(r->comm, check_memory(r), NULL));
    for (int s = 0; s < mnd_optimizer_slots(c->optimizer.kind); s++) {
        MND_TRY(mnd_exchange_gather_slot(r->exchange, s, r->described));
        if (r->rank == 0) mnd_model_describe(r->model, r->described, r->slot_all[s]);
    }
    MND_TRY(mnd_comm_allgatherv(r->comm, r->loss_sum, r->seg_bytes, r->loss_all));
    MND_TRY(mnd_comm_allgatherv(r->comm, r->correct, r->seg_bytes, r->correct_all));
    if (r->rank == 0) {
        mnd_checkpoint *k = &r->saved;
        mnd_watchdog_phase(r->dog, MND_PHASE_CHECKPOINT, r->step);
        k->n_update = r->step;
        k->epoch = r->epoch;
        k->step = r->step;
        k->step_in_epoch = r->step_in_epoch;
        k->best_accuracy = r->best_accuracy;
        k->best_epoch = r->best_epoch;
        k->train_seconds = r->train_seconds;
        k->loss_sum = r->loss_all;
        k->correct = r->correct_all;
        k->n_history = r->n_history;
        k->history = r->history;
        status = hash_weights(r, k->weights_sha256);
        if (status == MND_OK)
            status = mnd_checkpoint_write(c->checkpoint_dir, k, c->keep, r->result->checkpoint,
                                          sizeof r->result->checkpoint);
        if (status == MND_OK && r->metrics != NULL) {
            mnd_metrics_begin(r->metrics, "checkpoint");
            mnd_metrics_int(r->metrics, "step", r->step);
            mnd_metrics_text(r->metrics, "path", r->result->checkpoint);
            status = mnd_metrics_end(r->metrics);
        }
    }
    status = mnd_comm_agree(r->comm, status, NULL);
cleanup:
    return status;
}

/* ----------------------------------------------------------------------------------------- steps
 */

static bool all_finite(const double *x, int n) {
    for (int i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* Names what went wrong; the same line on every process. Collective. */
static mnd_status explain_numeric(run *r) {
    mnd_status status = MND_OK;
    if (!all_finite(r->step_loss, r->n_seg)) {
        int s = 0;
        while (isfinite(r->step_loss[s])) s++;
        const int bad = mnd_model_bad_array(r->model);
        const mnd_param_info info = mnd_model_array(r->model, bad < 0 ? 0 : bad);
        char where[96] = "no gradient is affected";
        if (bad >= 0)
            snprintf(where, sizeof where, "the first bad gradient is the %s of layer %d (%s)",
                     info.name, info.layer + 1, mnd_model_layer(r->model, info.layer).text);
        status =
            mnd_fail(MND_NUMERIC,
                     "the loss became NaN or infinite in epoch %lld, step %lld, on rank %d "
                     "(logical rank %d); %s; the last good checkpoint stays; try a smaller --lr",
                     (long long)r->epoch + 1, (long long)r->step + 1, r->rank, r->first + s, where);
    }
    return mnd_comm_agree(r->comm, status, NULL);
}

static mnd_status one_step(run *r) {
    size_t stride;
    r->stepper.step = r->step + 1;
    mnd_watchdog_phase(r->dog, MND_PHASE_COMPUTE, r->step + 1);
    mnd_stepper_gradient(&r->stepper, r->step_in_epoch, r->step_loss, r->step_correct);
    mnd_fault_strike(&r->fault, r->step + 1, mnd_exchange_grad(r->exchange, &stride),
                     mnd_model_n_param(r->model), r->step_loss);
    uint32_t flags = mnd_signals_pending() != 0 ? FLAG_STOP : 0, all = 0;
    if (!all_finite(r->step_loss, r->n_seg)) flags |= FLAG_NUMERIC;
    if (r->stepper.damaged) flags |= FLAG_DAMAGED;
    r->rate = mnd_schedule_rate(&r->schedule, r->step);
    mnd_watchdog_phase(r->dog, MND_PHASE_WAIT, r->step + 1);
    mnd_status status = mnd_stepper_update(&r->stepper, r->rate, r->step + 1, flags, &all);
    if (status != MND_OK) return status;
    if ((all & FLAG_DAMAGED) != 0) return mnd_comm_agree(r->comm, check_memory(r), NULL);
    if ((all & FLAG_NUMERIC) != 0) return explain_numeric(r);
    mnd_fault_flip(&r->fault, r->step + 1, mnd_exchange_param(r->exchange));
    for (int s = 0; s < r->n_seg; s++) {
        r->loss_sum[s] += r->step_loss[s];
        r->correct[s] += r->step_correct[s];
    }
    r->step++;
    r->step_in_epoch++;
    r->stopping = (all & FLAG_STOP) != 0;
    return MND_OK;
}

static void show_progress(const run *r, double begin, int64_t first_step) {
    if (r->rank != 0 || r->observer->progress == NULL) return;
    double loss = 0.0;
    int64_t correct = 0, seen = 0;
    const int64_t done = r->step_in_epoch * r->config->batch_size;
    const int64_t tickets = done < r->info.count[MND_TRAIN] ? done : r->info.count[MND_TRAIN];
    for (int s = 0; s < r->n_seg; s++) {
        loss += r->loss_sum[s];
        correct += r->correct[s];
        seen += mnd_tickets_before(tickets, r->logical, r->first + s);
    }
    const double seconds = mnd_now() - begin;
    const int64_t now = tickets - first_step * r->config->batch_size;
    const mnd_train_progress p = {.epoch = r->epoch + 1,
                                  .epochs = r->config->epochs,
                                  .step = r->step_in_epoch,
                                  .steps = r->steps_per_epoch,
                                  .loss = loss / (double)(seen > 0 ? seen : 1),
                                  .accuracy = (double)correct / (double)(seen > 0 ? seen : 1),
                                  .images_per_second = (double)now / seconds,
                                  .seconds = seconds};
    r->observer->progress(r->observer->context, &p);
}

static mnd_status check_replicas(run *r) {
    const mnd_status status =
        mnd_replica_check(r->comm, r->exchange, mnd_model_n_param(r->model),
                          mnd_optimizer_slots(r->config->optimizer.kind), r->step);
    return status == MND_OK ? mnd_comm_agree(r->comm, check_memory(r), NULL) : status;
}

/* Sums over logical ranks in the fixed tree, test metrics, metrics line. Collective. */
static mnd_status finish_epoch(run *r, double begin, int64_t first_step) {
    mnd_status status = MND_OK;
    mnd_evaluation test = {0};
    const int64_t images = r->info.count[MND_TRAIN];
    const double seconds = mnd_now() - begin;
    MND_TRY(mnd_comm_allgatherv(r->comm, r->loss_sum, r->seg_bytes, r->loss_all));
    MND_TRY(mnd_comm_allgatherv(r->comm, r->correct, r->seg_bytes, r->correct_all));
    int64_t correct = 0;
    for (int l = 0; l < r->logical; l++) correct += r->correct_all[l];
    const mnd_time_split spent = mnd_stepper_time(&r->stepper);
    const double evaluate_begin = mnd_now();
    mnd_watchdog_phase(r->dog, MND_PHASE_EVALUATE, r->step);
    MND_TRY(mnd_evaluate(r->evaluator, r->model, &test));
    mnd_watchdog_phase(r->dog, MND_PHASE_WAIT, r->step);
    /* The last step's new parameters have not been through a training loss. */
    if (!isfinite(test.loss))
        MND_FAIL(MND_NUMERIC,
                 "the test loss became NaN or infinite in epoch %lld, after step %lld; the last "
                 "good checkpoint stays; try a smaller --lr",
                 (long long)r->epoch + 1, (long long)r->step);
    MND_TRY(check_replicas(r));
    r->epoch++;
    r->step_in_epoch = 0;
    r->train_seconds += seconds;
    mnd_train_epoch e = {.record = {.epoch = (double)r->epoch,
                                    .loss = mnd_tree_sum(r->loss_all, r->logical) / (double)images,
                                    .accuracy = (double)correct / (double)images,
                                    .val_loss = test.loss,
                                    .val_accuracy = (double)test.correct / (double)test.count,
                                    .seconds = seconds},
                         .epochs = r->config->epochs,
                         .step = r->step,
                         .images_per_second =
                             (double)(images - first_step * r->config->batch_size) / seconds,
                         .evaluate_seconds = mnd_now() - evaluate_begin,
                         .lr = r->rate,
                         .time = spent};
    mnd_time_split *all = NULL;
    void *p = NULL;
    status = mnd_alloc(&p, (size_t)r->size, sizeof *all, "times");
    MND_TRY(mnd_comm_agree(r->comm, status, NULL));
    all = p;
    status = mnd_comm_allgather(r->comm, &spent, sizeof *all, all);
    e.time = (mnd_time_split){0};
    for (int q = 0; q < r->size && status == MND_OK; q++) {
        e.time.data += all[q].data / r->size;
        e.time.compute += all[q].compute / r->size;
        e.time.exchange += all[q].exchange / r->size;
        e.time.optimizer += all[q].optimizer / r->size;
        e.time.wait += all[q].wait / r->size;
    }
    mnd_free(p);
    MND_TRY(status);
    memset(r->loss_sum, 0, (size_t)r->n_seg * sizeof *r->loss_sum);
    memset(r->correct, 0, (size_t)r->n_seg * sizeof *r->correct);
    e.best = e.record.val_accuracy > r->best_accuracy;
    if (e.best) {
        r->best_accuracy = e.record.val_accuracy;
        r->best_epoch = r->epoch;
    }
    if (r->n_history < r->history_room) r->history[r->n_history++] = e.record;
    r->result->test_accuracy = e.record.val_accuracy;
    r->result->test_loss = test.loss;
    if (r->metrics != NULL) status = write_epoch_line(r, &e);
    MND_TRY(mnd_comm_agree(r->comm, status, NULL));
    if (r->rank == 0 && r->observer->epoch != NULL) r->observer->epoch(r->observer->context, &e);
cleanup:
    return status;
}

static mnd_status stop(run *r) {
    mnd_status status = save(r);
    if (status != MND_OK) return status;
    char name[16] = "a signal";
    const int signal = mnd_signals_pending();
    if (signal != 0) snprintf(name, sizeof name, "SIG%s", sigabbrev_np(signal));
    if (r->config->checkpoint_dir == NULL)
        return mnd_fail(MND_STOPPED,
                        "stopped by %s after step %lld; no --checkpoint-dir, so nothing "
                        "was saved",
                        name, (long long)r->step);
    return mnd_fail(MND_STOPPED,
                    "stopped by %s after step %lld, saved in %s: start again with --resume auto to "
                    "go on",
                    name, (long long)r->step, r->config->checkpoint_dir);
}

static mnd_status train_epochs(run *r) {
    mnd_status status = MND_OK;
    const mnd_train_config *c = r->config;
    while (r->epoch < c->epochs) {
        mnd_feed_epoch(&r->feed, r->epoch + 1);
        mnd_stepper_reset(&r->stepper);
        const double begin = mnd_now();
        const int64_t first_step = r->step_in_epoch;
        while (r->step_in_epoch < r->steps_per_epoch) {
            MND_TRY(one_step(r));
            show_progress(r, begin, first_step);
            const bool last = r->step_in_epoch == r->steps_per_epoch;
            if (last) break;
            if (c->check_every > 0 && r->step % c->check_every == 0) MND_TRY(check_replicas(r));
            if (r->stopping) return stop(r);
            if (c->checkpoint_every > 0 && r->step % c->checkpoint_every == 0) MND_TRY(save(r));
        }
        MND_TRY(finish_epoch(r, begin, first_step));
        MND_TRY(save(r));
        if (r->result->test_accuracy >= c->target_accuracy) break;
        if (r->stopping && r->epoch < c->epochs) return stop(r);
    }
cleanup:
    return status;
}

static mnd_status finish(run *r) {
    mnd_status status = MND_OK;
    mnd_train_result *out = r->result;
    if (r->n_history > 0) {
        out->test_accuracy = r->history[r->n_history - 1].val_accuracy;
        out->test_loss = r->history[r->n_history - 1].val_loss;
    }
    out->best_accuracy = r->best_accuracy;
    out->best_epoch = r->best_epoch;
    out->epochs = r->epoch;
    out->steps = r->step;
    out->seconds = mnd_now() - r->started;
    status = hash_weights(r, out->weights_sha256);
    if (status == MND_OK && r->metrics != NULL) {
        mnd_metrics *m = r->metrics;
        mnd_metrics_begin(m, "end");
        mnd_metrics_real(m, "test_accuracy", out->test_accuracy);
        mnd_metrics_real(m, "test_loss", out->test_loss);
        mnd_metrics_real(m, "best_accuracy", out->best_accuracy);
        mnd_metrics_int(m, "best_epoch", out->best_epoch);
        mnd_metrics_int(m, "epochs", out->epochs);
        mnd_metrics_int(m, "step", out->steps);
        mnd_metrics_text(m, "weights_sha256", out->weights_sha256);
        mnd_metrics_real(m, "seconds", out->seconds);
        mnd_metrics_real(m, "process_seconds", mnd_process_age());
        status = mnd_metrics_end(m);
    }
    return mnd_comm_agree(r->comm, status, NULL);
}

mnd_status mnd_train(const mnd_train_config *config, mnd_comm *comm,
                     const mnd_train_observer *observer, mnd_train_result *result) {
    mnd_status status = MND_OK;
    *result = (mnd_train_result){.best_accuracy = -1.0};
    run r = {.config = config,
             .observer = observer,
             .comm = comm,
             .rank = mnd_comm_rank(comm),
             .size = mnd_comm_size(comm),
             .started = mnd_now(),
             .best_accuracy = -1.0,
             .folder_lock = -1,
             .result = result};
    mnd_signals_catch();
    MND_TRY(set_up(&r));
    MND_TRY(train_epochs(&r));
    MND_TRY(finish(&r));
cleanup:
    mnd_watchdog_stop(&r.dog);
    if (!config->keep_signals || (status != MND_OK && status != MND_STOPPED)) mnd_signals_release();
    mnd_metrics_close(&r.metrics);
    if (r.folder_lock >= 0) close(r.folder_lock);
    mnd_evaluator_destroy(&r.evaluator);
    mnd_feed_free(&r.feed);
    mnd_model_destroy(&r.model);
    mnd_exchange_destroy(&r.exchange);
    mnd_free(r.described);
    for (int s = 0; s < MND_MAX_SLOTS; s++) mnd_free(r.slot_all[s]);
    mnd_free(r.saved.array);
    mnd_free(r.saved.slot);
    mnd_free(r.loss_sum);
    mnd_free(r.step_loss);
    mnd_free(r.correct);
    mnd_free(r.step_correct);
    mnd_free(r.loss_all);
    mnd_free(r.correct_all);
    mnd_free(r.seg_bytes);
    mnd_free(r.history);
    return status;
}
