/*
 * The model around the layers: reading of specs, presets, the summary's figures, and a loss that
 * stays finite where it should and NaN where it must.
 */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* Under AddressSanitizer too, memory that is not there is an error to report, not to die of. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

static const mnd_shape mnist = {3, {28, 28, 1}};

/* Builds without workspace: checks and counts only. */
static mnd_status build(const char *spec, mnd_shape input, int classes, mnd_model **out) {
    const mnd_model_options options = {.max_rows = 0, .max_seg = 1, .training = true, .threads = 1};
    return mnd_model_create(spec, &input, classes, &options, out);
}

static void refused(const char *spec, mnd_shape input, int classes, const char *layer) {
    mnd_model *model = NULL;
    const clock_t start = clock();
    const mnd_status status = build(spec, input, classes, &model);
    if (status != MND_USAGE) fail_msg("\"%s\": %s instead of USAGE", spec, mnd_status_name(status));
    assert_null(model);
    if (!strstr(mnd_error(), layer))
        fail_msg("\"%s\": the error does not name \"%s\": %s", spec, layer, mnd_error());
    assert_null(strchr(mnd_error(), '\n'));
    /* Nothing absurd was allocated or counted through; processor time, and plenty for valgrind. */
    assert_true(clock() - start < 60 * CLOCKS_PER_SEC);
}

static void malformed_vector_layers(void **state) {
    (void)state;
    /* The layer that is wrong, as it stands in the spec, and what comes before and behind it. */
    static const char *const vector[] = {
        /* names */
        "foo", "softmax", "densee:10", "dens:10", "Dense:10", "conv2d:8:3", "relu6", "dense10", "d",
        ":", ":5", "10", "dense;10", "dropout=0.5",
        /* numbers */
        "dense", "dense:", "dense:0", "dense:-5", "dense:12x", "dense:x", "dense:1.5", "dense:1e3",
        "dense:+5", "dense:0x10", "dense:10:", "dense:5:6", "dense:99999999999999999999",
        "dense:2147483648", "dense:4294967297", "dense:18446744073709551617",
        /* arguments where none belong */
        "relu:1", "relu:", "sigmoid:0", "tanh:x", "flatten:2",
        /* dropout */
        "dropout", "dropout:", "dropout:1", "dropout:1.0", "dropout:-0.1", "dropout:nan",
        "dropout:inf", "dropout:0.5x", "dropout:1e400", "dropout:0.2:0.3", "dropout:0,2",
        "leakyrelu:", "leakyrelu:x", "leakyrelu:-0.1", "leakyrelu:nan", "leakyrelu:0.1:0.1",
        /* pictures wanted */
        "conv:8:3", "maxpool:2", "avgpool:2", "globalavgpool", "lstm:8"};
    for (size_t i = 0; i < COUNT(vector); i++) {
        char spec[256], layer[64];
        snprintf(layer, sizeof layer, "%s", vector[i]);
        if (strchr(layer, ',')) *strchr(layer, ',') = 0;
        if (!strcmp(layer, "dropout:0")) continue; /* "dropout:0" is right, what follows is not */
        snprintf(spec, sizeof spec, "%s", vector[i]);
        refused(spec, (mnd_shape){1, {20}}, 10, layer);
        snprintf(spec, sizeof spec, "dense:20,relu,%s,dense:10", vector[i]);
        refused(spec, (mnd_shape){1, {20}}, 10, layer);
        snprintf(spec, sizeof spec, "flatten,dense:20,%s", vector[i]);
        refused(spec, mnist, 10, layer);
    }
    refused("dense:20,dropout:0,2,dense:10", (mnd_shape){1, {20}}, 10, "2");
}

