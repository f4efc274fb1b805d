/*
 * The averaged gradient on any number of processes: the gradient of the same global batch on one,
 * to 1e-6, and bit by bit what the logical ranks give on one process. Batches that no number of
 * processes divides, a short last one, more logical ranks than samples; each sample once.
 */
#include "mpi_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mnist_dist/exchange.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/model.h"
#include "mnist_dist/rng.h"

/* Most problems are of few images. */
enum { FEW = 83, MANY = 167, MAX_V = 16, PIXELS = 2048 };

typedef struct problem {
    const char *spec;
    mnd_shape input;
    int classes;
} problem;

static const problem problems[] = {
    {"dense:19,relu,dropout:0.3,dense:7", {1, {11}}, 7},
    {"dense:96,relu,dropout:0.3,dense:64,sigmoid,dense:5", {1, {161}}, 5}, /* owners compute */
    /* and columns are dealt out */
    {"dense:256,relu,dropout:0.3,dense:384,dense:256,sigmoid,dropout:0.2,dense:256,relu,dense:5",
     {1, {161}},
     5},
    /* and the two sums of deep layers, above a convolution and above a layer that nobody owns,
       and with the convolution */
    {"conv:12:3,maxpool:2,flatten,dropout:0.1,dense:24,relu,dense:10", {3, {41, 40, 1}}, 10},
    {"dense:4200,relu,dense:48,relu,dense:5", {1, {30}}, 5},
    {"conv:12:3,relu,maxpool:2,flatten,dense:24,relu,dense:10", {3, {41, 40, 1}}, 10},
    /* and columns with a relu between, whose mask they take along */
    {"dense:256,relu,dense:256,relu,dense:5", {1, {161}}, 5},
    {"conv:6:3,maxpool:2,flatten,dense:24,relu,dropout:0.2,dense:10", {3, {12, 13, 1}}, 10},
    {"conv:4:3:same,relu,conv:8:3:s2,tanh,avgpool:2,flatten,dense:5", {3, {11, 10, 2}}, 5},
    /* pairs of layers one above the other, and one whose relu has a backward pass of its own */
    {"dense:256,relu,dense:256,relu,dense:256,relu,dense:256,relu,dense:5", {1, {161}}, 5},
    {"dense:256,relu,flatten,dense:256,relu,dense:5", {1, {161}}, 5},
    /* two sums whose columns are no whole number of what kernels do at a time */
    {"dense:4200,relu,dense:100,relu,dense:5", {1, {30}}, 5},
};

/* Large enough to be dealt out at a batch of all images, more rows than kernels take at a time. */
static const problem large = {"dense:512,relu,dense:256,relu,dense:5", {1, {400}}, 5};

static int images_of(const problem *p) { return p == &large ? MANY : FEW; }

/* Image i of the training set, the same everywhere. */
static void image(const problem *p, int64_t i, uint8_t *pixel, uint8_t *label) {
    mnd_rng rng;
    mnd_rng_start(&rng, 1, MND_RNG_TEST, (uint32_t)i, 0);
    const size_t n = mnd_shape_size(&p->input);
    if (n > PIXELS) abort();
    for (size_t k = 0; k < n; k++)
        pixel[k] = k / 9 % 2 == 0 && mnd_rng_below(&rng, 3) ? (uint8_t)mnd_rng_below(&rng, 256) : 0;
    *label = (uint8_t)mnd_rng_below(&rng, (uint32_t)p->classes);
}

/* Everything one process needs for its share of a step. */
typedef struct trainer {
    mnd_comm *comm;
    mnd_exchange *ex;
    mnd_model *model;
    size_t n_param;
    int logical, first, last; /* its block of logical ranks */
    int n_part, part[2 * MAX_V + 2];
    int all_start[MAX_V + 1]; /* rows of every logical rank in this step */
    int step;
    bool floats; /* the model's input is filled with floats, it knows no bytes */
} trainer;

static void *need(size_t bytes) {
    void *p = NULL;
    if (mnd_alloc(&p, bytes, 1, "a test") != MND_OK) abort();
    return p;
}

static void own(void *context) {
    const trainer *t = context;
    mnd_model_owned_gradient(t->model);
}

static void bind(trainer *t) {
    size_t stride;
    float *grad = mnd_exchange_grad(t->ex, &stride);
    mnd_model_bind(t->model, mnd_exchange_param(t->ex), grad, stride);
}

