/* loss.c - softmax and cross-entropy from logits. */
#include "mnist_dist/loss.h"

#include <math.h>
#include <stddef.h>

#include "mnist_dist/loops.h"

/* Rows are taken a few at a time, so that the exponentials fill whole vectors. */
enum { MAX_CLASSES = 256, ROWS = 8 };

int mnd_answer(const float *row, int classes) {
    int best = 0;
    for (int j = 1; j < classes; j++)
        if (row[j] > row[best]) best = j;
    return best;
}

/* e = exp(row - max) for n rows, and the sum of each row of e. */
static void exponentials(const float *logits, int n, int classes, float *e, float *sum) {
    for (int i = 0; i < n; i++) {
        const float *row = logits + (ptrdiff_t)i * classes;
        const float max = row[mnd_answer(row, classes)];
        for (int j = 0; j < classes; j++) e[i * classes + j] = row[j] - max;
    }
    mnd_exp((size_t)n * (size_t)classes, e);
    for (int i = 0; i < n; i++) {
        sum[i] = 0.0F;
        for (int j = 0; j < classes; j++) sum[i] += e[i * classes + j];
    }
}

void mnd_softmax(float *logits, int n, int classes) {
    float sum;
    for (int i = 0; i < n; i++, logits += classes) {
        exponentials(logits, 1, classes, logits, &sum);
        const float inverse = 1.0F / sum;
        for (int j = 0; j < classes; j++) logits[j] *= inverse;
    }
}

double mnd_cross_entropy(const float *logits, const uint8_t *label, int n, int classes, float scale,
                         float *d, int64_t *correct) {
    double loss = 0.0;
    float e[ROWS * MAX_CLASSES], sum[ROWS];
    for (int i = 0; i < n; i++) {
        const int r = i % ROWS;
        const float *const row = logits + (ptrdiff_t)i * classes;
        if (r == 0) exponentials(row, n - i < ROWS ? n - i : ROWS, classes, e, sum);
        const int answer = mnd_answer(row, classes), right = label[i];
        *correct += answer == right;
        loss += log((double)sum[r]) - (double)(row[right] - row[answer]);
        if (d == NULL) continue;
        float *const out = d + (ptrdiff_t)i * classes;
        const float factor = scale / sum[r];
        for (int j = 0; j < classes; j++) out[j] = e[r * classes + j] * factor;
        out[right] -= scale;
    }
    return loss;
}
