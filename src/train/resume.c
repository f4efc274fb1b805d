/* resume.c - goes on from a checkpoint, or starts from the seed. */
#include <stdio.h>
#include <string.h>

#include "mnist_dist/kernels.h"
#include "mnist_dist/memory.h"
#include "run.h"
#include "snapshot.h"

static void note_skipped(void *context, const char *path, const char *why) {
    (void)path; /* `why` begins with it */
    mnd_run_warn(context, "passed over: %s", why);
}

/*
 * Rank 0 found no checkpoint: a new run, if that was allowed and no other host has the checkpoints
 * in a folder that rank 0's host cannot see. Collective.
 */
static mnd_status nothing_found(mnd_run *r) {
    mnd_status status = MND_OK;
    const char *dir = r->config->checkpoint_dir;
    struct {
        int sees;
        char host[MND_HOST_NAME];
    } first = {.sees = mnd_checkpoint_any(dir)};
    const int sees = first.sees;
    snprintf(first.host, sizeof first.host, "%s", mnd_comm_host(r->comm));
    MND_TRY(mnd_comm_bcast(r->comm, &first, sizeof first, 0));
    if (sees && !first.sees)
        status = mnd_fail(MND_NOT_FOUND,
                          "%s holds checkpoints here, but none on host %s, where rank 0 reads and "
                          "writes them: put the folder on a file system that every host sees, or "
                          "start rank 0 on %s",
                          dir, first.host, mnd_comm_host(r->comm));
    else if (strcmp(r->config->resume, "required") == 0)
        status = mnd_fail(MND_NOT_FOUND,
                          "--resume required: host %s has no valid checkpoint in %s: give the "
                          "--checkpoint-dir of the run that is to go on, or --resume auto to begin "
                          "a new one",
                          first.host, dir);
cleanup:
    return status;
}

bool mnd_run_picks_newest(const mnd_run *r) {
    const char *resume = r->config->resume;
    return strcmp(resume, "auto") == 0 || strcmp(resume, "required") == 0;
}

/* The newest valid checkpoint of the folder; path is "" if there is none. Collective. */
static mnd_status read_newest(mnd_run *r, mnd_checkpoint *ckpt, char path[4096]) {
    mnd_status status = MND_OK;
    const char *dir = r->config->checkpoint_dir;
    if (dir == NULL)
        return mnd_fail(MND_USAGE, "--resume %s needs --checkpoint-dir", r->config->resume);
    path[0] = '\0';
    if (r->rank == 0) {
        status = mnd_checkpoint_read_latest(dir, note_skipped, r, ckpt, path, 4096);
        if (status == MND_NOT_FOUND) {
            path[0] = '\0';
            status = MND_OK;
        }
    }
    MND_TRY(mnd_comm_agree(r->comm, status, NULL));
    MND_TRY(mnd_comm_bcast(r->comm, path, 4096, 0));
    if (path[0] == '\0')
        status = nothing_found(r);
    else if (r->rank != 0)
        status = mnd_checkpoint_read(path, ckpt);
cleanup:
    return status;
}

mnd_status mnd_run_read_checkpoint(mnd_run *r, mnd_checkpoint *ckpt, char path[4096], bool *found) {
    const char *resume = r->config->resume;
    mnd_status status = MND_OK;
    *found = false;
    if (resume == NULL) return MND_OK;
    if (mnd_run_picks_newest(r)) {
        status = read_newest(r, ckpt, path);
    } else {
        path[0] = '\0';
        if (r->rank == 0) status = mnd_checkpoint_find(resume, note_skipped, r, path, 4096);
        MND_TRY(mnd_comm_agree(r->comm, status, NULL));
        MND_TRY(mnd_comm_bcast(r->comm, path, 4096, 0));
        status = mnd_checkpoint_read(path, ckpt);
    }
    MND_TRY(mnd_run_agree(r, status));
    if (path[0] == '\0') return MND_OK;
    *found = true;
    status = mnd_checkpoint_agree(r->comm, path, ckpt);
cleanup:
    return status;
}

/* What may change at a resume, but not unnoticed. */
static void warn_of_changes(const mnd_run *r, const mnd_checkpoint *k, const char *path) {
    const mnd_train_config *c = r->config;
    if (!mnd_snapshot_same_settings(&c->optimizer, k) ||
        strcmp(r->schedule_text, k->schedule) != 0 || c->clip_norm != k->clip_norm ||
        c->label_smoothing != k->label_smoothing)
        mnd_run_warn(
            r,
            "learning rate, schedule, clipping, label smoothing or optimizer settings differ from "
            "those of %s: the run goes on with the new ones",
            path);
    if (c->ema != k->ema)
        mnd_run_warn(r, "%s was written with --ema %g, this run has %g%s", path, k->ema, c->ema,
                     k->ema == 0.0   ? ": the average begins with the weights of the checkpoint"
                     : c->ema == 0.0 ? ": it goes on with the trained weights, without an average"
                                     : "");
    char augment[MND_AUGMENT_TEXT];
    mnd_augment_text(&c->augment, augment);
    if (strcmp(augment, k->augment) != 0)
        mnd_run_warn(r, "%s was written with --augment %s: the run goes on with --augment %s", path,
                     k->augment[0] != '\0' ? k->augment : "none",
                     augment[0] != '\0' ? augment : "none");
    if (k->data_sha256[0] == '\0')
        mnd_run_warn(r,
                     "%s has no checksum of its data (an earlier version wrote it): whether %s "
                     "still holds the same is not known",
                     path, c->data);
    if (strcmp(k->monitor, c->monitor == MND_MONITOR_LOSS ? "loss" : "") != 0)
        mnd_run_warn(r, "--monitor differs from that of %s: its best epoch is chosen anew", path);
    if (strcmp(k->blas, mnd_arithmetic(c->plain)) != 0)
        mnd_run_warn(r,
                     "%s was computed with '%s', this run uses '%s': the bits will differ from an "
                     "uninterrupted run",
                     path, k->blas, mnd_arithmetic(c->plain));
}