/* Whether what others read next goes past the caches in every other step, the first one among them;
   else in none. */
static bool sending;

static void choose_sending(trainer *t) {
    setenv("MNIST_DIST_SEND", sending && t->step++ % 2 == 0 ? "always" : "never", 1);
    mnd_exchange_choose_sending(t->ex);
    bind(t);
    mnd_model_send(t->model, mnd_exchange_sends(t->ex));
}

static void meet(void *ex) { mnd_exchange_meet(ex); }

/* Collective over `comm`. */
static mnd_status open_trainer(trainer *t, mnd_comm *comm, const char *exchange, const problem *p,
                               int logical, int64_t batch) {
    mnd_status status = MND_OK;
    const int rank = mnd_comm_rank(comm), size = mnd_comm_size(comm);
    *t = (trainer){.comm = comm,
                   .logical = logical,
                   .first = mnd_logical_first(logical, size, rank),
                   .last = mnd_logical_first(logical, size, rank + 1)};
    const mnd_peers peers = {
        .count = size, .rank = rank, .logical = logical, .batch = batch, .max_rows = images_of(p)};
    const mnd_model_options options = {.max_rows = images_of(p),
                                       .max_seg = t->last - t->first,
                                       .training = true,
                                       .threads = 1,
                                       .peers = peers};
    MND_TRY(mnd_model_create(p->spec, &p->input, p->classes, &options, &t->model));
    t->n_param = mnd_model_n_param(t->model);
    mnd_owned range[MND_MAX_LAYERS];
    const mnd_exchange_owned offer = {.bytes = mnd_model_shared_size(t->model),
                                      .n_range = mnd_model_owned(t->model, range),
                                      .range = range,
                                      .groups = mnd_model_groups(t->model)};
    MND_TRY(mnd_exchange_create(comm, exchange, logical, t->n_param, 1, &offer, &t->ex));
    bind(t);
    if (mnd_exchange_lent(t->ex) != NULL) {
        size_t first, count;
        mnd_exchange_slice(t->ex, &first, &count);
        mnd_model_share(t->model, mnd_exchange_lent(t->ex), first, count, meet, t->ex);
        mnd_exchange_set_owner(t->ex, own, t);
    }
    t->n_part = mnd_tree_parts(logical, t->first, t->last, t->part);
    for (int i = 0; i <= t->n_part; i++) t->part[i] -= t->first;
cleanup:
    return status;
}

static void close_trainer(trainer *t) {
    mnd_exchange_destroy(&t->ex);
    mnd_model_destroy(&t->model);
}

/*
 * The gradient of the step that takes tickets [from, to), left in the place of the parameters;
 * loss[l] and correct[l] of this process' logical ranks, and how often each image was used.
 * Collective.
 */
static mnd_status step(trainer *t, const problem *p, int64_t from, int64_t to, double *loss,
                       int64_t *correct, int64_t *used) {
    mnd_status status = MND_OK;
    /* The parameters may be one copy for all: nobody reads the last step's any more. */
    MND_TRY(mnd_comm_barrier(t->comm));
    if (mnd_exchange_writes_param(t->ex)) mnd_model_initialize(t->model, MND_INIT_GLOROT, 3);
    MND_TRY(mnd_exchange_publish(t->ex));
    int start[MAX_V + 1] = {0}, row = 0;
    for (int l = 0; l < t->logical; l++)
        t->all_start[l + 1] = t->all_start[l] + (int)(mnd_tickets_before(to, t->logical, l) -
                                                      mnd_tickets_before(from, t->logical, l));
    uint8_t label[MANY];
    uint32_t sample[MANY];
    int from_peer, to_peer;
    mnd_model_reads(t->model, &from_peer, &to_peer);
    const int size = mnd_comm_size(t->comm);
    if (mnd_exchange_lent(t->ex) == NULL) {
        from_peer = mnd_comm_rank(t->comm);
        to_peer = from_peer + 1;
    }
    static uint8_t pixels[MANY][PIXELS];
    const uint8_t *images[MANY];
    const size_t width = mnd_shape_size(&p->input);
    int read = 0;
    for (int l = mnd_logical_first(t->logical, size, from_peer);
         l < mnd_logical_first(t->logical, size, to_peer); l++) {
        const bool own_row = l >= t->first && l < t->last;
        const int64_t done = mnd_tickets_before(from, t->logical, l);
        const int64_t end = mnd_tickets_before(to, t->logical, l);
        for (int64_t k = done; k < end; k++, read++) {
            const int64_t i = mnd_shard_first(images_of(p), t->logical, l) + k;
            uint8_t others;
            image(p, i, pixels[read], own_row ? &label[row] : &others);
            images[read] = pixels[read];
            if (t->floats)
                mnd_pixels(width, pixels[read], mnd_model_input(t->model) + (size_t)read * width);
            if (!own_row) continue;
            sample[row++] = (uint32_t)i;
            used[i]++;
        }
        if (own_row) start[l - t->first + 1] = row;
    }
    const mnd_rows rows = {
        .n_seg = t->last - t->first, .start = start, .n_part = t->n_part, .part = t->part};
    const mnd_batch batch = {.rows = &rows,
                             .label = label,
                             .sample = sample,
                             .seed = 12,
                             .epoch = 2,
                             .all_start = t->all_start,
                             .scale = 1.0F / (float)(to - from),
                             .image = t->floats ? NULL : images};
    choose_sending(t);
    mnd_model_gradient(t->model, &batch, loss + t->first, correct + t->first);
    uint32_t flags = 0;
    MND_TRY(mnd_exchange_step(t->ex, mnd_exchange_keep_sum, NULL, 0, &flags));
cleanup:
    return status;
}

