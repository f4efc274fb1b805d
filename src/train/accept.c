#include "mnist_dist/accept.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mnist_dist/exchange.h"
#include "mnist_dist/kernels.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/synth.h"
#include "mnist_dist/timer.h"
#include "mnist_dist/train.h"
#include "replica.h"

/*
 * The run with a known answer, and the answer: made by `mnist_dist accept` on one process with
 * AVX-512, equal with AVX2 and on every number of processes up to LOGICAL.
 */
static const char SPEC[] = "conv:8:3,relu,maxpool:2,flatten,dropout:0.1,dense:32,relu,dense:10";
enum { IMAGES = 2560, TEST_IMAGES = 500, EPOCHS = 3, BATCH = 128, LOGICAL = 64 };
static const char KNOWN_SHA256[] =
    "a84ca00620579ad58e2ba470a0b82ffd3782f6ed397ebea1e10f0e8777974a15";
static const double KNOWN_LOSS = 0.55167349619693118;
static const double LOSS_TOLERANCE = 0.01; /* relative: another order of rounding, the same run */
static const double ACCURACY_FLOOR = 0.80;

typedef struct table {
    mnd_acceptance *row;
    int n;
} table;

static void add(table *t, const char *check, bool passed, const char *format, ...) MND_PRINTF(4, 5);
static void add(table *t, const char *check, bool passed, const char *format, ...) {
    if (t->n == MND_MAX_ACCEPTANCES) return;
    mnd_acceptance *row = &t->row[t->n++];
    va_list args;
    va_start(args, format);
    vsnprintf(row->text, sizeof row->text, format, args);
    va_end(args);
    snprintf(row->check, sizeof row->check, "%s", check);
    row->passed = passed;
}

/* ----------------------------------------------------------------------------- the known answer */

/* Each host draws the digits into a file of its own, which the host's processes then share. */
static mnd_status draw(mnd_comm *comm, mnd_comm *node, char *path, size_t size) {
    mnd_status status = MND_OK;
    const char *folder = getenv("TMPDIR");
    snprintf(path, size, "%s/mnist_dist-accept.XXXXXX",
             folder != NULL && folder[0] != '\0' ? folder : "/tmp");
    if (mnd_comm_rank(node) == 0) {
        const int fd = mkstemp(path);
        if (fd < 0) {
            status = mnd_fail(MND_IO, "cannot make a file like %s: set TMPDIR", path);
        } else {
            close(fd);
            status = mnd_synth_file(path, IMAGES, TEST_IMAGES, 1, NULL, NULL);
        }
    }
    status = mnd_comm_agree(comm, status, NULL);
    return status == MND_OK ? mnd_comm_bcast(node, path, size, 0) : status;
}

static mnd_status known_answer(mnd_comm *comm, const mnd_accept_request *q, table *t) {
    mnd_status status = MND_OK;
    mnd_comm *node = NULL;
    char path[1024] = "";
    mnd_train_result result;
    const mnd_train_observer no_observer = {0};
    const int size = mnd_comm_size(comm);
    mnd_train_config c = {.model = SPEC,
                          .init = MND_INIT_GLOROT,
                          .final_fraction = 1.0,
                          .batch_size = BATCH,
                          .epochs = EPOCHS,
                          .seed = 1,
                          .logical_ranks = size > LOGICAL ? size : LOGICAL,
                          .exchange = "auto",
                          .threads = q->threads,
                          .plain = q->plain,
                          .stall_timeout = 60.0,
                          .target_accuracy = 2.0};
    MND_TRY(mnd_optimizer_default("adam", &c.optimizer));
    c.optimizer.lr = 0.003;
    MND_TRY(mnd_comm_split_node(comm, &node));
    MND_TRY(draw(comm, node, path, sizeof path));
    c.data = path;
    status = mnd_train(&c, comm, &no_observer, &result);
    if (status == MND_MISMATCH) { /* bits that changed by themselves: all processes know */
        add(t, "known answer", false, "%s", mnd_error());
        status = MND_OK;
        goto cleanup;
    }
    MND_TRY(status);
    const double error = fabs(result.test_loss - KNOWN_LOSS) / KNOWN_LOSS;
    if (size <= LOGICAL && strcmp(mnd_arithmetic(q->plain), MND_ARITHMETIC) == 0)
        add(t, "known answer", strcmp(result.weights_sha256, KNOWN_SHA256) == 0,
            "weights_sha256 %.16s..., must be %.16s...", result.weights_sha256, KNOWN_SHA256);
    else if (size <= LOGICAL)
        add(t, "known answer", error <= LOSS_TOLERANCE,
            "test loss %.6f, must be within %g %% of %.6f (%s)", result.test_loss,
            100.0 * LOSS_TOLERANCE, KNOWN_LOSS, mnd_arithmetic(q->plain));
    add(t, "accuracy", result.test_accuracy >= ACCURACY_FLOOR, "%.4f, must be at least %.2f",
        result.test_accuracy, ACCURACY_FLOOR);
cleanup:
    if (node != NULL && mnd_comm_rank(node) == 0 && path[0] != '\0') unlink(path);
    mnd_comm_finish(&node);
    return status;
}

