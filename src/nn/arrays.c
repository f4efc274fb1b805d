/* arrays.c - the arrays of a model: names, initial values, and which of them went wrong. */
#include <math.h>

#include "mnist_dist/rng.h"
#include "mnist_dist/vector.h"
#include "model_impl.h"

size_t mnd_model_n_param(const mnd_model *model) { return model->n_param; }

size_t mnd_model_workspace(const mnd_model *model) { return model->arena.size; }

int mnd_model_sum_values(const mnd_model *model) {
    int most = 0;
    for (int i = 0; i < model->n_layer; i++)
        if (model->layer[i].sum_values > most) most = model->layer[i].sum_values;
    return most;
}

const char *mnd_model_text(const mnd_model *model) { return model->text; }

int mnd_model_n_layer(const mnd_model *model) { return model->n_info; }

mnd_layer_info mnd_model_layer(const mnd_model *model, int i) { return model->info[i]; }

int mnd_model_n_array(const mnd_model *model) { return model->n_array; }

mnd_array_info mnd_model_array(const mnd_model *model, int i) { return model->array[i]; }

/* The scalar product, added up in eight parts, as vectors are. */
MND_EACH_WIDTH static double scalar_product(size_t n, const float *a, const float *b) {
    enum { PARTS = 8 };
    double part[PARTS] = {0.0}, sum = 0.0;
    size_t i = 0;
    for (; i + PARTS <= n; i += PARTS)
        for (size_t p = 0; p < PARTS; p++) part[p] += (double)a[i + p] * (double)b[i + p];
    for (; i < n; i++) sum += (double)a[i] * (double)b[i];
    for (size_t p = 0; p < PARTS; p++) sum += part[p];
    return sum;
}

/* Rows of random numbers, each made orthogonal to those before it (Gram and Schmidt) and of length
   1. The numbers are almost normal: sums of 12 uniform ones, because the C library's logarithm,
   which exactly normal ones take, differs between CPUs. */
static void fill_orthogonal(const mnd_array *array, mnd_rng *rng) {
    const size_t rows = (size_t)array->dim[0], n = (size_t)array->dim[1];
    for (size_t r = 0; r < rows; r++) {
        float *const row = array->value + r * n;
        for (size_t i = 0; i < n; i++) {
            row[i] = -6.0F;
            for (int k = 0; k < 12; k++) row[i] += mnd_rng_uniform(rng);
        }
        for (size_t other = 0; other < r; other++) {
            const float *const before = array->value + other * n;
            const double share = scalar_product(n, row, before);
            for (size_t i = 0; i < n; i++) row[i] -= (float)(share * (double)before[i]);
        }
        const double scale = 1.0 / sqrt(scalar_product(n, row, row));
        for (size_t i = 0; i < n; i++) row[i] = (float)(scale * (double)row[i]);
    }
}

static void fill(const mnd_array *array, mnd_init init, mnd_rng *rng) {
    if (init == MND_INIT_ORTHOGONAL) {
        fill_orthogonal(array, rng);
        return;
    }
    const float limit = sqrtf(6.0F / (float)(array->fan_in + array->fan_out));
    const float deviation = sqrtf(2.0F / (float)array->fan_in);
    for (size_t i = 0; i < array->count; i++) {
        switch (init) {
        case MND_INIT_ZEROS: array->value[i] = 0.0F; break;
        case MND_INIT_ONES: array->value[i] = 1.0F; break;
        case MND_INIT_GLOROT: array->value[i] = limit * (2.0F * mnd_rng_uniform(rng) - 1.0F); break;
        case MND_INIT_HE: array->value[i] = deviation * mnd_rng_normal(rng); break;
        case MND_INIT_FORGET: array->value[i] = i * 4 / array->count == 1 ? 1.0F : 0.0F; break;
        case MND_INIT_ORTHOGONAL: break; /* by fill_orthogonal */
        }
    }
}

void mnd_model_initialize(mnd_model *model, mnd_init kernels, uint64_t seed) {
    for (int i = 0; i < model->n_layer; i++) {
        const mnd_layer *l = &model->layer[i];
        for (int a = 0; a < l->n_array; a++) {
            const mnd_array *array = &l->array[a];
            mnd_rng rng;
            mnd_rng_start(&rng, seed, MND_RNG_INIT, (uint32_t)l->index, (uint32_t)a);
            fill(array, array->init == MND_INIT_GLOROT ? kernels : array->init, &rng);
        }
    }
}

int mnd_model_bad_array(const mnd_model *model) {
    for (int a = 0; a < model->n_array; a++) {
        const float *grad = model->grad + model->array[a].offset;
        for (size_t i = 0; i < model->array[a].count; i++)
            if (!isfinite(grad[i])) return a;
    }
    return -1;
}
