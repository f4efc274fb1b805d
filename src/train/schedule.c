#include "mnist_dist/schedule.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

mnd_status mnd_schedule_kind_of(const char *name, mnd_schedule_kind *out) {
    static const char *const names[] = {"constant", "step", "cosine"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(names[i], name) != 0) continue;
        *out = (mnd_schedule_kind)i;
        return MND_OK;
    }
    return mnd_fail(MND_USAGE, "schedule '%s' is not one of constant, step, cosine", name);
}

double mnd_schedule_rate(const mnd_schedule *s, int64_t t) {
    if (t < s->warmup) return s->lr * (double)(t + 1) / (double)s->warmup;
    switch (s->kind) {
    case MND_CONSTANT: break;
    case MND_STEP: {
        const int64_t drops = t / (s->period > 0 ? s->period : 1);
        return s->lr * pow(s->gamma, (double)drops);
    }
    case MND_COSINE: {
        const int64_t span = s->total - s->warmup;
        const double at = span > 0 ? (double)(t - s->warmup) / (double)span : 1.0;
        const double f = s->final_fraction;
        return s->lr * (f + (1.0 - f) * 0.5 * (1.0 + cos(3.14159265358979323846 * fmin(at, 1.0))));
    }
    }
    return s->lr;
}

void mnd_schedule_text(const mnd_schedule *s, char *out, size_t size) {
    switch (s->kind) {
    case MND_CONSTANT:
        snprintf(out, size, "constant lr=%.9g warmup=%lld", s->lr, (long long)s->warmup);
        return;
    case MND_STEP:
        snprintf(out, size, "step lr=%.9g warmup=%lld period=%lld gamma=%.9g", s->lr,
                 (long long)s->warmup, (long long)s->period, s->gamma);
        return;
    case MND_COSINE:
        snprintf(out, size, "cosine lr=%.9g warmup=%lld total=%lld final=%.9g", s->lr,
                 (long long)s->warmup, (long long)s->total, s->final_fraction);
        return;
    }
}
