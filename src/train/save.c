/* save.c - checkpoints of a run. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mnist_dist/folder.h"
#include "mnist_dist/kernels.h"
#include "mnist_dist/memory.h"
#include "run.h"
#include "snapshot.h"

double mnd_run_lock_timeout(const mnd_run *r) {
    const double stall = r->config->stall_timeout;
    return stall > 0.0 && stall < 10.0 ? stall / 2.0 : 5.0;
}

mnd_status mnd_run_lock_folder(mnd_run *r) {
    const mnd_train_config *c = r->config;
    if (r->rank != 0 || c->checkpoint_dir == NULL || r->folder_lock >= 0) return MND_OK;
    const mnd_status status =
        mnd_checkpoint_lock(c->checkpoint_dir, mnd_run_lock_timeout(r), &r->folder_lock);
    if (status != MND_IO || c->resume == NULL) return status;
    /* Slurm requeues a job while what is left of it may still run on a node that was lost. */
    mnd_run_warn(r, "%s", mnd_error());
    return MND_OK;
}

static mnd_status make_folder(mnd_run *r) {
    const char *dir = r->config->checkpoint_dir;
    const mnd_status made = mnd_folder_make(dir);
    if (made != MND_OK) return made;
    if (access(dir, W_OK | X_OK) != 0)
        return mnd_fail(MND_IO, "%s: cannot write checkpoints there: %s", dir, strerror(errno));
    return mnd_run_lock_folder(r);
}

/* What stays the same in every checkpoint of the run. */
static mnd_status describe(mnd_run *r) {
    mnd_status status = MND_OK;
    const mnd_train_config *c = r->config;
    const mnd_optimizer_ops *ops = c->optimizer.ops;
    const size_t n = mnd_model_n_param(r->model);
    float *const param = mnd_exchange_param(r->exchange);
    mnd_checkpoint *k = &r->saved;
    MND_TRY(mnd_snapshot_describe(r->model, &r->input, r->info.classes,
                                  r->average != NULL ? r->average : param, k));
    k->n_slot = mnd_updater_n_slot(&c->optimizer, c->ema);
    MND_NEW(k->slot, k->n_slot, "the checkpoint");
    if (r->average != NULL)
        k->slot[ops->n_slot] = (mnd_ckpt_array){
            .name = MND_CKPT_WEIGHTS, .ndim = 1, .dim = {(int64_t)n}, .data = param};
    for (int s = 0; s < ops->n_slot; s++) {
        MND_NEW(r->slot_all[s], n, "the checkpoint's optimizer state");
        k->slot[s] = (mnd_ckpt_array){.ndim = 1, .dim = {(int64_t)n}, .data = r->slot_all[s]};
        snprintf(k->slot[s].name, sizeof k->slot[s].name, "%s", ops->slot_name[s]);
    }
    snprintf(k->blas, sizeof k->blas, "%s", mnd_arithmetic(c->plain));
    snprintf(k->optimizer, sizeof k->optimizer, "%s", ops->name);
    MND_TRY(mnd_snapshot_settings(&c->optimizer, k));
    k->clip_norm = c->clip_norm;
    k->ema = c->ema;
    k->label_smoothing = c->label_smoothing;
    _Static_assert(sizeof k->augment == MND_AUGMENT_TEXT, "its size");
    mnd_augment_text(&c->augment, k->augment);
    snprintf(k->schedule, sizeof k->schedule, "%s", r->schedule_text);
    snprintf(k->data_sha256, sizeof k->data_sha256, "%s", r->info.data_sha256);
    k->seed = c->seed;
    k->logical_ranks = r->logical;
    k->batch_size = c->batch_size;
    k->planned_epochs = c->epochs;
    if (c->monitor == MND_MONITOR_LOSS) snprintf(k->monitor, sizeof k->monitor, "loss");
    k->patience = c->patience;
    k->target_accuracy = c->target_accuracy > 1.0 ? 0.0 : c->target_accuracy;
    k->validation = r->held_out;
cleanup:
    return status;
}

void mnd_run_best_checkpoint(const mnd_run *r, char *path, size_t size) {
    const char *dir = r->config->checkpoint_dir;
    const int64_t step = r->best_epoch * r->steps_per_epoch;
    path[0] = '\0';
    if (dir == NULL || step == 0 || step == r->step) return;
    if (mnd_checkpoint_path(dir, step, path, size) != MND_OK || access(path, R_OK) != 0)
        path[0] = '\0';
}

/* A run that went back, or was started by a version that did not keep it, may lack it. */
static void warn_of_lost_best(mnd_run *r) {
    char best[4096];
    mnd_run_best_checkpoint(r, best, sizeof best);
    const int64_t step = r->best_epoch * r->steps_per_epoch;
    if (step == 0 || step == r->step || best[0] != '\0') return;
    mnd_run_warn(r,
                 "%s does not have the checkpoint of the best epoch so far, %lld: the link 'best' "
                 "returns with the next better epoch",
                 r->config->checkpoint_dir, (long long)r->best_epoch);
}