static void malformed_picture_layers(void **state) {
    (void)state;
    static const char *const picture[] = {
        /* convolutions */
        "conv", "conv:", "conv:8", "conv:8:", "conv::3", "conv:0:3", "conv:-1:3", "conv:8:0",
        "conv:8:3:s0", "conv:8:3:s", "conv:8:3:s-1", "conv:8:3:sx", "conv:8:3:2", "conv:8:3x",
        "conv:8:x3", "conv:8:3x3x3", "conv:8:3x0", "conv:8:0x3", "conv:8:3X3", "conv:8:+3",
        "conv:8:-3", "conv:8:3x+3", "conv:8:3:full", "conv:8:3:Same", "conv:8:3:same:valid",
        "conv:8:3:same:same", "conv:8:3:s2:s2", "conv:8:3:", "conv:8:3::same", "conv:8:29",
        "conv:8:3x29", "conv:8:29x3", "conv:2147483647:2147483647", "conv:8:2147483648",
        "conv:8:3:s2147483648", "conv:8:99999999999999999999",
        /* pooling */
        "maxpool", "maxpool:", "maxpool:0", "maxpool:-2", "maxpool:29", "maxpool:2:s0",
        "maxpool:2:s", "maxpool:2:3", "maxpool:2:full", "maxpool:2:same:same", "maxpool:2:s2:s2",
        "maxpool:256:same", "maxpool:x", "maxpool:99999999999999999999", "avgpool", "avgpool:0",
        "avgpool:29", "avgpool:2:s0", "avgpool:2:valid:same", "avgpool:2147483648",
        "globalavgpool:2", "lstm", "lstm:", "lstm:0", "lstm:8:3", "lstm:1048577", "lstm:1048576",
        "lstm:8192",
        /* a picture is no vector */
        "dense:10"};
    for (size_t i = 0; i < COUNT(picture); i++) {
        char spec[256];
        snprintf(spec, sizeof spec, "%s,flatten,dense:10", picture[i]);
        refused(spec, mnist, 10, picture[i]);
        snprintf(spec, sizeof spec, "relu,%s,flatten,dense:10", picture[i]);
        refused(spec, mnist, 10, picture[i]);
    }
    /* What an earlier layer left is too small for a later one. */
    refused("maxpool:4,maxpool:4,conv:3:2,flatten,dense:10", mnist, 10, "conv:3:2");
    refused("conv:3:3,maxpool:27,flatten,dense:10", mnist, 10, "maxpool:27");
}

static void empty_and_unfinished_specs(void **state) {
    (void)state;
    static const char *const spec[] = {
        "",  ",",  ",,",         "dense:10,", ",dense:10", "dense:5,,dense:10",
        " ", "\n", "dense:10\n", "dense:10 ", " dense:10"};
    for (size_t i = 0; i < COUNT(spec); i++) refused(spec[i], (mnd_shape){1, {20}}, 10, "");
    /* The outputs must be as many as the classes. */
    refused("dense:11", (mnd_shape){1, {20}}, 10, "dense:11");
    refused("dense:10,dense:9", (mnd_shape){1, {20}}, 10, "dense:9");
    refused("dense:10,flatten,dense:9,relu", (mnd_shape){1, {20}}, 10, "relu");
    refused("conv:10:28", mnist, 10, "conv:10:28"); /* (1, 1, 10) is not (10) */
    /* Nothing that could learn. */
    refused("relu", (mnd_shape){1, {10}}, 10, "parameters");
    refused("maxpool:2,flatten", (mnd_shape){3, {4, 5, 2}}, 8, "parameters");
}

