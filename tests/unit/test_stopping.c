/* src/train/stopping.c: the best epoch and the end of a run, compared with Keras' EarlyStopping. */
#include "test.h"

#include <stdbool.h>
#include <string.h>

#include "stopping.h"

enum { MAX = 12 };

/* Records whose val_loss is `value` and whose val_accuracy is 1 - value. */
static void make_history(const double *value, int n, mnd_epoch_record *history) {
    for (int i = 0; i < n; i++)
        history[i] = (mnd_epoch_record){
            .epoch = i + 1.0, .val_loss = value[i], .val_accuracy = 1.0 - value[i]};
}

/* keras.callbacks.EarlyStopping(min_delta=0, patience): on_epoch_end, line by line. The number of
   epochs that are trained of n. */
static int keras(const double *loss, int n, int patience, int *best_epoch) {
    double best = 1e30;
    int wait = 0;
    for (int epoch = 0; epoch < n; epoch++) {
        wait++;
        if (loss[epoch] < best) {
            best = loss[epoch];
            *best_epoch = epoch + 1;
            wait = 0;
            continue;
        }
        if (wait >= patience && epoch > 0) return epoch + 1;
    }
    return n;
}

static void stops_where_keras_stops(void **state) {
    (void)state;
    static const double value[][MAX] = {
        {.9, .8, .7, .6, .5, .4, .3, .2, .1, .05, .04, .03},
        {.5, .6, .6, .4, .5, .5, .5, .3, .4, .4, .4, .4},
        {.5, .5, .5, .5, .5, .5, .5, .5, .5, .5, .5, .5},
        {.1, .9, .8, .7, .6, .5, .4, .3, .2, .15, .1, .05},
    };
    for (size_t v = 0; v < sizeof value / sizeof value[0]; v++)
        for (int patience = 1; patience <= 5; patience++)
            for (int monitor = 0; monitor < 2; monitor++) {
                mnd_epoch_record history[MAX];
                const mnd_train_config config = {.epochs = MAX,
                                                 .patience = patience,
                                                 .monitor = (mnd_monitor)monitor,
                                                 .target_accuracy = 2.0};
                make_history(value[v], MAX, history);
                int n = 1, best = 0;
                while (mnd_finished(&config, history, n) == MND_FINISH_NOT) n++;
                assert_int_equal(n, keras(value[v], MAX, patience, &best));
                assert_int_equal(mnd_best_epoch(config.monitor, history, n)->epoch, best);
                assert_true(n == MAX || mnd_finished(&config, history, n) == MND_FINISH_PATIENCE);
            }
}

static void the_target_and_the_last_epoch_end_a_run(void **state) {
    (void)state;
    static const double value[] = {.5, .2, .4, .1};
    mnd_epoch_record history[4];
    char text[128];
    mnd_train_config config = {.epochs = 4, .target_accuracy = 0.8};
    make_history(value, 4, history);
    assert_int_equal(mnd_finished(&config, NULL, 0), MND_FINISH_NOT);
    assert_int_equal(mnd_finished(&config, history, 1), MND_FINISH_NOT);
    assert_int_equal(mnd_finished(&config, history, 2), MND_FINISH_TARGET);
    mnd_finish_text(MND_FINISH_TARGET, &config, history, 2, text, sizeof text);
    assert_string_equal(text, "epoch 2 reached --target-accuracy 0.8");
    /* The last epoch counts: this one has lost it again. */
    assert_int_equal(mnd_finished(&config, history, 3), MND_FINISH_NOT);
    config.target_accuracy = 2.0;
    assert_int_equal(mnd_finished(&config, history, 4), MND_FINISH_EPOCHS);
    config.epochs = 5;
    assert_int_equal(mnd_finished(&config, history, 4), MND_FINISH_NOT);
    assert_null(mnd_best_epoch(MND_MONITOR_LOSS, NULL, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stops_where_keras_stops),
        cmocka_unit_test(the_target_and_the_last_epoch_end_a_run),
    };
    return cmocka_run_group_tests_name("stopping", tests, NULL, NULL);
}
