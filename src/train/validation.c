/* validation.c - what a run is judged by: images to validate on, the best epoch, the end. */
#include <string.h>

#include "run.h"

mnd_status mnd_run_hold_out(mnd_run *r) {
    const double given = r->config->validation;
    int64_t *const images = &r->info.count[MND_TRAIN];
    if (given <= 0.0) return MND_OK;
    r->held_out = (int64_t)(given < 1.0 ? given * (double)*images + 0.5 : given);
    if (r->held_out < 1 || r->held_out >= *images)
        return mnd_fail(MND_USAGE,
                        "--validation %g of the %lld training images of %s leaves none to %s: give "
                        "another number or fraction",
                        given, (long long)*images, r->config->data,
                        r->held_out < 1 ? "validate on" : "train on");
    *images -= r->held_out;
    return MND_OK;
}

mnd_status mnd_run_open_evaluators(mnd_run *r) {
    if (r->held_out == 0) return mnd_evaluator_create(r->comm, r->data, MND_TEST, &r->evaluator);
    const mnd_status status = mnd_evaluator_create_rows(
        r->comm, r->data, MND_TRAIN, r->info.count[MND_TRAIN], r->held_out, &r->evaluator);
    if (status != MND_OK) return status;
    return mnd_evaluator_create(r->comm, r->data, MND_TEST, &r->test);
}

mnd_finish mnd_run_finished(const mnd_run *r) {
    mnd_finish finish = MND_FINISH_NOT;
    /* In the middle of an epoch the weights are no more those that were judged. */
    if (r->step_in_epoch == 0) finish = mnd_finished(r->config, r->history, r->n_history);
    if (finish == MND_FINISH_NOT && r->epoch >= r->config->epochs) finish = MND_FINISH_EPOCHS;
    return finish;
}

void mnd_run_take_best(mnd_run *r) {
    const mnd_epoch_record *best = mnd_best_epoch(r->config->monitor, r->history, r->n_history);
    if (best == NULL) return;
    r->best_epoch = (int64_t)best->epoch;
    r->best_accuracy = best->val_accuracy;
    r->best_loss = best->val_loss;
}

mnd_status mnd_run_test(mnd_run *r) {
    mnd_status status = MND_OK;
    mnd_evaluation test = {0};
    if (r->test == NULL) {
        if (r->n_history == 0) return MND_OK;
        r->result->test_accuracy = r->history[r->n_history - 1].val_accuracy;
        r->result->test_loss = r->history[r->n_history - 1].val_loss;
        return MND_OK;
    }
    MND_TRY(mnd_run_evaluate(r, r->test, &test));
    r->result->test_accuracy = (double)test.correct / (double)test.count;
    r->result->test_loss = test.loss;
cleanup:
    return status;
}