/* A single run begins in the folder of an ensemble. Rank 0. */
static mnd_status warn_of_members(const mnd_run *r) {
    const char *dir = r->config->checkpoint_dir;
    int *member = NULL, n = 0;
    const mnd_status status = mnd_checkpoint_members(dir, &member, &n);
    if (n > 0)
        mnd_run_warn(r,
                     "%s holds an ensemble of %d, too: from now on evaluate and predict take the "
                     "folder for this single run (--members goes on with the ensemble instead)",
                     dir, n);
    free(member);
    return status;
}

mnd_status mnd_run_prepare_saving(mnd_run *r, const mnd_checkpoint *from, const char *path,
                                  bool *missing) {
    mnd_status status = MND_OK;
    const char *dir = r->config->checkpoint_dir;
    bool here = true;
    *missing = false;
    if (dir == NULL || r->rank != 0) return MND_OK;
    MND_TRY(make_folder(r));
    MND_TRY(describe(r));
    if (from == NULL)
        MND_TRY(mnd_checkpoint_set_aside(dir, -1, r->aside, sizeof r->aside));
    else
        MND_TRY(mnd_checkpoint_go_back(dir, path, from, &here, r->aside, sizeof r->aside));
    if (from == NULL) MND_TRY(warn_of_members(r));
    *missing = !here;
    if (here && from != NULL)
        snprintf(r->result->checkpoint, sizeof r->result->checkpoint, "%s", path);
    if (from != NULL) warn_of_lost_best(r);
    if (r->aside[0] == '\0') return MND_OK;
    if (from == NULL)
        mnd_run_warn(r, "a new run: the checkpoints of an earlier one were moved to %s%s", r->aside,
                     r->config->resume == NULL ? " (--resume auto goes on instead)"
                                               : ", for none of them is valid");
    else
        mnd_run_warn(r,
                     "the run goes on from step %lld: the %scheckpoints of %s were moved to %s; "
                     "--resume auto will continue from here",
                     (long long)from->step, here ? "newer " : "", dir, r->aside);
cleanup:
    return status;
}

mnd_status mnd_run_check_memory(mnd_run *r) {
    if (mnd_updater_intact(&r->stepper.update)) return MND_OK;
    return mnd_fail(MND_MISMATCH,
                    "parameters or optimizer state of rank %d on host %s are not what the step "
                    "before left behind (noticed at step %lld): a bit was flipped in memory; the "
                    "last good checkpoint stays: start again with --resume auto",
                    mnd_comm_world_rank(r->comm), mnd_comm_host(r->comm), (long long)r->step);
}

/* Rank 0: the file, and a line about it. */
static mnd_status write_checkpoint(mnd_run *r, const float *weights) {
    mnd_status status = MND_OK;
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
    MND_TRY(mnd_sha256_buffer(weights, mnd_model_n_param(r->model) * sizeof *weights,
                              k->weights_sha256));
    MND_TRY(mnd_checkpoint_write(r->config->checkpoint_dir, k, r->config->keep,
                                 r->result->checkpoint, sizeof r->result->checkpoint));
    if (r->metrics == NULL) return MND_OK;
    mnd_metrics_begin(r->metrics, "checkpoint");
    mnd_metrics_int(r->metrics, "step", r->step);
    mnd_metrics_text(r->metrics, "path", r->result->checkpoint);
    MND_TRY(mnd_metrics_end(r->metrics));
cleanup:
    return status;
}

mnd_status mnd_run_save(mnd_run *r) {
    mnd_status status = MND_OK;
    float *weights;
    if (r->config->checkpoint_dir == NULL) return MND_OK;
    mnd_watchdog_phase(r->dog, MND_PHASE_WAIT, r->step);
    MND_TRY(mnd_comm_agree(r->comm, mnd_run_check_memory(r), NULL));
    for (int s = 0; s < r->config->optimizer.ops->n_slot; s++)
        MND_TRY(mnd_exchange_gather_slot(r->exchange, s, r->slot_all[s]));
    MND_TRY(mnd_run_weights(r, &weights));
    MND_TRY(mnd_comm_allgatherv(r->comm, r->loss_sum, r->logical_bytes, r->loss_all));
    MND_TRY(mnd_comm_allgatherv(r->comm, r->correct, r->logical_bytes, r->correct_all));
    MND_TRY(mnd_comm_agree(r->comm, r->rank == 0 ? write_checkpoint(r, weights) : MND_OK, NULL));
cleanup:
    return status;
}