/* The gradient of the same samples by one model that knows nothing of logical ranks. */
static void whole(const problem *p, int logical, int64_t from, int64_t to, float *grad,
                  double *loss, int64_t *correct) {
    static uint8_t label[MANY];
    static uint32_t sample[MANY];
    const mnd_model_options options = {
        .max_rows = images_of(p), .max_seg = 1, .training = true, .threads = 1};
    mnd_model *model = NULL;
    if (mnd_model_create(p->spec, &p->input, p->classes, &options, &model) != MND_OK) abort();
    float *param = need(mnd_model_n_param(model) * sizeof *param);
    mnd_model_bind(model, param, grad, mnd_model_n_param(model));
    mnd_model_initialize(model, MND_INIT_GLOROT, 3);
    int n = 0;
    for (int64_t ticket = from; ticket < to; ticket++, n++) {
        const int l = (int)(ticket % logical);
        const int64_t i =
            mnd_shard_first(images_of(p), logical, l) + mnd_tickets_before(ticket, logical, l);
        uint8_t pixel[PIXELS];
        const size_t width = mnd_shape_size(&p->input);
        image(p, i, pixel, &label[n]);
        mnd_pixels(width, pixel, mnd_model_input(model) + (size_t)n * width);
        sample[n] = (uint32_t)i;
    }
    const int start[2] = {0, n}, part[2] = {0, 1};
    const mnd_rows rows = {.n_seg = 1, .start = start, .n_part = 1, .part = part};
    const mnd_batch batch = {.rows = &rows,
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

/* One epoch in steps of `batch`; the last is short where batch does not divide the images. */
static void epoch(const char *exchange, const problem *p, int logical, int batch) {
    mnd_comm *alone = NULL;
    assert_ok(mnd_comm_self(&alone));
    trainer many, one;
    assert_ok(open_trainer(&many, world, exchange, p, logical, batch));
    assert_ok(open_trainer(&one, alone, "local", p, logical, batch));
    one.floats = true;
    /* Owners compute where it pays and memory is shared; the second problem is large enough. */
    mnd_owned range[MND_MAX_LAYERS];
    const int owned = mnd_model_owned(many.model, range);
    const int lent = mnd_exchange_lent(many.ex) != NULL;
    const int expected = owned > 0 && strcmp(mnd_exchange_name(many.ex), "shared") == 0;
    if (p == &problems[1] || p == &problems[2] || p == &large)
        assert_everywhere((owned > 0) == (mnd_comm_size(world) > 1));
    assert_everywhere(lent == expected);
    const int size = mnd_comm_size(world);
    if (p == &problems[2])
        assert_everywhere(mnd_model_groups(many.model) == (size % 2 == 0   ? 2
                                                           : size % 3 == 0 ? 3
                                                                           : 1));
    if (p >= &problems[3] && p <= &problems[6] && batch <= 37)
        assert_everywhere(mnd_model_groups(many.model) == (size % 2 == 0 ? 2 : 1));
    /* Whose input is read: of a convolution that is dealt out, two processes'. */
    int from_peer, to_peer;
    mnd_model_reads(many.model, &from_peer, &to_peer);
    const int reads = to_peer - from_peer;
    if (p == &problems[1] || p == &problems[2]) assert_everywhere(reads == size);
    if (p == &problems[3]) assert_everywhere(reads == 1);
    if (p == &problems[5] && batch <= 37) assert_everywhere(reads == (size % 2 == 0 ? 2 : 1));
    float *want = need(many.n_param * sizeof *want), *got = need(many.n_param * sizeof *got);
    int64_t used[MANY] = {0}, used_alone[MANY] = {0};
    const int images = images_of(p);
    double worst = 0;
    int same = 1, failed = 0;
    for (int64_t from = 0; from < images; from += batch) {
        const int64_t to = from + batch < images ? from + batch : images;
        double loss[MAX_V] = {0}, loss_alone[MAX_V] = {0}, loss_whole;
        int64_t correct[MAX_V] = {0}, correct_alone[MAX_V] = {0}, correct_whole;
        if (step(&many, p, from, to, loss, correct, used) != MND_OK ||
            step(&one, p, from, to, loss_alone, correct_alone, used_alone) != MND_OK)
            failed = 1;
        whole(p, logical, from, to, want, &loss_whole, &correct_whole);

        mnd_model_describe(many.model, mnd_exchange_param(many.ex), got);
        same = same && memcmp(got, mnd_exchange_param(one.ex), many.n_param * sizeof *got) == 0;
        worst = fmax(worst, distance(got, want, many.n_param));
        for (int l = many.first; l < many.last; l++)
            same = same && loss[l] == loss_alone[l] && correct[l] == correct_alone[l];
        double sum = 0;
        int64_t right = 0;
        for (int l = 0; l < logical; l++) sum += loss_alone[l], right += correct_alone[l];
        same = same && right == correct_whole;
        worst = fmax(worst, fabs(sum - loss_whole) / loss_whole);
    }
    assert_everywhere(!failed);
    if (!(worst <= 1e-6))
        fprintf(stderr, "%s, %d logical ranks, batch %d: off by %.3g\n", p->spec, logical, batch,
                worst);
    assert_everywhere(worst <= 1e-6);
    assert_everywhere(same);
    int once = 1;
    for (int i = 0; i < images; i++) once = once && used_alone[i] == 1;
    assert_ok(mnd_comm_sum_i64(world, used, (size_t)images));
    for (int i = 0; i < images; i++) once = once && used[i] == 1;
    assert_everywhere(once);
    mnd_free(want);
    mnd_free(got);
    close_trainer(&many);
    close_trainer(&one);
    mnd_comm_finish(&alone);
}

static void automatic(void **state) {
    (void)state;
    static const int batches[] = {16, 37, FEW};
    const int size = mnd_comm_size(world);
    const int logical[] = {size, 8, 13};
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++)
        for (size_t v = 0; v < sizeof logical / sizeof logical[0]; v++)
            for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++)
                if (logical[v] >= size && (v == 0 || logical[v] != size))
                    epoch("auto", &problems[i], logical[v], batches[b]);
    epoch("auto", &problems[0], 13, 5);
    epoch("auto", &problems[0], size, 2); /* most processes idle */
    for (int i = 2; i < 7; i++) epoch("auto", &problems[i], 13, 5);
}

static void many_rows(void **state) {
    (void)state;
    const int size = mnd_comm_size(world);
    epoch("auto", &large, size, MANY);
    epoch("auto", &large, 8, MANY);
}

static void sent(void **state) {
    sending = true;
    for (size_t i = 2; i < sizeof problems / sizeof problems[0]; i++)
        epoch("auto", &problems[i], mnd_comm_size(world), 37);
    many_rows(state);
    sending = false;
}

static void every_exchange(void **state) {
    (void)state;
    static const char *const names[] = {
#define NAME(id, name, text) name,
        MND_EXCHANGE_TABLE(NAME)
#undef NAME
    };
    const int size = mnd_comm_size(world);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (size > 1 && strcmp(names[i], "local") == 0) continue;
        epoch(names[i], &problems[1], size, 37);
        for (int k = 2; k < 7; k++) epoch(names[i], &problems[k], size, 37);
        epoch(names[i], &problems[0], 13, 16);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(automatic),
        cmocka_unit_test(many_rows),
        cmocka_unit_test(sent),
        cmocka_unit_test(every_exchange),
    };
    return mpi_test_main("gradient", tests, sizeof tests / sizeof tests[0]);
}
