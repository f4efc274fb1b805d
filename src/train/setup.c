/* setup.c - sets a run up: data, model, exchange, state and files. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mnist_dist/doctor.h"
#include "mnist_dist/kernels.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/picture.h"
#include "run.h"

/* Opens the data and checks that all processes have opened the same. Collective. */
static mnd_status open_data(mnd_run *r) {
    mnd_status status = mnd_dataset_open(r->config->data, &r->data);
    MND_TRY(mnd_run_agree(r, status));
    r->info = *mnd_dataset_about(r->data);
    r->input = (mnd_shape){.ndim = 3, .dim = {r->info.height, r->info.width, r->info.channels}};
    mnd_dataset_info first = r->info;
    MND_TRY(mnd_comm_bcast(r->comm, &first, sizeof first, 0));
    if (memcmp(first.count, r->info.count, sizeof first.count) != 0 ||
        first.height != r->info.height || first.width != r->info.width ||
        first.channels != r->info.channels || first.classes != r->info.classes ||
        strcmp(first.data_sha256, r->info.data_sha256) != 0)
        status =
            mnd_fail(MND_MISMATCH,
                     "%s on %s is not the file that rank 0 sees: give every host the same file",
                     r->config->data, mnd_comm_host(r->comm));
    MND_TRY(mnd_comm_agree(r->comm, status, NULL));
    MND_TRY(mnd_run_check_data(r));
cleanup:
    return status;
}

static mnd_status plan_schedule(mnd_run *r) {
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
    if ((c->schedule == MND_STEP || c->schedule == MND_EXPONENTIAL) && r->schedule.period < 1)
        return mnd_fail(MND_USAGE,
                        "--step-epochs %g is less than a step, of which an epoch has %lld: give at "
                        "least %.2g",
                        c->step_epochs, (long long)r->steps_per_epoch, 1.0 / steps);
    return MND_OK;
}

int mnd_train_logical_ranks(int processes, int64_t images) {
    const int usual = images < MND_LOGICAL_RANKS ? (int)images : MND_LOGICAL_RANKS;
    return usual > processes ? usual : processes;
}

/* Which logical ranks there are, and which are here. */
static mnd_status divide(mnd_run *r, const mnd_checkpoint *ckpt) {
    const mnd_train_config *c = r->config;
    const int64_t images = r->info.count[MND_TRAIN];
    r->logical = c->logical_ranks;
    if (ckpt != NULL) r->logical = ckpt->logical_ranks;
    if (r->logical == 0) r->logical = mnd_train_logical_ranks(r->size, images);
    if (r->logical < r->size)
        return mnd_fail(
            MND_USAGE,
            "%d processes cannot share %d logical ranks: start at most %d processes, or "
            "a new run with --logical-ranks %d",
            r->size, r->logical, r->logical, r->size);
    if (r->logical > images)
        return mnd_fail(MND_USAGE,
                        "%d logical ranks (at least one per process) are more than the %lld "
                        "training images of %s",
                        r->logical, (long long)images, c->data);
    if (c->batch_size > INT32_MAX / 2)
        return mnd_fail(MND_USAGE, "--batch-size %lld is too large", (long long)c->batch_size);
    r->first = mnd_logical_first(r->logical, r->size, r->rank);
    r->n_logical = mnd_logical_first(r->logical, r->size, r->rank + 1) - r->first;
    return MND_OK;
}

static mnd_status allocate(mnd_run *r) {
    mnd_status status = MND_OK;
    MND_NEW(r->loss_sum, r->n_logical, "sums");
    MND_NEW(r->step_loss, r->n_logical, "sums");
    MND_NEW(r->correct, r->n_logical, "sums");
    MND_NEW(r->step_correct, r->n_logical, "sums");
    MND_NEW(r->loss_all, r->logical, "sums");
    MND_NEW(r->correct_all, r->logical, "sums");
    MND_NEW(r->logical_bytes, r->size, "sums");
    for (int q = 0; q < r->size; q++)
        r->logical_bytes[q] = 8 * (size_t)(mnd_logical_first(r->logical, r->size, q + 1) -
                                           mnd_logical_first(r->logical, r->size, q));
    r->history_capacity = r->config->epochs > r->epoch ? r->config->epochs : r->epoch;
    MND_NEW(r->history, (size_t)r->history_capacity + 1, "the history");
cleanup:
    return status;
}

/* What `predict` must know of the training images, on rank 0, which writes the checkpoints. */
static mnd_status measure_images(mnd_run *r) {
    if (r->rank != 0 || r->config->checkpoint_dir == NULL) return MND_OK;
    return mnd_picture_measure(r->data, &r->saved.training_images);
}

