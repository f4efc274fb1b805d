#include "stopping.h"

#include <stdio.h>

const char *mnd_monitor_name(mnd_monitor monitor) {
    return monitor == MND_MONITOR_LOSS ? "loss" : "accuracy";
}

static bool better(mnd_monitor monitor, const mnd_epoch_record *a, const mnd_epoch_record *b) {
    return monitor == MND_MONITOR_LOSS ? a->val_loss < b->val_loss
                                       : a->val_accuracy > b->val_accuracy;
}

const mnd_epoch_record *mnd_best_epoch(mnd_monitor monitor, const mnd_epoch_record *history,
                                       int64_t n) {
    const mnd_epoch_record *best = NULL;
    for (int64_t i = 0; i < n; i++)
        if (best == NULL || better(monitor, &history[i], best)) best = &history[i];
    return best;
}

mnd_finish mnd_finished(const mnd_train_config *config, const mnd_epoch_record *history,
                        int64_t n) {
    if (n == 0) return MND_FINISH_NOT;
    const mnd_epoch_record *last = &history[n - 1];
    if (last->val_accuracy >= config->target_accuracy) return MND_FINISH_TARGET;
    const mnd_epoch_record *best = mnd_best_epoch(config->monitor, history, n);
    if (config->patience > 0 && last->epoch - best->epoch >= (double)config->patience)
        return MND_FINISH_PATIENCE;
    return last->epoch >= (double)config->epochs ? MND_FINISH_EPOCHS : MND_FINISH_NOT;
}

const char *mnd_finish_name(mnd_finish finish) {
    return finish == MND_FINISH_TARGET     ? "target_accuracy"
           : finish == MND_FINISH_PATIENCE ? "patience"
                                           : "epochs";
}

void mnd_finish_text(mnd_finish finish, const mnd_train_config *config,
                     const mnd_epoch_record *history, int64_t n, char *text, size_t size) {
    const double epoch = n > 0 ? history[n - 1].epoch : 0.0;
    if (finish == MND_FINISH_TARGET)
        snprintf(text, size, "epoch %.0f reached --target-accuracy %g", epoch,
                 config->target_accuracy);
    else if (finish == MND_FINISH_PATIENCE)
        snprintf(text, size, "no %s val_%s since epoch %.0f (--patience %lld)",
                 config->monitor == MND_MONITOR_LOSS ? "lower" : "higher",
                 mnd_monitor_name(config->monitor),
                 mnd_best_epoch(config->monitor, history, n)->epoch, (long long)config->patience);
    else
        snprintf(text, size, "all %lld epochs are done", (long long)config->epochs);
}
