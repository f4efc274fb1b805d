/* Softmax and cross-entropy from logits. */
#include <math.h>
#include <string.h>

#include "kernels.h"
#include "mnist_dist/model.h"

/* The first largest of a row; NaN wins, so that it is noticed. */
static int largest(const float *row, int n) {
    int best = 0;
    for (int j = 1; j < n; j++)
        if (row[j] > row[best]) best = j;
    return best;
}

void mnd_softmax(float *logits, int n, int classes) {
    for (int i = 0; i < n; i++) {
        float *row = logits + (ptrdiff_t)i * classes;
        const float top = row[largest(row, classes)];
        for (int j = 0; j < classes; j++) row[j] -= top;
    }
    mnd_kernels_native()->exponential((size_t)n * (size_t)classes, logits);
    for (int i = 0; i < n; i++) {
        float *row = logits + (ptrdiff_t)i * classes;
        float sum = 0.0F;
        for (int j = 0; j < classes; j++) sum += row[j];
        const float inverse = 1.0F / sum;
        for (int j = 0; j < classes; j++) row[j] *= inverse;
    }
}

enum { ROWS = 8 }; /* rows at a time, so that exp runs over whole vectors */

double mnd_cross_entropy(const float *logits, const uint8_t *label, int n, int classes, float scale,
                         float *d, int64_t *correct) {
    const mnd_kernels *kernels = mnd_kernels_native();
    double loss = 0.0;
    float e[ROWS * 256];
    for (int first = 0; first < n; first += ROWS) {
        const int rows = n - first < ROWS ? n - first : ROWS;
        float own[ROWS]; /* logit of the label, less the largest */
        for (int r = 0; r < rows; r++) {
            const float *row = logits + (ptrdiff_t)(first + r) * classes;
            const int best = largest(row, classes), right = label[first + r];
            const float top = row[best];
            *correct += best == right;
            own[r] = row[right] - top;
            for (int j = 0; j < classes; j++) e[r * classes + j] = row[j] - top;
        }
        kernels->exponential((size_t)rows * (size_t)classes, e);
        for (int r = 0; r < rows; r++) {
            float sum = 0.0F;
            for (int j = 0; j < classes; j++) sum += e[r * classes + j];
            loss += log((double)sum) - (double)own[r];
            if (d == NULL) continue;
            float *out = d + (ptrdiff_t)(first + r) * classes;
            const float factor = scale / sum;
            for (int j = 0; j < classes; j++) out[j] = e[r * classes + j] * factor;
            out[label[first + r]] -= scale;
        }
    }
    return loss;
}