/* Shards, model, and memory for everything: what may fail on one process alone. */
static mnd_status prepare(mnd_run *r) {
    mnd_status status = MND_OK;
    const mnd_train_config *c = r->config;
    const mnd_loader_plan plan = {.images = r->info.count[MND_TRAIN],
                                  .pixels = (size_t)r->info.height * (size_t)r->info.width *
                                            (size_t)r->info.channels,
                                  .batch = c->batch_size,
                                  .seed = c->seed,
                                  .logical = r->logical,
                                  .first = r->first,
                                  .n = r->n_logical,
                                  .one_segment = !mnd_exchange_fixed_order(c->exchange),
                                  .smoothing = c->label_smoothing,
                                  .augment = c->augment,
                                  .size = {r->info.height, r->info.width, r->info.channels},
                                  .threads = c->threads};
    MND_TRY(measure_images(r));
    MND_TRY(mnd_loader_open(&plan, r->data, &r->loader));
    MND_TRY(mnd_run_open_evaluators(r));
    const int rows = r->loader.max_rows;
    const mnd_model_options options = {.max_rows =
                                           rows > MND_EVALUATE_CHUNK ? rows : MND_EVALUATE_CHUNK,
                                       .max_seg = r->loader.max_seg,
                                       .max_group = r->n_logical,
                                       .training = true,
                                       .plain = c->plain,
                                       .threads = c->threads};
    MND_TRY(mnd_model_create(c->model, &r->input, r->info.classes, &options, &r->model));
    MND_TRY(mnd_group_sum_open(r->comm, r->dog, r->logical, r->model, &r->groups));
    MND_TRY(allocate(r));
cleanup:
    return status;
}

/* The exchange, and what a step works on. Collective. */
static mnd_status join(mnd_run *r) {
    mnd_status status = MND_OK;
    const mnd_train_config *c = r->config;
    const mnd_exchange_options options = {.name = c->exchange,
                                          .logical = r->logical,
                                          .n_param = mnd_model_n_param(r->model),
                                          .n_slot = mnd_updater_n_slot(&c->optimizer, c->ema),
                                          .n_value = mnd_updater_n_value(c->clip_norm)};
    MND_TRY(mnd_exchange_create(r->comm, &options, &r->exchange));
    if (mnd_exchange_note(r->exchange)[0] != '\0')
        mnd_run_warn(r, "%s", mnd_exchange_note(r->exchange));
    if (c->ema > 0.0) MND_NEW_AGREED(r->comm, r->average, options.n_param, "the averaged weights");
    mnd_step_open(&r->stepper, &r->loader, r->model,
                  &(mnd_updater){.model = r->model,
                                 .exchange = r->exchange,
                                 .optimizer = &c->optimizer,
                                 .clip_norm = c->clip_norm,
                                 .ema = c->ema,
                                 .threads = c->threads},
                  &r->groups);
cleanup:
    return status;
}

/* The unfinished epoch of a checkpoint goes on where it was. */
static void continue_epoch(mnd_run *r, const mnd_checkpoint *ckpt) {
    r->n_history = ckpt->n_history < r->history_capacity ? ckpt->n_history : r->history_capacity;
    memcpy(r->history, ckpt->history, (size_t)r->n_history * sizeof *r->history);
    mnd_run_take_best(r);
    memcpy(r->loss_sum, ckpt->loss_sum + r->first, (size_t)r->n_logical * sizeof *r->loss_sum);
    memcpy(r->correct, ckpt->correct + r->first, (size_t)r->n_logical * sizeof *r->correct);
}

/* With fewer values mean and variance are mostly chance; of one value alone nothing is left. */
enum { FEW_VALUES = 8 };

/* Batch normalization of batches that logical ranks divide into very small groups. */
static void warn_of_few_values(const mnd_run *r) {
    const int64_t images = r->info.count[MND_TRAIN], batch = r->config->batch_size;
    const int64_t rows = (batch < images ? batch : images) / r->logical;
    for (int i = 0; i < mnd_model_n_layer(r->model); i++) {
        const mnd_layer_info l = mnd_model_layer(r->model, i);
        const long long values = (long long)rows * l.group_values;
        if (l.group_values == 0 || values >= FEW_VALUES) continue;
        mnd_run_warn(r,
                     "layer %d (%s) takes mean and variance of %lld value%s: of a batch of %lld a "
                     "logical rank has %lld; give batchnorm:sync, a larger --batch-size or fewer "
                     "--logical-ranks",
                     i + 1, l.text, values, values == 1 ? "" : "s", (long long)batch,
                     (long long)rows);
        return;
    }
}

static mnd_status report(mnd_run *r, const char *resumed_from) {
    warn_of_few_values(r);
    const mnd_train_setup setup = {.config = r->config,
                                   .data = &r->info,
                                   .model = r->model,
                                   .comm = r->comm,
                                   .logical_ranks = r->logical,
                                   .threads = r->config->threads,
                                   .nodes = mnd_comm_nodes(r->comm),
                                   .exchange = mnd_exchange_name(r->exchange),
                                   .steps_per_epoch = r->steps_per_epoch,
                                   .validation = r->held_out,
                                   .resumed_epoch = r->epoch,
                                   .resumed_step = r->step,
                                   .resumed_from = resumed_from};
    return mnd_run_report_start(r, &setup);
}

