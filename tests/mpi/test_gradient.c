/*
 * The averaged gradient on any number of processes: the gradient of the same global batch on one,
 * to 1e-6, and bit by bit what the logical ranks give on one process. Batches that no number of
 * processes divides, a short last one, more logical ranks than samples; each sample once. The
 * textbook path (cblas and MPI_Allreduce) gives the same gradient, to 1e-5.
 */
#include "mpi_test.h"

#include <math.h>
#include <string.h>

#include "mnist_dist/exchange.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/loops.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/model.h"
#include "mnist_dist/rng.h"

enum { IMAGES = 83, MAX_V = 16, PIXELS = 2048 };

typedef struct problem {
    const char *spec;
    mnd_shape input;
    int classes;
} problem;

static const problem problems[] = {
    {"dense:19,relu,dropout:0.3,dense:7", {1, {11}}, 7},
    {"dense:96,relu,dropout:0.3,dense:64,sigmoid,dense:5", {1, {161}}, 5},
    {"conv:6:3,maxpool:2,flatten,dense:24,relu,dropout:0.2,dense:10", {3, {12, 13, 1}}, 10},
    {"conv:4:3:same,relu,conv:8:3:s2,tanh,avgpool:2,flatten,dense:5", {3, {11, 10, 2}}, 5},
    /* outputs of two sums, behind a convolution and behind a dense layer */
    {"conv:12:3,relu,maxpool:2,flatten,dropout:0.1,dense:72,relu,dense:10", {3, {41, 40, 1}}, 10},
    {"dense:256,relu,dense:256,relu,dense:72,relu,dense:5", {1, {300}}, 5},
    {"dense:256,relu,dropout:0.3,dense:384,dense:256,sigmoid,dense:5", {1, {161}}, 5},
};
enum { N_PROBLEM = sizeof problems / sizeof problems[0] };

static const problem presets[] = {
    {"mlp16", {3, {28, 28, 1}}, 10},
    {"mlp512", {3, {28, 28, 1}}, 10},
    {"cnn", {3, {28, 28, 1}}, 10},
    {"cnn2", {3, {28, 28, 1}}, 10},
};

/* Image i of the training set, the same everywhere. */
static void image(const problem *p, int64_t i, float *x, uint8_t *label) {
    mnd_rng rng;
    uint8_t pixel[PIXELS];
    mnd_rng_start(&rng, 1, MND_RNG_TEST, (uint32_t)i, 0);
    const size_t n = mnd_shape_size(&p->input);
    if (n > PIXELS) abort();
    for (size_t k = 0; k < n; k++)
        pixel[k] = k / 9 % 2 == 0 && mnd_rng_below(&rng, 3) ? (uint8_t)mnd_rng_below(&rng, 256) : 0;
    *label = (uint8_t)mnd_rng_below(&rng, (uint32_t)p->classes);
    mnd_pixels(n, pixel, x);
}

/* How a gradient is computed and summed. */
typedef struct method {
    const char *exchange;
    bool plain; /* products by cblas */
} method;

/* What one process needs for its part of a step. */
typedef struct trainer {
    mnd_comm *comm;
    mnd_exchange *ex;
    mnd_model *model;
    size_t n_param;
    int logical, first, last; /* its block of logical ranks */
    bool one_segment;
    int n_subtree, subtree[2 * MAX_V + 2];
} trainer;

static void *need(size_t bytes) {
    void *p = NULL;
    if (mnd_alloc(&p, bytes, 1, "a test") != MND_OK) abort();
    return p;
}

/* Collective over `comm`. */
static mnd_status open_trainer(trainer *t, mnd_comm *comm, const method *how, const problem *p,
                               int logical) {
    mnd_status status = MND_OK;
    const int rank = mnd_comm_rank(comm), size = mnd_comm_size(comm);
    size_t stride;
    *t = (trainer){.comm = comm,
                   .logical = logical,
                   .first = mnd_logical_first(logical, size, rank),
                   .last = mnd_logical_first(logical, size, rank + 1),
                   .one_segment = !mnd_exchange_fixed_order(how->exchange)};
    const mnd_model_options options = {.max_rows = IMAGES,
                                       .max_seg = t->last - t->first,
                                       .training = true,
                                       .plain = how->plain,
                                       .threads = 1};
    MND_TRY(mnd_model_create(p->spec, &p->input, p->classes, &options, &t->model));
    t->n_param = mnd_model_n_param(t->model);
    const mnd_exchange_options wanted = {
        .name = how->exchange, .logical = logical, .n_param = t->n_param};
    MND_TRY(mnd_exchange_create(comm, &wanted, &t->ex));
    mnd_model_bind(t->model, mnd_exchange_param(t->ex), mnd_exchange_grad(t->ex, &stride), stride);
    t->n_subtree = t->one_segment ? 1 : mnd_subtrees(logical, t->first, t->last, t->subtree);
    for (int i = 0; i <= t->n_subtree && !t->one_segment; i++) t->subtree[i] -= t->first;
    if (t->one_segment) t->subtree[1] = 1;
cleanup:
    return status;
}

