#include "mnist_dist/loops.h"

#include "exp.h"
#include "mnist_dist/vector.h"

MND_EACH_WIDTH void mnd_add(size_t n, const float *restrict x, float *restrict y) {
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

MND_EACH_WIDTH void mnd_relu(size_t n, const float *x, float *y) {
    for (size_t i = 0; i < n; i++) y[i] = x[i] <= 0.0F ? 0.0F : x[i];
}

MND_EACH_WIDTH void mnd_relu_backward(size_t n, const float *restrict y, float *restrict d) {
    for (size_t i = 0; i < n; i++) d[i] = y[i] > 0.0F ? d[i] : 0.0F;
}

MND_EACH_WIDTH void mnd_column_sum(int m, int n, const float *restrict d, float *restrict sum) {
    enum { COLUMNS = 64 };
    for (int first = 0; first < n; first += COLUMNS) {
        const int columns = n - first < COLUMNS ? n - first : COLUMNS;
        float part[COLUMNS] = {0.0F};
        for (int i = 0; i < m; i++)
            for (int j = 0; j < columns; j++) part[j] += d[(ptrdiff_t)i * n + first + j];
        for (int j = 0; j < columns; j++) sum[first + j] += part[j];
    }
}

MND_EACH_WIDTH void mnd_exp(size_t n, float *x) {
    for (size_t i = 0; i < n; i++) x[i] = mnd_exp_one(x[i]);
}

MND_EACH_WIDTH void mnd_pixels(size_t n, const uint8_t *restrict in, float *restrict out) {
    for (size_t i = 0; i < n; i++) out[i] = (float)in[i] * (1.0F / 255.0F);
}