/* Layers that enclose others: each error names the layer. */
static void malformed_nesting(void **state) {
    (void)state;
    static const struct {
        const char *spec, *error;
    } wrong[] = {
        {"residual,flatten,dense:10", "layer 1 (residual): it encloses layers"},
        {"residual:2(relu),flatten,dense:10", "layer 1 (residual:2(...)): takes no arguments"},
        {"residual(),flatten,dense:10", "layer 1 (residual(...)): there is no layer in it"},
        {"relu,residual(", "layer 2 (residual(...)): its ')' is missing"},
        {"residual(relu,flatten,dense:10", "layer 1 (residual(...)): its ')' is missing"},
        {"residual(relu,residual(relu),flatten,dense:10", "layer 1 (residual(...)): its ')'"},
        {"residual(relu)),flatten,dense:10", "layer 4 ()): there is no '('"},
        {")", "layer 1: it is empty"},
        {"flatten,dense:10)", "layer 3 ()): there is no '('"},
        {"residual(relu,),flatten,dense:10", "layer 3: it is empty"},
        {"residual(,relu),flatten,dense:10", "layer 2: it is empty"},
        {"residual(relu),,flatten,dense:10", "layer 4: it is empty"},
        {"residual(relu)relu,flatten,dense:10", "layer 3 ()): a ',' must follow it, not 'r'"},
        {"residual(relu)(relu),flatten,dense:10", "layer 3 ()): a ',' must follow it, not '('"},
        {"relu(relu),flatten,dense:10", "layer 1 (relu(...)): it cannot enclose layers"},
        {"(relu),flatten,dense:10", "layer 1 ((...)): ''"},
        {"conv:8:3,residual(conv:16:3:same),flatten,dense:10",
         "layer 2 (residual(...)): its layers make (26, 26, 16) of (26, 26, 8)"},
        {"residual(conv:1:3),flatten,dense:10", "(26, 26, 1) of (28, 28, 1)"},
        {"residual(flatten),dense:10", "(784) of (28, 28, 1)"},
        {"flatten,residual(relu,residual(relu,dense:10)),dense:10",
         "layer 4 (residual(...)): its layers make (10) of (784)"},
        {"residual(conv:1:99),flatten,dense:10", "layer 2 (conv:1:99)"},
    };
    for (size_t i = 0; i < COUNT(wrong); i++) refused(wrong[i].spec, mnist, 10, wrong[i].error);
    /* As deep as a model can be, and one more. */
    char spec[4096] = "";
    for (int i = 0; i < 62; i++) strcat(spec, "residual(");
    strcat(spec, "relu");
    for (int i = 0; i < 62; i++) strcat(spec, ")");
    strcat(spec, ",flatten,dense:10");
    mnd_model *model = NULL;
    rig_ok(build(spec, mnist, 10, &model), spec);
    assert_int_equal(mnd_model_n_layer(model), 127);
    assert_int_equal(mnd_model_layer(model, 61).depth, 61);
    assert_int_equal(mnd_model_layer(model, 62).depth, 62);
    assert_int_equal(mnd_model_layer(model, 63).depth, 61);
    assert_int_equal(mnd_model_layer(model, 125).depth, 0);
    assert_string_equal(mnd_model_layer(model, 0).text, "residual(");
    assert_string_equal(mnd_model_layer(model, 124).text, ")");
    mnd_model_destroy(&model);
    strcat(spec, ")(");
    refused(spec, mnist, 10, "at most");
}

static void too_much(void **state) {
    (void)state;
    /* More layers than a model can have. */
    char spec[4096] = "flatten";
    for (int i = 0; i < MND_MAX_LAYERS; i++) strcat(spec, ",relu");
    refused(spec, mnist, 784, "");
    /* A spec without an end. */
    size_t size = 1 << 20;
    char *endless = rig_alloc(size, 1);
    memset(endless, '9', size - 1);
    for (int i = 0; i < 6; i++) endless[i] = "dense:"[i];
    refused(endless, mnist, 10, "");
    memset(endless, ',', size - 1);
    refused(endless, mnist, 10, "");
    memset(endless, 'x', size - 1);
    refused(endless, mnist, 10, "");
    mnd_free(endless);

    /* Sizes whose product does not fit: refused, not wrapped around to something small. */
    static const char *const huge[] = {
        "flatten,dense:2147483647,dense:2147483647,dense:10",
        "conv:2147483647:28:same,conv:2147483647:28:same,flatten,dense:10",
        "conv:65536:1,conv:65536:1,conv:65536:28,flatten,dense:10",
        "conv:1000000:1,flatten,dense:1000000,dense:10",
        "conv:2147483647:1,flatten,dense:10",
        "conv:16:2147483647:same,flatten,dense:10",
        "conv:16:9999:same,conv:1048576:9999:same,flatten,dense:10",
        "conv:1048576:1,conv:8:9999:same,flatten,dense:10",
        "conv:1048576:1:s28,conv:1048576:9999:same,flatten,dense:10",
        "conv:16:2147483647x2147483647:same,flatten,dense:10",
        "conv:65536:1:s7,conv:65536:3:same,flatten,dense:10", /* a shape for F(4x4, 3x3) */
    };
    for (size_t i = 0; i < COUNT(huge); i++) refused(huge[i], mnist, 10, "");

    /* What fits in the counters but not in memory is an error of its own, not a crash. */
    const mnd_model_options options = {
        .max_rows = 1 << 24, .max_seg = 1, .training = true, .threads = 1};
    mnd_model *model = NULL;
    const mnd_status status =
        mnd_model_create("conv:1024:3,conv:1024:3,flatten,dense:10", &mnist, 10, &options, &model);
    assert_true(status == MND_NO_MEMORY || status == MND_USAGE || status == MND_RANGE);
    assert_null(model);
}