mnd_status mnd_run_check_resume(const mnd_run *r, const mnd_checkpoint *k, const char *path) {
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
    char option[64] = ""; /* that must be as it was */
    if (k->seed != c->seed)
        snprintf(option, sizeof option, "--seed %llu", (unsigned long long)k->seed);
    else if (k->batch_size != c->batch_size)
        snprintf(option, sizeof option, "--batch-size %lld", (long long)k->batch_size);
    else if (k->validation != r->held_out)
        snprintf(option, sizeof option, "--validation %lld", (long long)k->validation);
    else if (strcmp(k->optimizer, c->optimizer.ops->name) != 0)
        snprintf(option, sizeof option, "--optimizer %s", k->optimizer);
    if (option[0] != '\0')
        return mnd_fail(MND_MISMATCH, "%s was written with %s: give the same, or start afresh",
                        path, option);
    if (c->logical_ranks > 0 && c->logical_ranks != k->logical_ranks)
        return mnd_fail(MND_MISMATCH,
                        "%s has %d logical ranks: leave --logical-ranks out, or start afresh", path,
                        k->logical_ranks);
    if (k->data_sha256[0] != '\0' && strcmp(k->data_sha256, r->info.data_sha256) != 0)
        return mnd_fail(MND_MISMATCH,
                        "%s was trained on other data than %s holds: give the data of then, or "
                        "start afresh without --resume",
                        path, c->data);
    if (k->step_in_epoch > r->steps_per_epoch ||
        k->step - k->step_in_epoch != k->epoch * r->steps_per_epoch)
        return mnd_fail(MND_MISMATCH,
                        "%s was trained on another number of images than %s holds: give the data "
                        "of then, or start afresh without --resume",
                        path, c->data);
    warn_of_changes(r, k, path);
    return MND_OK;
}

void mnd_run_take_progress(mnd_run *r, const mnd_checkpoint *k) {
    r->epoch = k->epoch;
    r->step = r->first_step = k->step;
    r->step_in_epoch = k->step_in_epoch;
    r->best_accuracy = k->best_accuracy;
    r->best_epoch = k->best_epoch;
    r->train_seconds = k->train_seconds;
}

/* This process' slice of the optimizer state. */
static mnd_status fill_slots(mnd_run *r, const mnd_checkpoint *ckpt) {
    const int n_slot = r->config->optimizer.ops->n_slot;
    const int found = ckpt->n_slot - (ckpt->ema > 0.0); /* the last one is no state: see below */
    if (found != n_slot)
        return mnd_fail(MND_MISMATCH, "the checkpoint has %d optimizer slots instead of %d", found,
                        n_slot);
    size_t first, count;
    mnd_exchange_slice(r->exchange, &first, &count);
    for (int s = 0; s < n_slot; s++) {
        if (ckpt->slot[s].ndim != 1 || ckpt->slot[s].dim[0] != (int64_t)mnd_model_n_param(r->model))
            return mnd_fail(MND_MISMATCH, "the checkpoint's optimizer state has another size");
        memcpy(mnd_exchange_slot(r->exchange, s) + first, ckpt->slot[s].data + first,
               count * sizeof(float));
    }
    return MND_OK;
}

/* All parameters: where the model of the checkpoint is an average, they lie beside it. */
static mnd_status fill_param(mnd_run *r, const mnd_checkpoint *ckpt) {
    float *const param = mnd_exchange_param(r->exchange);
    const mnd_status status = mnd_snapshot_load(r->model, ckpt, param);
    if (status == MND_OK && ckpt->ema > 0.0) /* as long as the arrays: checkpoint.h */
        memcpy(param, ckpt->slot[ckpt->n_slot - 1].data,
               mnd_model_n_param(r->model) * sizeof *param);
    return status;
}

mnd_status mnd_run_fill_state(mnd_run *r, const mnd_checkpoint *ckpt) {
    mnd_status status = MND_OK;
    if (mnd_exchange_writes_param(r->exchange)) {
        if (ckpt == NULL)
            mnd_model_initialize(r->model, r->config->init, r->config->seed);
        else
            status = fill_param(r, ckpt);
    }
    if (status == MND_OK && ckpt != NULL) status = fill_slots(r, ckpt);
    MND_TRY(mnd_comm_agree(r->comm, status, NULL));
    MND_TRY(mnd_exchange_publish(r->exchange));
    MND_TRY(mnd_comm_agree(r->comm, mnd_run_begin_average(r, ckpt), NULL));
cleanup:
    return status;
}
