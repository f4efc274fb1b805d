#include "augment_rows.h"

#include <stddef.h>

#include "mnist_dist/vector.h"

MND_EACH_WIDTH void mnd_augment_where(const mnd_augment_line *line, int32_t *restrict index,
                                      float *restrict right, float *restrict below) {
    const mnd_augment_line l = *line;
    for (int b = 0; b < l.blocks; b++) {
        const ptrdiff_t at = (ptrdiff_t)b * MND_AUGMENT_LANES;
        const float *const w0 = l.basis[0] + at, *const w1 = l.basis[1] + at;
        const float *const w2 = l.basis[2] + at, *const w3 = l.basis[3] + at;
        for (int i = 0; i < MND_AUGMENT_LANES; i++) {
            const float k = (float)((int)at + i);
            float x = (w0[i] * l.bend[0][0] + w1[i] * l.bend[0][1]) +
                      (w2[i] * l.bend[0][2] + w3[i] * l.bend[0][3]);
            float y = (w0[i] * l.bend[1][0] + w1[i] * l.bend[1][1]) +
                      (w2[i] * l.bend[1][2] + w3[i] * l.bend[1][3]);
            x = l.start[0] + l.step[0] * k + x;
            y = l.start[1] + l.step[1] * k + y;
            x = x > 0.0F ? x : 0.0F;
            y = y > 0.0F ? y : 0.0F;
            x = x < l.limit[0] ? x : l.limit[0];
            y = y < l.limit[1] ? y : l.limit[1];
            const int32_t column = (int32_t)x, row = (int32_t)y;
            index[at + i] = row * l.stride + column;
            right[at + i] = x - (float)column;
            below[at + i] = y - (float)row;
        }
    }
}

MND_EACH_WIDTH void mnd_augment_pack(int blocks, const uint8_t *restrict upper,
                                     const uint8_t *restrict lower, uint32_t *restrict square) {
    for (int b = 0; b < blocks; b++) {
        const ptrdiff_t at = (ptrdiff_t)b * MND_AUGMENT_LANES;
        for (int i = 0; i < MND_AUGMENT_LANES; i++)
            square[at + i] = (uint32_t)upper[at + i] | (uint32_t)upper[at + i + 1] << 8 |
                             (uint32_t)lower[at + i] << 16 | (uint32_t)lower[at + i + 1] << 24;
    }
}

MND_EACH_WIDTH void mnd_augment_blend(const mnd_augment_line *line, const uint32_t *restrict square,
                                      const int32_t *restrict index, const float *restrict right,
                                      const float *restrict below, float *restrict out) {
    for (int b = 0; b < line->blocks; b++) {
        const ptrdiff_t at = (ptrdiff_t)b * MND_AUGMENT_LANES;
        for (int i = 0; i < MND_AUGMENT_LANES; i++) {
            const uint32_t s = square[index[at + i]];
            const float r = right[at + i], d = below[at + i];
            const float upper =
                (float)(int32_t)(s & 255) * (1.0F - r) + (float)(int32_t)(s >> 8 & 255) * r;
            const float lower =
                (float)(int32_t)(s >> 16 & 255) * (1.0F - r) + (float)(int32_t)(s >> 24) * r;
            /* As mnd_pixels, so that an image that nothing moves keeps its bits. */
            out[at + i] = (upper * (1.0F - d) + lower * d) * (1.0F / 255.0F);
        }
    }
}
