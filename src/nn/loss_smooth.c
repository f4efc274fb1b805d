/* loss_smooth.c - what label smoothing adds to the cross-entropy and to its gradient. */
#include <stddef.h>

#include "mnist_dist/loss.h"

double mnd_smooth_labels(const float *logits, const uint8_t *label, int n, int classes,
                         float smoothing, float scale, float *d) {
    const float weight = scale * smoothing, each = weight / (float)classes;
    double grows = 0.0;
    if (smoothing <= 0.0F) return 0.0;
    for (int i = 0; i < n; i++, logits += classes, d += classes) {
        double sum = 0.0;
        for (int j = 0; j < classes; j++) {
            sum += (double)logits[j];
            d[j] -= each;
        }
        d[label[i]] += weight;
        grows += (double)logits[label[i]] - sum / classes;
    }
    return (double)smoothing * grows;
}