/* What comes with the spec is checked too: the input, the classes, the threads, the capacity. */
static void unfit_surroundings(void **state) {
    (void)state;
    static const mnd_shape bad[] = {{0},
                                    {2, {5, 5}},
                                    {4, {5, 5, 5}},
                                    {1, {0}},
                                    {1, {-3}},
                                    {3, {28, 0, 1}},
                                    {3, {28, 28, -1}},
                                    {3, {65536, 65536, 1}},
                                    {3, {2147483647, 2147483647, 2147483647}},
                                    {1, {2147483647}}};
    for (size_t i = 0; i < COUNT(bad); i++) {
        refused("flatten,dense:10", bad[i], 10, "input");
        refused("relu,flatten,dense:10", bad[i], 10, "input");
    }
    static const int classes[] = {0, -1, 257, 1000, 2147483647};
    for (size_t i = 0; i < COUNT(classes); i++) {
        char spec[64];
        snprintf(spec, sizeof spec, "flatten,dense:%d", classes[i]);
        refused(spec, mnist, classes[i], "classes");
    }
    mnd_model *model = NULL;
    rig_ok(build("flatten,dense:256", mnist, 256, &model), "256 classes");
    mnd_model_destroy(&model);

    static const int threads[] = {0, -1, 257, 2147483647};
    for (size_t i = 0; i < COUNT(threads); i++) {
        const mnd_model_options options = {.max_rows = 1, .max_seg = 1, .threads = threads[i]};
        assert_int_equal(mnd_model_create("flatten,dense:10", &mnist, 10, &options, &model),
                         MND_USAGE);
        assert_non_null(strstr(mnd_error(), "threads"));
        assert_null(model);
    }
    /* More rows than the counters of bytes can hold. */
    char deep[2048] = "conv:1048576:1:s2";
    for (int i = 0; i < 60; i++) strcat(deep, ",maxpool:1");
    strcat(deep, ",avgpool:14,conv:10:1,flatten");
    for (int plain = 0; plain < 2; plain++) {
        const mnd_model_options options = {
            .max_rows = 2147483647, .max_seg = 1, .training = true, .plain = plain, .threads = 256};
        assert_int_equal(mnd_model_create(deep, &mnist, 10, &options, &model), MND_NO_MEMORY);
        assert_null(model);
    }
}

/* What is allowed at the edges. */
static void unusual_specs(void **state) {
    (void)state;
    static const struct {
        const char *spec;
        mnd_shape input;
        int classes;
        size_t n_param;
    } good[] = {
        {"dense:10", {1, {1}}, 10, 20},
        {"dense:1", {1, {5}}, 1, 6},
        {"flatten,flatten,dense:10", {3, {2, 2, 1}}, 10, 50},
        {"relu,sigmoid,tanh,dropout:0.999,dense:10", {1, {3}}, 10, 40},
        {"dropout:0,dense:10", {1, {3}}, 10, 40},
        {"dropout:.5,dense:10", {1, {3}}, 10, 40},
        {"conv:10:28,flatten", {3, {28, 28, 1}}, 10, 7850},
        {"conv:10:28x28:s5:valid,flatten", {3, {28, 28, 1}}, 10, 7850},
        {"conv:1:57:same,maxpool:28,flatten,dense:2", {3, {28, 28, 1}}, 2, 3250 + 4},
        {"conv:2:3:s100:same,flatten,dense:3", {3, {28, 28, 1}}, 3, 20 + 9},
        {"conv:2:3:same:s2,flatten,dense:3", {3, {28, 28, 1}}, 3, 20 + 3 * 393},
        {"maxpool:1,avgpool:1,flatten,dense:3", {3, {4, 4, 3}}, 3, 147},
        {"maxpool:2:s100,flatten,dense:3", {3, {4, 4, 3}}, 3, 12},
        {"maxpool:9:same,flatten,dense:3", {3, {4, 4, 3}}, 3, 12},
        {"maxpool:2:valid,avgpool:2:same:s1,flatten,dense:3", {3, {4, 4, 3}}, 3, 39},
        {"lstm:5,dense:3", {3, {4, 3, 2}}, 3, 20 * (6 + 5 + 1) + 18},
        {"leakyrelu,globalavgpool,dense:3", {3, {4, 4, 3}}, 3, 12},
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        mnd_model *model = NULL;
        rig_ok(build(good[i].spec, good[i].input, good[i].classes, &model), good[i].spec);
        if (mnd_model_n_param(model) != good[i].n_param)
            fail_msg("%s: %zu parameters instead of %zu", good[i].spec, mnd_model_n_param(model),
                     good[i].n_param);
        mnd_model_destroy(&model);
    }
    mnd_model_destroy(&(mnd_model *){NULL});

    /* As many layers as there may be. */
    char spec[4096] = "flatten";
    for (int i = 0; i < MND_MAX_LAYERS - 2; i++) strcat(spec, ",relu");
    strcat(spec, ",dense:10");
    mnd_model *model = NULL;
    const mnd_status status = build(spec, mnist, 10, &model);
    rig_ok(status, "127 layers");
    assert_int_equal(mnd_model_n_layer(model), MND_MAX_LAYERS);
    mnd_model_destroy(&model);
}