static void close_trainer(trainer *t) {
    mnd_exchange_destroy(&t->ex);
    mnd_model_destroy(&t->model);
}

/* The loss of each of this process' segments, and how many answers are right. */
typedef struct outcome {
    double loss[MAX_V];
    int64_t correct[MAX_V];
} outcome;

/*
 * The gradient of the step that takes samples [from, to), left in the place of the parameters, and
 * how often each image was used. Collective.
 */
static mnd_status step(trainer *t, const problem *p, int64_t from, int64_t to, outcome *out,
                       int64_t *used) {
    mnd_status status = MND_OK;
    size_t stride;
    float *const grad = mnd_exchange_grad(t->ex, &stride);
    mnd_model_bind(t->model, mnd_exchange_param(t->ex), grad, stride);
    /* The parameters may be one copy for all: nobody reads the last step's any more. */
    MND_TRY(mnd_comm_barrier(t->comm));
    if (mnd_exchange_writes_param(t->ex)) mnd_model_initialize(t->model, MND_INIT_GLOROT, 3);
    MND_TRY(mnd_exchange_publish(t->ex));
    const size_t width = mnd_shape_size(&p->input);
    int start[MAX_V + 1] = {0}, row = 0;
    uint8_t label[IMAGES];
    uint32_t sample[IMAGES];
    for (int l = t->first; l < t->last; l++) {
        const int64_t end = mnd_samples_before(to, t->logical, l);
        for (int64_t k = mnd_samples_before(from, t->logical, l); k < end; k++, row++) {
            const int64_t i = mnd_shard_first(IMAGES, t->logical, l) + k;
            image(p, i, mnd_model_input(t->model) + (size_t)row * width, &label[row]);
            sample[row] = (uint32_t)i;
            used[i]++;
        }
        start[t->one_segment ? 1 : l - t->first + 1] = row;
    }
    const mnd_segments seg = {.n_seg = t->one_segment ? 1 : t->last - t->first,
                              .start = start,
                              .n_subtree = t->n_subtree,
                              .subtree = t->subtree};
    const mnd_batch batch = {.seg = &seg,
                             .label = label,
                             .sample = sample,
                             .seed = 12,
                             .epoch = 2,
                             .scale = 1.0F / (float)(to - from)};
    uint32_t flags = 0;
    *out = (outcome){{0.0}, {0}};
    mnd_model_gradient(t->model, &batch, out->loss, out->correct);
    MND_TRY(mnd_exchange_step(t->ex, &mnd_update_keep_sum, 0, &flags));
cleanup:
    return status;
}

/* The gradient of the same samples by one model that knows nothing of logical ranks. */
static void whole(const problem *p, int logical, int64_t from, int64_t to, float *grad,
                  double *loss, int64_t *correct) {
    static uint8_t label[IMAGES];
    static uint32_t sample[IMAGES];
    const mnd_model_options options = {
        .max_rows = IMAGES, .max_seg = 1, .training = true, .threads = 1};
    mnd_model *model = NULL;
    if (mnd_model_create(p->spec, &p->input, p->classes, &options, &model) != MND_OK) abort();
    float *param = need(mnd_model_n_param(model) * sizeof *param);
    mnd_model_bind(model, param, grad, mnd_model_n_param(model));
    mnd_model_initialize(model, MND_INIT_GLOROT, 3);
    int n = 0;
    for (int64_t t = from; t < to; t++, n++) {
        const int l = (int)(t % logical);
        const int64_t i = mnd_shard_first(IMAGES, logical, l) + mnd_samples_before(t, logical, l);
        image(p, i, mnd_model_input(model) + (size_t)n * mnd_shape_size(&p->input), &label[n]);
        sample[n] = (uint32_t)i;
    }
    const int start[2] = {0, n}, subtree[2] = {0, 1};
    const mnd_segments seg = {.n_seg = 1, .start = start, .n_subtree = 1, .subtree = subtree};
    const mnd_batch batch = {.seg = &seg,
                             .label = label,
                             .sample = sample,
                             .seed = 12,
                             .epoch = 2,
                             .scale = 1.0F / (float)(to - from)};
    mnd_model_gradient(model, &batch, loss, correct);
    mnd_model_destroy(&model);
    mnd_free(param);
}