/* What comes before the data: whether this launch makes sense, and the watchdog. Collective. */
static mnd_status admit(mnd_run *r) {
    mnd_status status = MND_OK;
    const mnd_train_config *c = r->config;
    /* OpenBLAS gets threads only where it does the products: idle ones cost address space. */
    const bool native = strcmp(mnd_arithmetic(c->plain), MND_ARITHMETIC) == 0;
    mnd_blas_set_threads(native ? 1 : c->threads);
    char warning[1024];
    const mnd_doctor_request doctor = {.threads = c->threads, .plain = c->plain};
    if (c->member == 0) { /* else the whole job has been examined, not only this group */
        MND_TRY(mnd_doctor_admit(r->comm, &doctor, warning, sizeof warning));
        if (warning[0] != '\0') mnd_run_warn(r, "%s", warning);
    }
    MND_TRY(mnd_comm_agree(r->comm, mnd_fault_read(mnd_comm_world_rank(r->comm), &r->fault), NULL));
    MND_TRY(mnd_watchdog_start(r->comm, c->stall_timeout, &r->dog));
    mnd_watchdog_phase(r->dog, MND_PHASE_DATA, 0);
cleanup:
    return status;
}

/* Whether the limits of hosts and control groups suffice. Collective. */
static mnd_status check_limits(mnd_run *r) {
    const mnd_train_config *c = r->config;
    char warning[1024];
    const mnd_doctor_request doctor = {
        .model = c->model, .batch_size = c->batch_size, .threads = c->threads};
    const mnd_status status =
        mnd_doctor_admit_limits(r->comm, &doctor, &r->info, warning, sizeof warning);
    if (status == MND_OK && warning[0] != '\0') mnd_run_warn(r, "%s", warning);
    return status;
}

mnd_status mnd_run_set_up(mnd_run *r) {
    mnd_status status = MND_OK;
    mnd_checkpoint ckpt = {0};
    char path[4096];
    bool resumed = false, missing = false;
    MND_TRY(admit(r));
    MND_TRY(open_data(r));
    MND_TRY(check_limits(r));
    MND_TRY(mnd_run_hold_out(r));
    r->steps_per_epoch =
        (r->info.count[MND_TRAIN] + r->config->batch_size - 1) / r->config->batch_size;
    MND_TRY(plan_schedule(r));
    MND_TRY(mnd_run_agree(r, mnd_run_lock_folder(r)));
    MND_TRY(mnd_run_agree(r, mnd_run_check_metrics(r)));
    MND_TRY(mnd_run_read_checkpoint(r, &ckpt, path, &resumed));
    if (resumed) MND_TRY(mnd_run_check_resume(r, &ckpt, path));
    const mnd_checkpoint *const from = resumed ? &ckpt : NULL;
    MND_TRY(divide(r, from));
    if (resumed) mnd_run_take_progress(r, from);
    MND_TRY(mnd_run_agree(r, prepare(r)));
    mnd_dataset_close(&r->data);
    if (resumed) continue_epoch(r, from);
    MND_TRY(join(r));
    MND_TRY(mnd_run_fill_state(r, from));
    ckpt.best_epoch = r->best_epoch; /* by --monitor, which may differ */
    status = mnd_run_prepare_saving(r, from, path, &missing);
    if (status == MND_OK) status = report(r, resumed ? path : NULL);
    MND_TRY(mnd_run_agree(r, status));
    MND_TRY(mnd_comm_bcast(r->comm, &missing, sizeof missing, 0));
    /* Without it, --resume auto would not find this run before its next checkpoint. */
    if (missing) MND_TRY(mnd_run_save(r));
cleanup:
    mnd_dataset_close(&r->data);
    mnd_checkpoint_free(&ckpt);
    return status;
}

void mnd_run_free(mnd_run *r) {
    mnd_metrics_close(&r->metrics);
    if (r->folder_lock >= 0) close(r->folder_lock);
    mnd_evaluator_destroy(&r->evaluator);
    mnd_evaluator_destroy(&r->test);
    mnd_loader_free(&r->loader);
    mnd_group_sum_free(&r->groups);
    mnd_model_destroy(&r->model);
    mnd_exchange_destroy(&r->exchange);
    for (int s = 0; s < MND_MAX_SLOTS; s++) mnd_free(r->slot_all[s]);
    mnd_free(r->average);
    mnd_free(r->saved.array);
    mnd_free(r->saved.slot);
    mnd_free(r->loss_sum);
    mnd_free(r->step_loss);
    mnd_free(r->correct);
    mnd_free(r->step_correct);
    mnd_free(r->loss_all);
    mnd_free(r->correct_all);
    mnd_free(r->logical_bytes);
    mnd_free(r->history);
}