static void presets(void **state) {
    (void)state;
    static const struct {
        const char *name;
        size_t n_param[2]; /* with 10 and 47 classes */
    } preset[] = {
        {"mlp16", {13002, 13002 + 37 * 17}},
        {"mlp512", {669706, 669706 + 37 * 513}},
        {"cnn", {607394, 607394 + 37 * 129}},
        {"cnn2", {108618, 108618 + 37 * 129}},
    };
    static const int classes[2] = {10, 47};
    for (size_t i = 0; i < COUNT(preset); i++)
        for (int c = 0; c < 2; c++) {
            char spec[1024], last[32];
            rig_ok(mnd_model_spec(preset[i].name, classes[c], spec, sizeof spec), preset[i].name);
            snprintf(last, sizeof last, ",dense:%d", classes[c]);
            assert_string_equal(spec + strlen(spec) - strlen(last), last);
            /* The name and the spec it stands for are the same model, and so says its text. */
            const char *const both[2] = {preset[i].name, spec};
            for (int b = 0; b < 2; b++) {
                mnd_model *model = NULL;
                rig_ok(build(both[b], mnist, classes[c], &model), both[b]);
                assert_int_equal(mnd_model_n_param(model), preset[i].n_param[c]);
                assert_string_equal(mnd_model_text(model), spec);
                mnd_model_destroy(&model);
            }
            /* Large enough for all of it, or an error. */
            char small[1024];
            assert_int_equal(mnd_model_spec(spec, classes[c], small, strlen(spec)), MND_USAGE);
            rig_ok(mnd_model_spec(spec, classes[c], small, strlen(spec) + 1), spec);
            assert_string_equal(small, spec);
        }
}

static void summary_of_layers(void **state) {
    (void)state;
    static const struct {
        const char *kind, *text;
        mnd_shape out;
        size_t n_param;
    } want[] = {
        {"conv", "conv:28:3", {3, {26, 26, 28}}, 280},
        {"maxpool", "maxpool:2", {3, {13, 13, 28}}, 0},
        {"flatten", "flatten", {1, {4732}}, 0},
        {"dense", "dense:128", {1, {128}}, 605824},
        {"relu", "relu", {1, {128}}, 0},
        {"dropout", "dropout:0.2", {1, {128}}, 0},
        {"dense", "dense:10", {1, {10}}, 1290},
    };
    mnd_model *model = NULL;
    rig_ok(build("cnn", mnist, 10, &model), "cnn");
    assert_int_equal(mnd_model_n_layer(model), COUNT(want));
    for (int i = 0; i < (int)COUNT(want); i++) {
        const mnd_layer_info l = mnd_model_layer(model, i);
        assert_string_equal(l.kind, want[i].kind);
        assert_string_equal(l.text, want[i].text);
        assert_int_equal(l.n_param, want[i].n_param);
        assert_int_equal(l.out.ndim, want[i].out.ndim);
        for (int d = 0; d < l.out.ndim; d++) assert_int_equal(l.out.dim[d], want[i].out.dim[d]);
        assert_int_equal(mnd_shape_size(&l.out), mnd_shape_size(&want[i].out));
    }
    mnd_model_destroy(&model);
}

