/* members_test.c - what an ensemble has learned: each member, and the mean of all. */
#include <math.h>
#include <string.h>

#include "members.h"
#include "mnist_dist/evaluate.h"
#include "mnist_dist/memory.h"

/* Reads the newest checkpoint of a member: the same on every process. Collective. */
static mnd_status read_member(mnd_members *e, int member, mnd_checkpoint *ckpt) {
    mnd_status status = MND_OK;
    char dir[4096], path[4096] = "";
    if (e->rank == 0) {
        status = mnd_checkpoint_member_dir(e->config->checkpoint_dir, member, dir, sizeof dir);
        if (status == MND_OK)
            status = mnd_checkpoint_read_latest(dir, NULL, NULL, ckpt, path, sizeof path);
    }
    MND_TRY(mnd_comm_agree(e->comm, status, NULL));
    MND_TRY(mnd_comm_bcast(e->comm, path, sizeof path, 0));
    if (e->rank != 0) status = mnd_checkpoint_read(path, ckpt);
    MND_TRY(mnd_comm_agree(e->comm, status, NULL));
    MND_TRY(mnd_checkpoint_agree(e->comm, path, ckpt));
cleanup:
    return status;
}

/* The evaluators, for the mean. *held_out: NULL without --validation. Not collective. */
static mnd_status open_images(mnd_members *e, int64_t validation, mnd_evaluator **test,
                              mnd_evaluator **held_out) {
    mnd_status status = MND_OK;
    mnd_dataset *data = NULL;
    MND_TRY(mnd_dataset_open(e->config->data, &data));
    MND_TRY(mnd_evaluator_create(e->comm, data, MND_TEST, test));
    MND_TRY(mnd_evaluator_average(*test));
    if (validation > 0) {
        const int64_t images = mnd_dataset_about(data)->count[MND_TRAIN];
        MND_TRY(mnd_evaluator_create_rows(e->comm, data, MND_TRAIN, images - validation, validation,
                                          held_out));
        MND_TRY(mnd_evaluator_average(*held_out));
    }
cleanup:
    mnd_dataset_close(&data);
    return status;
}

/* Evaluates one member, and adds it to the mean. Collective. */
static mnd_status test_member(mnd_members *e, const mnd_checkpoint *ckpt, mnd_evaluator *test,
                              mnd_evaluator *held_out, mnd_member_result *out) {
    mnd_status status = MND_OK;
    mnd_model *model = NULL;
    float *param = NULL;
    mnd_evaluation result;
    status = mnd_model_from_checkpoint(ckpt, MND_EVALUATE_CHUNK, e->config->threads,
                                       e->config->plain, &model, &param);
    MND_TRY(mnd_comm_agree(e->comm, status, NULL));
    if (held_out != NULL) MND_TRY(mnd_evaluate(held_out, model, &result));
    MND_TRY(mnd_evaluate(test, model, &result));
    *out = (mnd_member_result){.seed = ckpt->seed,
                               .epochs = ckpt->epoch,
                               .test_accuracy = (double)result.correct / (double)result.count,
                               .test_loss = result.loss};
    memcpy(out->weights_sha256, ckpt->weights_sha256, sizeof out->weights_sha256);
cleanup:
    mnd_model_destroy(&model);
    mnd_free(param);
    return status;
}

static mnd_status test_mean(mnd_evaluator *test, mnd_evaluator *held_out,
                            mnd_ensemble_result *result) {
    mnd_status status = MND_OK;
    mnd_evaluation mean;
    const int64_t *misread;
    result->val_accuracy = result->val_loss = (double)NAN;
    if (held_out != NULL) {
        MND_TRY(mnd_evaluate_mean(held_out, &mean));
        result->val_accuracy = (double)mean.correct / (double)mean.count;
        result->val_loss = mean.loss;
    }
    MND_TRY(mnd_evaluate_mean(test, &mean));
    result->test_accuracy = (double)mean.correct / (double)mean.count;
    result->test_loss = mean.loss;
    result->images = mean.count;
    MND_TRY(mnd_evaluator_misread(test, &misread, &result->misread));
cleanup:
    return status;
}

mnd_status mnd_members_test(mnd_members *e, mnd_member_result *member,
                            mnd_ensemble_result *result) {
    mnd_status status = MND_OK;
    mnd_checkpoint ckpt = {0};
    mnd_evaluator *test = NULL, *held_out = NULL;
    for (int m = 0; m < e->config->members; m++) {
        mnd_watchdog_phase(e->dog, MND_PHASE_EVALUATE, m);
        MND_TRY(read_member(e, m + 1, &ckpt));
        if (m == 0)
            MND_TRY(
                mnd_comm_agree(e->comm, open_images(e, ckpt.validation, &test, &held_out), NULL));
        MND_TRY(test_member(e, &ckpt, test, held_out, &member[m]));
        mnd_checkpoint_free(&ckpt);
    }
    MND_TRY(test_mean(test, held_out, result));
cleanup:
    mnd_checkpoint_free(&ckpt);
    mnd_evaluator_destroy(&test);
    mnd_evaluator_destroy(&held_out);
    return status;
}
