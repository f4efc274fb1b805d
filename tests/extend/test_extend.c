/*
 * A layer, an optimizer and an exchange from outside (extend.h) are registered by name and train
 * mlp16, and the weights are those of a training loop in double precision that is written out here
 * and shares no code with the program.
 */
#include "mpi_test.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "extend.h"
#include "mnist_dist/checkpoint.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/synth.h"
#include "mnist_dist/train.h"

/* The batch is all images, so that their order does not matter: a step is an epoch. */
enum { IMAGES = 200, TEST_IMAGES = 20, IN = 784, HIDDEN = 16, OUT = 10, STEPS = 8 };
enum { W1 = IN * HIDDEN, B1 = HIDDEN, W2 = HIDDEN * HIDDEN, W3 = HIDDEN * OUT };
enum { N = W1 + B1 + W2 + HIDDEN + W3 + OUT };

static char folder[256], data_file[512];

/* ------------------------------------------------------------------------- the reference */

static const int width[4] = {IN, HIDDEN, HIDDEN, OUT};

/* y (n) = x (k) w (k, n) + b */
static void dense(int k, int n, const double *x, const double *w, const double *b, double *y) {
    for (int j = 0; j < n; j++) {
        y[j] = b[j];
        for (int i = 0; i < k; i++) y[j] += x[i] * w[i * n + j];
    }
}

/* Adds the gradient of one image's cross-entropy to g. alpha: of elu, 0 for relu. */
static void add_gradient(const double *w, const double *x, int label, double alpha, double *g) {
    double z[4][HIDDEN], a[4][HIDDEN], d[4][HIDDEN], sum = 0, most = -HUGE_VAL;
    const double *in[4] = {x, a[1], a[2], NULL};
    size_t at[4] = {0};
    for (int l = 1; l <= 3; l++) {
        const double *kernel = w + at[l - 1];
        dense(width[l - 1], width[l], in[l - 1], kernel, kernel + width[l - 1] * width[l], z[l]);
        for (int j = 0; j < width[l]; j++) a[l][j] = z[l][j] > 0 ? z[l][j] : alpha * expm1(z[l][j]);
        if (l < 3) at[l] = at[l - 1] + (size_t)(width[l - 1] * width[l] + width[l]);
    }
    for (int j = 0; j < OUT; j++) most = fmax(most, z[3][j]);
    for (int j = 0; j < OUT; j++) sum += exp(z[3][j] - most);
    for (int j = 0; j < OUT; j++) d[3][j] = (exp(z[3][j] - most) / sum - (j == label)) / IMAGES;
    for (int l = 3; l >= 1; l--) {
        const double *kernel = w + at[l - 1];
        double *grad = g + at[l - 1];
        for (int i = 0; i < width[l - 1]; i++) {
            double back = 0;
            for (int j = 0; j < width[l]; j++) {
                grad[i * width[l] + j] += in[l - 1][i] * d[l][j];
                back += kernel[i * width[l] + j] * d[l][j];
            }
            if (l > 1) d[l - 1][i] = z[l - 1][i] > 0 ? back : alpha * exp(z[l - 1][i]) * back;
        }
        for (int j = 0; j < width[l]; j++) grad[width[l - 1] * width[l] + j] += d[l][j];
    }
}

static void step_lion(double *w, double *m, const double *g) {
    for (int i = 0; i < N; i++) {
        const double c = 0.9 * m[i] + 0.1 * g[i];
        w[i] -= 0.001 * ((c > 0) - (c < 0));
        m[i] = 0.99 * m[i] + 0.01 * g[i];
    }
}

static void step_sgd(double *w, double *v, const double *g) {
    for (int i = 0; i < N; i++) {
        v[i] = 0.9 * v[i] + g[i];
        w[i] -= 0.05 * v[i];
    }
}

/* Weights after STEPS steps from `start`. */
static void reference(const float *start, double alpha, bool uses_lion, double *w) {
    static uint8_t pixel[IMAGES * IN], label[IMAGES];
    static double x[IN], g[N], state[N];
    mnd_dataset *data = NULL;
    if (mnd_dataset_open(data_file, &data) != MND_OK ||
        mnd_dataset_read(data, MND_TRAIN, 0, IMAGES, pixel, label) != MND_OK)
        abort();
    mnd_dataset_close(&data);
    memset(state, 0, sizeof state);
    for (int i = 0; i < N; i++) w[i] = (double)start[i];
    for (int t = 0; t < STEPS; t++) {
        memset(g, 0, sizeof g);
        for (int i = 0; i < IMAGES; i++) {
            for (int k = 0; k < IN; k++) x[k] = pixel[i * IN + k] / 255.0;
            add_gradient(w, x, label[i], alpha, g);
        }
        if (uses_lion)
            step_lion(w, state, g);
        else
            step_sgd(w, state, g);
    }
}

/* ---------------------------------------------------------------------------- the program */

