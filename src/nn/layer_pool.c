/* layer_pool.c - max-pooling and average-pooling: windows k x k, stride S. */
#include <math.h>
#include <string.h>

#include "layer_kinds.h"
#include "mnist_dist/parallel.h"
#include "mnist_dist/vector.h"

typedef struct pool {
    int h, w, c, k, stride, pad_top, pad_left, oh, ow;
} pool;

static mnd_status plan(mnd_layer *layer, size_t state_per_output, int rows) {
    mnd_status status = MND_OK;
    pool *const p = layer->self;
    int k = 0;
    bool same = false;
    MND_TRY(mnd_layer_int(layer, 0, "window size", &k));
    int stride = k;
    MND_TRY(mnd_layer_window(layer, 1, &stride, &same));
    if (layer->in.ndim != 3) return mnd_layer_fail(layer, "needs an image, not flat input");
    const int h = layer->in.dim[0], w = layer->in.dim[1], c = layer->in.dim[2];
    if (!same && (k > h || k > w))
        return mnd_layer_fail(layer, "the window is larger than its input of %d x %d", h, w);
    if (k > 255) return mnd_layer_fail(layer, "the window is larger than 255");
    *p = (pool){.h = h, .w = w, .c = c, .k = k, .stride = stride};
    p->oh = mnd_layer_outputs(h, k, stride, same, &p->pad_top);
    p->ow = mnd_layer_outputs(w, k, stride, same, &p->pad_left);
    layer->out = (mnd_shape){.ndim = 3, .dim = {p->oh, p->ow, c}};
    layer->state_size = (size_t)rows * mnd_shape_size(&layer->out) * state_per_output;
cleanup:
    return status;
}

static mnd_status max_plan(mnd_layer *layer, const mnd_plan *p) {
    return plan(layer, sizeof(int32_t), p->rows);
}

static mnd_status average_plan(mnd_layer *layer, const mnd_plan *p) {
    return plan(layer, 0, p->rows);
}

/* One image: its outputs, or the gradient of its inputs. */
typedef void image_fn(const pool *p, const float *in, float *out, int32_t *arg);

typedef struct job {
    const mnd_layer *layer;
    image_fn *run;
    const float *in;
    float *out;
    size_t in_size, out_size;
} job;

static void image_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const size_t arg = mnd_shape_size(&j->layer->out);
    (void)thread;
    for (int i = first; i < last; i++)
        j->run(j->layer->self, j->in + (size_t)i * j->in_size, j->out + (size_t)i * j->out_size,
               (int32_t *)j->layer->state + (size_t)i * arg);
}

static void run_forward(const mnd_layer *layer, const mnd_pass *pass, image_fn *run, const float *x,
                        float *y) {
    job j = {.layer = layer,
             .run = run,
             .in = x,
             .out = y,
             .in_size = mnd_shape_size(&layer->in),
             .out_size = mnd_shape_size(&layer->out)};
    mnd_parallel(pass->workers->threads, pass->rows, 1, image_range, &j);
}

static void run_backward(const mnd_layer *layer, const mnd_pass *pass, image_fn *run,
                         const float *dy, float *dx) {
    if (dx == NULL) return;
    job j = {.layer = layer,
             .run = run,
             .in = dy,
             .out = dx,
             .in_size = mnd_shape_size(&layer->out),
             .out_size = mnd_shape_size(&layer->in)};
    mnd_parallel(pass->workers->threads, pass->rows, 1, image_range, &j);
}

/* The part of a window that lies in the image. */
typedef struct window {
    ptrdiff_t at; /* its first element, from that of the image */
    int w, n;     /* pixels in a row of it, and in all: at least one */
} window;

static inline window window_of(const pool *p, int oy, int ox) {
    const int y = oy * p->stride - p->pad_top, x = ox * p->stride - p->pad_left;
    const int top = y < 0 ? 0 : y, left = x < 0 ? 0 : x;
    const int bottom = y + p->k > p->h ? p->h : y + p->k, right = x + p->k > p->w ? p->w : x + p->k;
    return (window){.at = ((ptrdiff_t)top * p->w + left) * p->c,
                    .w = right - left,
                    .n = (bottom - top) * (right - left)};
}

/* Element q of a window, row-major, from its first one. */
static inline ptrdiff_t element(const pool *p, const window *in, int q) {
    return ((ptrdiff_t)(q / in->w) * p->w + q % in->w) * p->c;
}

/* A NaN exceeds everything, so that it reaches the loss. */
static inline bool exceeds(float x, float most) { return x > most || isnan(x); }

