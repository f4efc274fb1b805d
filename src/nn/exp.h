/* exp.h - exponential functions for loops that the compiler vectorises. */
#ifndef MND_NN_EXP_H
#define MND_NN_EXP_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/*
 * exp(x) = 2^k exp(r), |r| <= ln2 / 2: Cody and Waite's reduction and the polynomial of expf in the
 * Cephes library. Below -87 the result is zero, above 88 infinity; NaN stays.
 */
static inline float mnd_exp_one(float x) {
    const float k = (x * 1.44269504F + 12582912.0F) - 12582912.0F; /* round to nearest */
    const float r = (x - k * 0.693359375F) + k * 2.12194440e-4F;
    float p = 1.9875691500e-4F;
    p = p * r + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    p = p * r * r + r + 1.0F;
    const float bounded = k > 127.0F ? 127.0F : k < -126.0F ? -126.0F : k;
    /* NaN must not be converted to an integer. */
    const int32_t bits = ((int32_t)(bounded == bounded ? bounded : 0.0F) + 127) * (1 << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    const float y = p * power;
    return x < -87.0F ? 0.0F : x > 88.0F ? HUGE_VALF : y;
}

static inline float mnd_sigmoid_one(float x) {
    const float e = mnd_exp_one(-fabsf(x)), s = 1.0F / (1.0F + e);
    return x >= 0.0F ? s : e * s;
}

static inline float mnd_tanh_one(float x) {
    const float a = fabsf(x), e = mnd_exp_one(-2.0F * a), s = a * a;
    /* Near zero 1 - e cancels: the odd series there instead (error below 1e-7 for a < 0.25). */
    const float series =
        a * (1.0F + s * (-3.33333333e-1F +
                         s * (1.33333333e-1F + s * (-5.39682540e-2F + s * 2.18694885e-2F))));
    const float t = a < 0.25F ? series : (1.0F - e) / (1.0F + e);
    return x < 0.0F ? -t : t;
}

#endif