/* Trains and reads the weights back from the last checkpoint. Collective. */
static mnd_status train(const char *model, const char *optimizer, const char *exchange, double lr,
                        float *weights) {
    mnd_status status = MND_OK;
    mnd_checkpoint ckpt = {0};
    mnd_train_result result;
    const mnd_train_observer nobody = {0};
    mnd_train_config c = {.data = data_file,
                          .model = model,
                          .init = MND_INIT_GLOROT,
                          .final_fraction = 1.0,
                          .batch_size = IMAGES,
                          .epochs = STEPS,
                          .seed = 3,
                          .exchange = exchange,
                          .threads = 1,
                          .checkpoint_dir = folder,
                          .keep = 1,
                          .stall_timeout = 60.0,
                          .target_accuracy = 2.0};
    MND_TRY(mnd_optimizer_default(optimizer, &c.optimizer));
    c.optimizer.lr = lr;
    MND_TRY(mnd_train(&c, world, &nobody, &result));
    if (mnd_comm_rank(world) == 0) {
        status = mnd_checkpoint_read(result.checkpoint, &ckpt);
        for (int a = 0; a < ckpt.n_array && status == MND_OK; a++) {
            size_t count = 1;
            for (int d = 0; d < ckpt.array[a].ndim; d++) count *= (size_t)ckpt.array[a].dim[d];
            memcpy(weights, ckpt.array[a].data, count * sizeof *weights);
            weights += count;
        }
    }
    status = mnd_comm_agree(world, status, NULL);
cleanup:
    mnd_checkpoint_free(&ckpt);
    return status;
}

/* The initial weights of mlp16, whatever its neurons are. */
static void initial(float *weights) {
    const mnd_shape input = {3, {28, 28, 1}};
    const mnd_model_options options = {.max_seg = 1, .threads = 1};
    mnd_model *model = NULL;
    if (mnd_model_create("flatten,dense:16,elu:0.5,dense:16,elu:0.5,dense:10", &input, 10, &options,
                         &model) != MND_OK ||
        mnd_model_n_param(model) != N)
        abort();
    mnd_model_bind(model, weights, NULL, 0);
    mnd_model_initialize(model, MND_INIT_GLOROT, 3);
    mnd_model_destroy(&model);
}

static void check(const char *model, double alpha, const char *optimizer, const char *exchange) {
    static float got[N], start[N];
    static double want[N];
    const bool uses_lion = strcmp(optimizer, "lion") == 0;
    assert_ok(train(model, optimizer, exchange, uses_lion ? 0.001 : 0.05, got));
    int wrong = 0, moved = 0;
    if (mnd_comm_rank(world) == 0) {
        initial(start);
        reference(start, alpha, uses_lion, want);
        for (int i = 0; i < N; i++) {
            moved += fabs((double)start[i] - want[i]) > 1e-4;
            wrong += !(fabs((double)got[i] - want[i]) <= 1e-5 * fmax(1.0, fabs(want[i])));
        }
        /* A sign that rounding decides moves a weight of Lion the other way. */
        if (uses_lion && wrong <= N / 2000) wrong = 0;
    }
    assert_everywhere(mnd_comm_rank(world) != 0 || moved > N / 4);
    assert_everywhere(wrong == 0);
}

#define ELU "flatten,dense:16,elu:0.5,dense:16,elu:0.5,dense:10"

static void layer(void **state) {
    (void)state;
    check(ELU, 0.5, "sgd", "auto");
}

static void optimizer(void **state) {
    (void)state;
    check("mlp16", 0.0, "lion", "auto");
}

static void exchange(void **state) {
    (void)state;
    check("mlp16", 0.0, "sgd", "ring");
}

static void together(void **state) {
    (void)state;
    check(ELU, 0.5, "lion", "ring");
}

static void names(void **state) {
    (void)state;
    char text[256];
    mnd_optimizer_names(", ", text, sizeof text);
    assert_everywhere(strstr(text, "adam") != NULL && strstr(text, "lion") != NULL);
    mnd_exchange_names(", ", text, sizeof text);
    assert_everywhere(strstr(text, "shared") != NULL && strstr(text, "ring") != NULL);
    assert_everywhere(!mnd_exchange_fixed_order("ring") && mnd_exchange_fixed_order("auto"));
    assert_everywhere(mnd_layer_register(&elu) == MND_USAGE);
    assert_everywhere(mnd_optimizer_register(&lion) == MND_USAGE);
    assert_everywhere(mnd_exchange_register(&ring) == MND_USAGE);
}

/* A data file and a checkpoint folder, seen by all. Collective. */
static int set_up(void **state) {
    (void)state;
    mnd_status status = MND_OK;
    snprintf(folder, sizeof folder, "/tmp/mnd_extend.XXXXXX");
    if (mnd_comm_rank(world) == 0 && mkdtemp(folder) == NULL) status = MND_IO;
    if (status == MND_OK) status = mnd_comm_bcast(world, folder, sizeof folder, 0);
    snprintf(data_file, sizeof data_file, "%s/data.h5", folder);
    if (status == MND_OK && mnd_comm_rank(world) == 0)
        status = mnd_synth_file(data_file, IMAGES, TEST_IMAGES, 1, NULL, NULL);
    if (mnd_comm_agree(world, status, NULL) != MND_OK) return -1;
    const mnd_status registered[] = {mnd_layer_register(&elu), mnd_optimizer_register(&lion),
                                     mnd_exchange_register(&ring)};
    return registered[0] == MND_OK && registered[1] == MND_OK && registered[2] == MND_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return mnd_comm_rank(world) != 0 ? 0 : system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layer),    cmocka_unit_test(optimizer), cmocka_unit_test(exchange),
        cmocka_unit_test(together), cmocka_unit_test(names),
    };
    return mpi_test_main_with("extend", tests, sizeof tests / sizeof tests[0], set_up, tear_down);
}