static void summary_of_arrays(void **state) {
    (void)state;
    static const struct {
        int layer;
        const char *kind, *name;
        int ndim;
        int64_t dim[4];
    } array[] = {
        {0, "conv", "kernel", 4, {3, 3, 1, 28}}, {0, "conv", "bias", 1, {28}},
        {3, "dense", "kernel", 2, {4732, 128}},  {3, "dense", "bias", 1, {128}},
        {6, "dense", "kernel", 2, {128, 10}},    {6, "dense", "bias", 1, {10}},
    };
    mnd_model *model = NULL;
    rig_ok(build("cnn", mnist, 10, &model), "cnn");
    assert_int_equal(mnd_model_n_array(model), COUNT(array));
    size_t offset = 0;
    for (int i = 0; i < (int)COUNT(array); i++) {
        const mnd_array_info a = mnd_model_array(model, i);
        assert_int_equal(a.layer, array[i].layer);
        assert_string_equal(a.kind, array[i].kind);
        assert_string_equal(a.name, array[i].name);
        assert_int_equal(a.ndim, array[i].ndim);
        size_t count = 1;
        for (int d = 0; d < a.ndim; d++) {
            assert_int_equal(a.dim[d], array[i].dim[d]);
            count *= (size_t)a.dim[d];
        }
        assert_int_equal(a.count, count);
        assert_int_equal(a.offset, offset); /* one after another, no gaps: they are hashed so */
        offset += count;
    }
    assert_int_equal(offset, mnd_model_n_param(model));
    mnd_model_destroy(&model);
}

/* Shapes of strided and padded layers as TensorFlow gives them. */
static void shapes_of_windows(void **state) {
    (void)state;
    mnd_model *model = NULL;
    static const struct {
        const char *layer;
        int h, w;
    } shape[] = {
        {"conv:1:3:s2", 13, 12},  {"conv:1:3:s2:same", 14, 13},   {"conv:1:4:s3:same", 9, 9},
        {"conv:1:2x5", 26, 22},   {"conv:1:2x5:s2:same", 14, 13}, {"maxpool:3", 9, 8},
        {"maxpool:3:s2", 13, 12}, {"avgpool:2:s5", 6, 5},         {"conv:1:1:s28", 1, 1},
    };
    for (size_t i = 0; i < COUNT(shape); i++) {
        char spec[64];
        snprintf(spec, sizeof spec, "%s,flatten,dense:2", shape[i].layer);
        rig_ok(build(spec, (mnd_shape){3, {27, 26, 1}}, 2, &model), spec);
        const mnd_layer_info l = mnd_model_layer(model, 0);
        assert_int_equal(l.out.dim[0], shape[i].h);
        assert_int_equal(l.out.dim[1], shape[i].w);
        mnd_model_destroy(&model);
    }
}

static void one_hot(void **state) {
    (void)state;
    /* All logits equal: the derivative is the uniform distribution less the one-hot label. */
    float z[4 * 10] = {0}, d[4 * 10];
    const uint8_t label[4] = {0, 5, 9, 5};
    int64_t correct = 0;
    const double loss = mnd_cross_entropy(z, label, 4, 10, 1.0F, d, &correct);
    assert_true(fabs(loss - 4 * log(10)) < 1e-6);
    for (int i = 0; i < 40; i++)
        assert_true(fabs((double)d[i] - (0.1 - (i % 10 == label[i / 10]))) < 1e-7);
    assert_int_equal(correct, 1); /* of equal logits the first is the answer */
}

static void extreme_logits(void **state) {
    (void)state;
    static const float big[] = {1e4F, 88.8F, 1e30F, 3e38F};
    for (size_t i = 0; i < COUNT(big); i++)
        for (int sign = 0; sign < 2; sign++) {
            float z[3] = {sign ? -big[i] : big[i], 0, 0}, p[3], d[3];
            memcpy(p, z, sizeof p);
            mnd_softmax(p, 1, 3);
            const float want = sign ? 0 : 1;
            assert_true(p[0] == want && fabs((double)(p[0] + p[1] + p[2]) - 1) < 1e-6);
            int64_t correct = 0;
            const uint8_t label = 0;
            const double loss = mnd_cross_entropy(z, &label, 1, 3, 1.0F, d, &correct);
            const double exact = sign ? (double)big[i] + log(2) : 0;
            assert_true(fabs(loss - exact) <= 1e-6 * exact);
            assert_int_equal(correct, !sign);
            for (int k = 0; k < 3; k++) assert_true(isfinite(d[k]));
        }
}