/* The most frequent window, in one pass. */
static inline void max_of_four(int n, const float *restrict a, const float *restrict b,
                               const float *restrict c, const float *restrict d, float *restrict y,
                               int32_t *restrict arg) {
    for (int i = 0; i < n; i++) {
        const bool second = exceeds(b[i], a[i]);
        float most = second ? b[i] : a[i];
        int32_t at = second ? 1 : 0;
        at = exceeds(c[i], most) ? 2 : at;
        most = exceeds(c[i], most) ? c[i] : most;
        arg[i] = exceeds(d[i], most) ? 3 : at;
        y[i] = exceeds(d[i], most) ? d[i] : most;
    }
}

/* y (oh, ow, c), and in `arg` which element of the window it was: row-major, the first largest. */
MND_EACH_WIDTH static void max_image(const pool *p, const float *restrict x, float *restrict y,
                                     int32_t *restrict arg) {
    for (int oy = 0; oy < p->oh; oy++)
        for (int ox = 0; ox < p->ow; ox++, y += p->c, arg += p->c) {
            const window in = window_of(p, oy, ox);
            const float *restrict from = x + in.at;
            if (in.n == 4) {
                max_of_four(p->c, from, from + element(p, &in, 1), from + element(p, &in, 2),
                            from + element(p, &in, 3), y, arg);
                continue;
            }
            memcpy(y, from, (size_t)p->c * sizeof *y);
            memset(arg, 0, (size_t)p->c * sizeof *arg);
            for (int q = 1; q < in.n; q++) {
                const float *restrict value = from + element(p, &in, q);
                for (int c = 0; c < p->c; c++) {
                    const bool larger = exceeds(value[c], y[c]);
                    arg[c] = larger ? q : arg[c];
                    y[c] = larger ? value[c] : y[c];
                }
            }
        }
}

MND_EACH_WIDTH static void max_image_backward(const pool *p, const float *restrict dy,
                                              float *restrict dx, int32_t *restrict arg) {
    memset(dx, 0, (size_t)p->h * (size_t)p->w * (size_t)p->c * sizeof *dx);
    for (int oy = 0; oy < p->oh; oy++)
        for (int ox = 0; ox < p->ow; ox++, dy += p->c, arg += p->c) {
            const window in = window_of(p, oy, ox);
            for (int q = 0; q < in.n; q++) {
                float *restrict d = dx + in.at + element(p, &in, q);
                for (int c = 0; c < p->c; c++) d[c] += arg[c] == q ? dy[c] : 0.0F;
            }
        }
}

/* The mean of what lies in the image, as TensorFlow's: padding does not count. */
MND_EACH_WIDTH static void average_image(const pool *p, const float *restrict x, float *restrict y,
                                         int32_t *restrict arg) {
    (void)arg;
    for (int oy = 0; oy < p->oh; oy++)
        for (int ox = 0; ox < p->ow; ox++, y += p->c) {
            const window in = window_of(p, oy, ox);
            const float weight = 1.0F / (float)in.n;
            memset(y, 0, (size_t)p->c * sizeof *y);
            for (int q = 0; q < in.n; q++) {
                const float *restrict value = x + in.at + element(p, &in, q);
                for (int c = 0; c < p->c; c++) y[c] += value[c];
            }
            for (int c = 0; c < p->c; c++) y[c] *= weight;
        }
}

MND_EACH_WIDTH static void average_image_backward(const pool *p, const float *restrict dy,
                                                  float *restrict dx, int32_t *restrict arg) {
    (void)arg;
    memset(dx, 0, (size_t)p->h * (size_t)p->w * (size_t)p->c * sizeof *dx);
    for (int oy = 0; oy < p->oh; oy++)
        for (int ox = 0; ox < p->ow; ox++, dy += p->c) {
            const window in = window_of(p, oy, ox);
            const float weight = 1.0F / (float)in.n;
            for (int q = 0; q < in.n; q++) {
                float *restrict d = dx + in.at + element(p, &in, q);
                for (int c = 0; c < p->c; c++) d[c] += dy[c] * weight;
            }
        }
}

#define POOLING(name, planner, value, gradient)                                                    \
    static void name##_forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) { \
        run_forward(layer, pass, value, x, y);                                                     \
    }                                                                                              \
    static void name##_backward(mnd_layer *layer, const mnd_pass *pass, const float *x,            \
                                const float *y, float *dy, float *dx) {                            \
        (void)x;                                                                                   \
        (void)y;                                                                                   \
        run_backward(layer, pass, gradient, dy, dx);                                               \
    }                                                                                              \
    const mnd_layer_ops mnd_layer_##name = {.kind = #name,                                         \
                                            .usage = #name ":k[:sS][:same|:valid]",                \
                                            .self_size = sizeof(pool),                             \
                                            .plan = planner,                                       \
                                            .forward = name##_forward,                             \
                                            .backward = name##_backward};

POOLING(maxpool, max_plan, max_image, max_image_backward)
POOLING(avgpool, average_plan, average_image, average_image_backward)