/* --------------------------------------------------------------------------------- the exchange */

enum { PARAMS = 100003 };

/* What logical rank l gives for parameter i: a small integer, so that every order of adding is
 * exact. */
static float share(int l, size_t i) { return (float)((int)((i * 7 + (size_t)l * 13) % 65) - 32); }

static mnd_status check_exchange(mnd_comm *comm, const char *name, int logical, table *t) {
    mnd_status status = MND_OK;
    mnd_exchange *ex = NULL;
    const int rank = mnd_comm_rank(comm), size = mnd_comm_size(comm);
    const int first = mnd_logical_first(logical, size, rank);
    const int last = mnd_logical_first(logical, size, rank + 1);
    int subtree[64];
    size_t stride;
    uint32_t flags;
    char check[32];
    int64_t wrong = 0;
    snprintf(check, sizeof check, "exchange %.20s", name);
    const mnd_exchange_options options = {
        .name = name, .logical = logical, .n_param = PARAMS, .n_slot = 1};
    MND_TRY(mnd_exchange_create(comm, &options, &ex));
    float *grad = mnd_exchange_grad(ex, &stride);
    int n = mnd_subtrees(logical, first, last, subtree);
    if (!mnd_exchange_fixed_order(name)) {
        n = 1;
        subtree[1] = last;
    }
    for (int k = 0; k < n; k++)
        for (size_t i = 0; i < PARAMS; i++) {
            float sum = 0.0F;
            for (int l = subtree[k]; l < subtree[k + 1]; l++) sum += share(l, i);
            grad[(size_t)k * stride + i] = sum;
        }
    MND_TRY(mnd_exchange_step(ex, &mnd_update_keep_sum, 1U << (rank % 16), &flags));
    const float *param = mnd_exchange_param(ex);
    for (size_t i = 0; i < PARAMS; i++) {
        float sum = 0.0F;
        for (int l = 0; l < logical; l++) sum += share(l, i);
        wrong += param[i] < sum || param[i] > sum || isnan(param[i]);
    }
    const uint32_t all = size >= 16 ? 0xFFFFU : (1U << size) - 1U;
    wrong += flags != all;
    MND_TRY(mnd_comm_sum_i64(comm, &wrong, 1));
    add(t, check, wrong == 0, "%lld of %d sums over %d logical ranks are wrong, must be 0",
        (long long)wrong, PARAMS * size, logical);
    status = mnd_replica_check(comm, ex, PARAMS, 1, 1);
    add(t, "replicas", status == MND_OK, "%s",
        status == MND_OK ? "all copies are the same to the bit" : mnd_error());
    if (status == MND_MISMATCH) status = MND_OK;
cleanup:
    mnd_exchange_destroy(&ex);
    return status;
}

/* ----------------------------------------------------------------------------------- efficiency */

enum { BLOCKS = 7, STEPS = 10, ROWS = 64 };

/* Of n measurements, each as the slowest process saw it, the least disturbed. Collective. */
static mnd_status slowest(mnd_comm *comm, double *value, size_t n, double *out) {
    const mnd_status status = mnd_comm_max_f64(comm, value, n);
    *out = value[0];
    for (size_t i = 1; i < n; i++) *out = fmin(*out, value[i]);
    return status;
}

/* Seconds of a step: gradient, unless model is NULL, and exchange, unless that is. Collective. */
static mnd_status time_steps(mnd_comm *comm, mnd_model *model, mnd_exchange *ex,
                             const mnd_batch *batch, double *seconds) {
    mnd_status status = MND_OK;
    double loss;
    int64_t correct;
    uint32_t flags;
    size_t stride;
    MND_TRY(mnd_comm_barrier(comm));
    const double begin = mnd_now();
    for (int s = 0; s < STEPS; s++) {
        if (model != NULL && ex != NULL) {
            float *const grad = mnd_exchange_grad(ex, &stride);
            mnd_model_bind(model, mnd_exchange_param(ex), grad, stride);
        }
        if (model != NULL) mnd_model_gradient(model, batch, &loss, &correct);
        if (ex != NULL) MND_TRY(mnd_exchange_step(ex, &mnd_update_keep_sum, 0, &flags));
    }
    *seconds = (mnd_now() - begin) / STEPS;
cleanup:
    return status;
}