static void nan_and_infinity(void **state) {
    (void)state;
    for (int classes = 1; classes <= 40; classes++)
        for (int at = 0; at < classes; at++)
            for (int l = 0; l < classes; l += 5) {
                float z[3 * 40], d[3 * 40];
                for (int i = 0; i < 3 * classes; i++) z[i] = (float)(i % 7);
                z[classes + at] = NAN;
                const uint8_t label[3] = {0, (uint8_t)l, 0};
                int64_t correct = 0;
                assert_true(isnan(mnd_cross_entropy(z, label, 3, classes, 1.0F, d, &correct)));
                for (int i = 0; i < classes; i++) {
                    assert_true(isfinite(d[i]) && isfinite(d[2 * classes + i]));
                    assert_true(isnan(d[classes + i]));
                }
                mnd_softmax(z, 3, classes);
                for (int i = 0; i < classes; i++) {
                    assert_true(isfinite(z[i]) && isfinite(z[2 * classes + i]));
                    assert_true(isnan(z[classes + i]));
                }
            }
    /* An infinite logit has no defined softmax; it must not look like a good result. */
    float z[3] = {INFINITY, 0, 1};
    const uint8_t label = 1;
    int64_t correct = 0;
    const double loss = mnd_cross_entropy(z, &label, 1, 3, 1.0F, NULL, &correct);
    assert_true(isnan(loss) || isinf(loss));
}

/* The first bad array is named, whatever is bad and wherever in it. */
static void bad_arrays(void **state) {
    (void)state;
    rig r;
    rig_open(&r, "conv:5:3,relu,maxpool:2,flatten,dense:17,tanh,dense:3", (mnd_shape){3, {9, 9, 1}},
             3, 2, false);
    memset(r.grad, 0, r.n_param * sizeof(float));
    assert_int_equal(mnd_model_bad_array(r.model), -1);
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < mnd_model_n_array(r.model); i++) {
        const mnd_array_info a = mnd_model_array(r.model, i);
        for (int b = 0; b < 3; b++)
            for (int end = 0; end < 2; end++) {
                float *at = r.grad + a.offset + (end ? a.count - 1 : 0);
                *at = bad[b];
                r.grad[r.n_param - 1] = NAN; /* a later one too */
                assert_int_equal(mnd_model_bad_array(r.model), i);
                *at = 0;
                r.grad[r.n_param - 1] = 0;
            }
    }
    r.grad[3] = 3e38F;
    assert_int_equal(mnd_model_bad_array(r.model), -1);
    rig_close(&r);
}

static void products_have_a_name(void **state) {
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        const char *const text[2] = {mnd_products_name(plain), mnd_arithmetic(plain)};
        for (int i = 0; i < 2; i++) {
            assert_true(strlen(text[i]) >= 3 && strlen(text[i]) < 128);
            assert_null(strchr(text[i], '\n'));
        }
    }
    assert_non_null(strstr(mnd_products_name(true), "OpenBLAS"));
}

static void pixels(void **state) {
    (void)state;
    static uint8_t in[3 * 256];
    static float out[3 * 256];
    for (int i = 0; i < 3 * 256; i++) in[i] = (uint8_t)(i * 5);
    for (size_t n = 0; n <= 3 * 256; n += n < 70 ? 1 : 97) {
        memset(out, 0xff, sizeof out);
        mnd_pixels(n, in, out);
        for (size_t i = 0; i < n; i++)
            assert_true(fabs((double)out[i] - in[i] / 255.0) <= 1e-7 && out[i] <= 1);
        for (size_t i = n; i < 3 * 256; i++) assert_true(isnan(out[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_vector_layers),
        cmocka_unit_test(malformed_picture_layers),
        cmocka_unit_test(empty_and_unfinished_specs),
        cmocka_unit_test(malformed_nesting),
        cmocka_unit_test(too_much),
        cmocka_unit_test(unusual_specs),
        cmocka_unit_test(unfit_surroundings),
        cmocka_unit_test(presets),
        cmocka_unit_test(summary_of_layers),
        cmocka_unit_test(summary_of_arrays),
        cmocka_unit_test(shapes_of_windows),

        cmocka_unit_test(one_hot),
        cmocka_unit_test(extreme_logits),
        cmocka_unit_test(nan_and_infinity),
        cmocka_unit_test(bad_arrays),
        cmocka_unit_test(products_have_a_name),
        cmocka_unit_test(pixels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
