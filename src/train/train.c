/* train.c - a training run from its first to its last line. */
#include "mnist_dist/train.h"

#include <stdarg.h>
#include <stdio.h>

#include "mnist_dist/timer.h"
#include "run.h"
#include "signals.h"

void mnd_run_warn(const mnd_run *r, const char *format, ...) {
    if (r->rank != 0 || r->observer->warning == NULL) return;
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    r->observer->warning(r->observer->context, text);
}

mnd_status mnd_train(const mnd_train_config *config, mnd_comm *comm,
                     const mnd_train_observer *observer, mnd_train_result *result) {
    mnd_status status = MND_OK;
    *result = (mnd_train_result){.best_accuracy = -1.0, .best_loss = -1.0};
    mnd_run r = {.config = config,
                 .observer = observer,
                 .result = result,
                 .comm = comm,
                 .rank = mnd_comm_rank(comm),
                 .size = mnd_comm_size(comm),
                 .started = mnd_now(),
                 .best_accuracy = -1.0,
                 .best_loss = -1.0,
                 .folder_lock = -1};
    mnd_signals_catch();
    MND_TRY(mnd_run_set_up(&r));
    MND_TRY(mnd_run_epochs(&r));
    MND_TRY(mnd_run_test(&r));
    MND_TRY(mnd_run_report_end(&r));
cleanup:
    mnd_watchdog_stop(&r.dog);
    if (!config->keep_signals || (status != MND_OK && status != MND_STOPPED)) mnd_signals_release();
    mnd_run_free(&r);
    return status;
}