/*
 * mlp512 with 64 rows a process: whole steps, the gradient alone (all processes at once, so that
 * they share the memory as in a step), and the exchange alone, in turn.
 */
static mnd_status efficiency(mnd_comm *comm, const mnd_accept_request *q, table *t) {
    mnd_status status = MND_OK;
    mnd_model *model = NULL;
    mnd_exchange *ex = NULL;
    double whole[BLOCKS], compute[BLOCKS], exchange[BLOCKS], step, alone, sum;
    size_t stride;
    const int start[2] = {0, ROWS}, subtree[2] = {0, 1};
    const mnd_segments seg = {.n_seg = 1, .start = start, .n_subtree = 1, .subtree = subtree};
    uint8_t label[ROWS] = {0};
    uint32_t sample[ROWS] = {0};
    const mnd_batch batch = {
        .seg = &seg, .label = label, .sample = sample, .seed = 1, .epoch = 1, .scale = 1.0F / ROWS};
    const mnd_shape input = {.ndim = 3, .dim = {28, 28, 1}};
    const mnd_model_options options = {
        .max_rows = ROWS, .max_seg = 1, .training = true, .plain = q->plain, .threads = q->threads};
    status = mnd_model_create("mlp512", &input, 10, &options, &model);
    MND_TRY(mnd_comm_agree(comm, status, NULL));
    const mnd_exchange_options wanted = {.name = "auto",
                                         .logical = mnd_comm_size(comm),
                                         .n_param = mnd_model_n_param(model),
                                         .n_slot = 1};
    MND_TRY(mnd_exchange_create(comm, &wanted, &ex));
    mnd_model_bind(model, mnd_exchange_param(ex), mnd_exchange_grad(ex, &stride), stride);
    if (mnd_exchange_writes_param(ex)) mnd_model_initialize(model, MND_INIT_GLOROT, 1);
    MND_TRY(mnd_exchange_publish(ex));
    for (size_t i = 0; i < (size_t)ROWS * 784; i++) mnd_model_input(model)[i] = share(1, i) / 64.0F;
    for (int b = -1; b < BLOCKS; b++) { /* the first round warms up */
        const int k = b < 0 ? 0 : b;
        MND_TRY(time_steps(comm, model, ex, &batch, &whole[k]));
        MND_TRY(time_steps(comm, model, NULL, &batch, &compute[k]));
        MND_TRY(time_steps(comm, NULL, ex, &batch, &exchange[k]));
    }
    MND_TRY(slowest(comm, whole, BLOCKS, &step));
    MND_TRY(slowest(comm, compute, BLOCKS, &alone));
    MND_TRY(slowest(comm, exchange, BLOCKS, &sum));
    const double ratio = (alone + sum) / step;
    add(t, "efficiency", ratio >= q->min_efficiency,
        "%.2f of the model (computing %.2f ms + exchange %.2f ms, a step takes %.2f ms), must be "
        "at "
        "least %.2f",
        ratio, 1e3 * alone, 1e3 * sum, 1e3 * step, q->min_efficiency);
cleanup:
    mnd_exchange_destroy(&ex);
    mnd_model_destroy(&model);
    return status;
}

mnd_status mnd_accept(mnd_comm *comm, const mnd_accept_request *q,
                      mnd_acceptance row[MND_MAX_ACCEPTANCES], int *n) {
    mnd_status status = MND_OK;
    table t = {.row = row};
    const int size = mnd_comm_size(comm), logical = 2 * size + 1;
    MND_TRY(known_answer(comm, q, &t));
    if (size == 1) MND_TRY(check_exchange(comm, "local", 1, &t));
    MND_TRY(check_exchange(comm, "mpi", logical, &t));
    if (size > 1) MND_TRY(check_exchange(comm, "tree", logical, &t));
    if (size > 1 && mnd_comm_nodes(comm) == 1) MND_TRY(check_exchange(comm, "shared", logical, &t));
    if (size > 1) MND_TRY(check_exchange(comm, "hierarchical", logical, &t));
    MND_TRY(efficiency(comm, q, &t));
cleanup:
    *n = t.n;
    return status;
}
