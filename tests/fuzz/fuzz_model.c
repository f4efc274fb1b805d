/*
 * Model specs: any text is refused with one line, or gives a network whose shapes and counts agree
 * with one another. A small one is then built and runs forward and backward inside its own
 * buffers. Checking and counting (max_rows = 0) must not need memory for the network itself, which
 * run.sh's -malloc_limit_mb sees.
 */
#include <stdlib.h>
#include <string.h>

#include "mnist_dist/memory.h"
#include "mnist_dist/model.h"

enum { MAX_TEXT = 2000, MAX_SIZE = 20000, ROWS = 5, SEGMENTS = 2 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void check(int holds) {
    if (!holds) abort();
}

/* Layers and arrays account for all parameters; nothing is empty. */
static void check_counts(const mnd_model *model, int classes) {
    size_t sum = 0, next = 0;
    const int layers = mnd_model_n_layer(model);
    check(layers >= 1 && layers <= MND_MAX_LAYERS);
    for (int i = 0; i < layers; i++) {
        const mnd_layer_info l = mnd_model_layer(model, i);
        check(l.out.ndim == 1 || l.out.ndim == 3);
        for (int d = 0; d < l.out.ndim; d++) check(l.out.dim[d] >= 1);
        check(l.kind[0] != '\0' && strncmp(l.text, l.kind, strlen(l.kind)) == 0);
        sum += l.n_param;
        /* "residual(" and ")" have their inside one deeper, and each has its other one. */
        if (i > 0) {
            const mnd_layer_info before = mnd_model_layer(model, i - 1);
            const int inside = before.depth + (strchr(before.text, '(') != NULL);
            check(l.depth == inside - (l.text[0] == ')'));
        }
        check(l.depth >= 0);
    }
    check(sum == mnd_model_n_param(model));
    const mnd_layer_info last = mnd_model_layer(model, layers - 1);
    check(mnd_model_layer(model, 0).depth == 0 && last.depth == 0);
    check(last.out.ndim == 1 && last.out.dim[0] == classes);
    for (int i = 0; i < mnd_model_n_array(model); i++) {
        const mnd_array_info a = mnd_model_array(model, i);
        int64_t count = 1;
        for (int d = 0; d < a.ndim; d++)
            check(a.dim[d] >= 1 && !__builtin_mul_overflow(count, a.dim[d], &count));
        check((size_t)count == a.count && a.offset >= next && a.layer < layers);
        next = a.offset + a.count;
    }
    check(next <= mnd_model_n_param(model));
}

/* Whether a training step of it takes well below a second under a sanitizer. */
static int is_small(const mnd_model *model) {
    size_t work = 0;
    for (int i = 0; i < mnd_model_n_layer(model); i++) {
        const mnd_layer_info l = mnd_model_layer(model, i);
        const size_t out = mnd_shape_size(&l.out);
        if (out > MAX_SIZE || l.n_param > MAX_SIZE) return 0;
        /* A convolution uses each of its parameters once a pixel. */
        work += out + l.n_param * (l.out.ndim == 3 ? out / (size_t)l.out.dim[2] : 1);
    }
    return work < 1000000;
}

static void run(mnd_model *model, size_t input, int classes, unsigned value) {
    const size_t n = mnd_model_n_param(model);
    void *param = NULL, *grad = NULL;
    check(mnd_alloc(&param, n, sizeof(float), "parameters") == MND_OK);
    check(mnd_alloc(&grad, n, sizeof(float), "gradients") == MND_OK);
    mnd_model_bind(model, param, grad, n);
    mnd_model_initialize(model, value % 2 != 0 ? MND_INIT_HE : MND_INIT_GLOROT, value);
    float *x = mnd_model_input(model);
    for (size_t i = 0; i < ROWS * input; i++) x[i] = (float)((i * 7 + value) % 256) / 255.0F;
    const int start[SEGMENTS + 1] = {0, (int)(value % (ROWS + 1)), ROWS}, part[2] = {0, SEGMENTS};
    const mnd_segments rows = {.n_seg = SEGMENTS, .start = start, .n_subtree = 1, .subtree = part};
    uint8_t label[ROWS];
    uint32_t sample[ROWS];
    for (unsigned i = 0; i < ROWS; i++) {
        label[i] = (uint8_t)((value + i) % (unsigned)classes);
        sample[i] = i;
    }
    const mnd_batch batch = {.seg = &rows, .label = label, .sample = sample, .scale = 0.2F};
    double loss[SEGMENTS];
    int64_t correct[SEGMENTS];
    mnd_model_gradient(model, &batch, loss, correct);
    check(correct[0] >= 0 && correct[0] <= start[1] && correct[1] >= 0);
    check(mnd_model_forward(model, ROWS) != NULL);
    mnd_free(param);
    mnd_free(grad);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    static const mnd_shape shapes[] = {
        {.ndim = 3, .dim = {28, 28, 1}},  {.ndim = 3, .dim = {1, 1, 1}},
        {.ndim = 3, .dim = {5, 11, 3}},   {.ndim = 3, .dim = {300, 300, 3}},
        {.ndim = 3, .dim = {1, 64, 255}}, {.ndim = 1, .dim = {17}},
        {.ndim = 3, .dim = {8, 8, 2}},    {.ndim = 3, .dim = {16384, 16384, 1}},
    };
    static const int class_counts[] = {10, 1, 2, 256};
    if (n < 2) return 0;
    const mnd_shape *input = &shapes[bytes[0] % 8];
    const int classes = class_counts[bytes[0] / 8 % 4];
    const unsigned value = bytes[1];
    char text[MAX_TEXT + 1];
    n = n - 2 > MAX_TEXT ? MAX_TEXT : n - 2;
    memcpy(text, bytes + 2, n);
    text[n] = '\0';

    mnd_model_options options = {.max_seg = SEGMENTS, .training = true, .threads = 1};
    mnd_model *model = NULL;
    const mnd_status status = mnd_model_create(text, input, classes, &options, &model);
    check((status == MND_OK) == (model != NULL));
    if (status != MND_OK) {
        check(status == MND_USAGE && mnd_error()[0] != '\0' && strchr(mnd_error(), '\n') == NULL);
        return 0;
    }
    check_counts(model, classes);
    const int small = mnd_shape_size(input) <= MAX_SIZE && is_small(model);
    mnd_model_destroy(&model);
    if (!small) return 0;
    options.max_rows = ROWS;
    options.plain = value >= 128;
    check(mnd_model_create(text, input, classes, &options, &model) == MND_OK);
    run(model, mnd_shape_size(input), classes, value);
    mnd_model_destroy(&model);
    return 0;
}
