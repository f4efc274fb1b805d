#include "mnist_dist/schedule.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const names[MND_N_SCHEDULE] = {
    [MND_CONSTANT] = "constant", [MND_STEP] = "step",         [MND_EXPONENTIAL] = "exponential",
    [MND_COSINE] = "cosine",     [MND_ONECYCLE] = "onecycle",
};

mnd_status mnd_schedule_kind_of(const char *name, mnd_schedule_kind *out) {
    for (int i = 0; i < MND_N_SCHEDULE; i++) {
        if (strcmp(names[i], name) != 0) continue;
        *out = (mnd_schedule_kind)i;
        return MND_OK;
    }
    return mnd_fail(MND_USAGE,
                    "schedule '%s' is not one of constant, step, exponential, cosine, onecycle",
                    name);
}

/* Half a cosine from `from` at 0 to `to` at 1 and later. */
static double cosine(double from, double to, double at) {
    return to + (from - to) * 0.5 * (1.0 + cos(3.14159265358979323846 * fmin(at, 1.0)));
}

static double onecycle(const mnd_schedule *s, int64_t t) {
    const int64_t top = s->warmup - 1, span = s->total - 1 - top;
    if (t < top) return cosine(s->lr * MND_ONECYCLE_FIRST, s->lr, (double)t / (double)top);
    const double at = span > 0 ? (double)(t - top) / (double)span : 0.0;
    return cosine(s->lr, s->lr * s->final_fraction, at);
}

double mnd_schedule_rate(const mnd_schedule *s, int64_t t) {
    const int64_t period = s->period > 0 ? s->period : 1;
    if (s->kind == MND_ONECYCLE) return onecycle(s, t);
    if (t < s->warmup) return s->lr * (double)(t + 1) / (double)s->warmup;
    if (s->kind == MND_STEP) {
        const int64_t drops = t / period;
        return s->lr * pow(s->gamma, (double)drops);
    }
    if (s->kind == MND_EXPONENTIAL)
        return s->lr * pow(s->gamma, (double)(t - s->warmup) / (double)period);
    if (s->kind == MND_COSINE) {
        const int64_t span = s->total - s->warmup;
        const double at = span > 0 ? (double)(t - s->warmup) / (double)span : 1.0;
        return s->lr * cosine(1.0, s->final_fraction, at);
    }
    return s->lr;
}

void mnd_schedule_text(const mnd_schedule *s, char *out, size_t size) {
    const long long warmup = s->warmup, period = s->period, total = s->total;
    const char *name = names[s->kind];
    if (s->kind == MND_CONSTANT)
        snprintf(out, size, "%s lr=%.9g warmup=%lld", name, s->lr, warmup);
    else if (s->kind == MND_STEP || s->kind == MND_EXPONENTIAL)
        snprintf(out, size, "%s lr=%.9g warmup=%lld period=%lld gamma=%.9g", name, s->lr, warmup,
                 period, s->gamma);
    else
        snprintf(out, size, "%s lr=%.9g warmup=%lld total=%lld final=%.9g", name, s->lr, warmup,
                 total, s->final_fraction);
}