/* Euclidean length of the difference, relative to that of `want`. */
static double distance(const float *got, const float *want, size_t n) {
    double difference = 0, length = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)got[i] - (double)want[i];
        difference += d * d;
        length += (double)want[i] * (double)want[i];
    }
    return sqrt(difference / length);
}

/* Sums of this process' segments. */
static double sum_loss(const trainer *t, const outcome *o) {
    double sum = 0;
    for (int s = 0; s < (t->one_segment ? 1 : t->last - t->first); s++) sum += o->loss[s];
    return sum;
}

/* One epoch in steps of `batch`; the last is short where batch does not divide the images. */
static void epoch(const method *how, const problem *p, int logical, int batch) {
    mnd_comm *alone = NULL;
    const method local = {.exchange = "local", .plain = how->plain};
    assert_ok(mnd_comm_self(&alone));
    trainer many, one;
    assert_ok(open_trainer(&many, world, how, p, logical));
    assert_ok(open_trainer(&one, alone, &local, p, logical));
    const double limit = how->plain ? 1e-5 : 1e-6;
    float *want = need(many.n_param * sizeof *want);
    int64_t used[IMAGES] = {0}, used_alone[IMAGES] = {0};
    double worst = 0;
    int same = 1, failed = 0;
    for (int64_t from = 0; from < IMAGES; from += batch) {
        const int64_t to = from + batch < IMAGES ? from + batch : IMAGES;
        outcome got, got_alone;
        double loss_whole;
        int64_t correct_whole;
        failed = failed || step(&many, p, from, to, &got, used) != MND_OK ||
                 step(&one, p, from, to, &got_alone, used_alone) != MND_OK;
        whole(p, logical, from, to, want, &loss_whole, &correct_whole);
        const float *sum = mnd_exchange_param(many.ex);
        worst = fmax(worst, distance(sum, want, many.n_param));
        worst = fmax(worst, fabs(sum_loss(&one, &got_alone) - loss_whole) / loss_whole);
        if (many.one_segment) continue;
        same = same && memcmp(sum, mnd_exchange_param(one.ex), many.n_param * sizeof *sum) == 0;
        for (int l = many.first; l < many.last; l++)
            same = same && got.loss[l - many.first] == got_alone.loss[l] &&
                   got.correct[l - many.first] == got_alone.correct[l];
    }
    assert_everywhere(!failed);
    if (!(worst <= limit))
        fprintf(stderr, "%s, %s, %d logical ranks, batch %d: off by %.3g\n", p->spec, how->exchange,
                logical, batch, worst);
    assert_everywhere(worst <= limit);
    assert_everywhere(same);
    int once = 1;
    for (int i = 0; i < IMAGES; i++) once = once && used_alone[i] == 1;
    assert_ok(mnd_comm_sum_i64(world, used, IMAGES));
    for (int i = 0; i < IMAGES; i++) once = once && used[i] == 1;
    assert_everywhere(once);
    mnd_free(want);
    close_trainer(&many);
    close_trainer(&one);
    mnd_comm_finish(&alone);
}

static const method automatic = {.exchange = "auto"};

static void any_number_of_processes(void **state) {
    (void)state;
    static const int batches[] = {16, 37, IMAGES};
    const int size = mnd_comm_size(world);
    const int logical[] = {size, 8, 13};
    for (int i = 0; i < N_PROBLEM; i++)
        for (size_t v = 0; v < sizeof logical / sizeof logical[0]; v++)
            for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++)
                if (logical[v] >= size && (v == 0 || logical[v] != size))
                    epoch(&automatic, &problems[i], logical[v], batches[b]);
    epoch(&automatic, &problems[0], 13, 5);
    epoch(&automatic, &problems[0], size, 2); /* most processes have no sample */
}

static void every_exchange(void **state) {
    (void)state;
    static const char *const names[] = {"tree", "shared", "hierarchical", "mpi"};
    const int size = mnd_comm_size(world);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (int k = 0; k < 4; k++)
            for (int plain = 0; plain < 2; plain++) {
                const method how = {.exchange = names[i], .plain = plain};
                epoch(&how, &problems[k], size, 37);
                epoch(&how, &problems[k], 13, 16);
            }
}

/* One step of every preset by cblas and MPI_Allreduce, beside the fast path. */
static void textbook(void **state) {
    (void)state;
    const method how = {.exchange = "mpi", .plain = true};
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        epoch(&how, &presets[i], 8, IMAGES);
        epoch(&automatic, &presets[i], 8, IMAGES);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_processes),
        cmocka_unit_test(every_exchange),
        cmocka_unit_test(textbook),
    };
    return mpi_test_main("gradient", tests, sizeof tests / sizeof tests[0]);
}
