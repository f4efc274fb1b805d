/*
 * naive.h - every layer straight from its definition, in double, one sample at a time: what the
 * library's kernels are measured against. Nothing here is shared with the library, not even the
 * reading of the spec.
 */
#ifndef MND_NAIVE_H
#define MND_NAIVE_H

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mnist_dist/model.h"
#include "naive_lstm.h"

#define NAIVE_LAYERS 32

typedef enum naive_kind {
    NAIVE_DENSE,
    NAIVE_CONV,
    NAIVE_MAXPOOL,
    NAIVE_AVGPOOL,
    NAIVE_GLOBAL,
    NAIVE_FLATTEN,
    NAIVE_DROPOUT,
    NAIVE_RELU,
    NAIVE_LEAKY,
    NAIVE_SIGMOID,
    NAIVE_TANH,
    NAIVE_LSTM,
    NAIVE_RESIDUAL, /* "residual(" passes its input on */
    NAIVE_END,      /* ")" adds it */
    NAIVE_KINDS
} naive_kind;

typedef struct naive_layer {
    naive_kind kind;
    int h, w, c;    /* in; vectors are (1, 1, c) */
    int oh, ow, oc; /* out */
    int kh, kw, stride, top, left;
    int partner;         /* of "residual(" and ")": the index of the other one */
    double slope;        /* of a leaky relu */
    size_t kernel, bias; /* offsets of the parameters */
    const double *mask;  /* dropout: (rows, out), 0 or 1/(1-r); borrowed; NULL for none */
    double *out, *d;     /* values and their derivative, of one sample; owned */
} naive_layer;

typedef struct naive_net {
    int n_layer;
    naive_layer layer[NAIVE_LAYERS];
    size_t n_param, in;
    int classes;
    /* Of every maximum and rectifier since the last reset: the least distance from a kink, not
     * counting exact ties, where every choice gives the same value. */
    double margin;
} naive_net;

static inline size_t naive_size_in(const naive_layer *l) {
    return (size_t)l->h * (size_t)l->w * (size_t)l->c;
}

static inline size_t naive_size_out(const naive_layer *l) {
    return (size_t)l->oh * (size_t)l->ow * (size_t)l->oc;
}

/* Reads "SIZE[xSIZE][:sSTRIDE][:same]": the window of a layer and the size of its output. */
static inline void naive_window(naive_layer *l, char *rest) {
    const char *size = strsep(&rest, ":");
    const char *x = strchr(size, 'x');
    l->kh = atoi(size);
    l->kw = x ? atoi(x + 1) : l->kh;
    l->stride = l->kind == NAIVE_CONV ? 1 : l->kh;
    bool same = false;
    while (rest) {
        const char *arg = strsep(&rest, ":");
        if (!strcmp(arg, "same"))
            same = true;
        else if (arg[0] == 's')
            l->stride = atoi(arg + 1);
    }
    if (same) {
        l->oh = (l->h + l->stride - 1) / l->stride;
        l->ow = (l->w + l->stride - 1) / l->stride;
        const int rows = (l->oh - 1) * l->stride + l->kh - l->h;
        const int columns = (l->ow - 1) * l->stride + l->kw - l->w;
        l->top = rows > 0 ? rows / 2 : 0;
        l->left = columns > 0 ? columns / 2 : 0;
    } else {
        l->oh = (l->h - l->kh) / l->stride + 1;
        l->ow = (l->w - l->kw) / l->stride + 1;
    }
}

/* "residual(relu)" as "residual,relu,end". */
static inline void naive_flat(const char *spec, char *out, size_t size) {
    size_t n = 0;
    for (; *spec != 0; spec++) {
        const char *word = *spec == '(' ? "," : *spec == ')' ? ",end" : (char[]){*spec, 0};
        n += (size_t)snprintf(out + n, size - n, "%s", word);
        if (n >= size) abort();
    }
}

/* Reads a well-formed spec; anything else ends the program. */
static inline void naive_open(naive_net *net, const char *spec, mnd_shape input, int classes) {
    static const char *const name[NAIVE_KINDS] = {
        "dense", "conv",      "maxpool", "avgpool", "globalavgpool", "flatten",  "dropout",
        "relu",  "leakyrelu", "sigmoid", "tanh",    "lstm",          "residual", "end"};
    int open[NAIVE_LAYERS], depth = 0;
    memset(net, 0, sizeof *net);
    net->classes = classes;
    net->margin = INFINITY;
    int h = 1, w = 1, c = input.dim[0];
    if (input.ndim == 3) h = input.dim[0], w = input.dim[1], c = input.dim[2];
    net->in = (size_t)h * (size_t)w * (size_t)c;
    char text[1024];
    naive_flat(spec, text, sizeof text);
    char *rest = text;
    for (char *word = strsep(&rest, ","); word; word = strsep(&rest, ",")) {
        naive_layer *l = &net->layer[net->n_layer++];
        *l = (naive_layer){.h = h, .w = w, .c = c, .oh = h, .ow = w, .oc = c};
        const char *kind = strsep(&word, ":");
        int k = 0;
        while (k < NAIVE_KINDS && strcmp(name[k], kind) != 0) k++;
        if (k == NAIVE_KINDS || net->n_layer == NAIVE_LAYERS) abort();
        l->kind = (naive_kind)k;
        if (l->kind == NAIVE_RESIDUAL) open[depth++] = net->n_layer - 1;
        if (l->kind == NAIVE_END) {
            l->partner = open[--depth];
            net->layer[l->partner].partner = net->n_layer - 1;
        }
        if (l->kind == NAIVE_DENSE || l->kind == NAIVE_CONV) l->oc = atoi(strsep(&word, ":"));
        if (l->kind == NAIVE_LEAKY) l->slope = word ? atof(word) : 0.3;
        if (l->kind == NAIVE_GLOBAL) l->oh = 1, l->ow = 1;
        if (l->kind == NAIVE_LSTM) l->oh = 1, l->ow = 1, l->oc = atoi(word);
        if (l->kind == NAIVE_FLATTEN) l->oh = 1, l->ow = 1, l->oc = h * w * c;
        const bool windowed =
            l->kind == NAIVE_CONV || l->kind == NAIVE_MAXPOOL || l->kind == NAIVE_AVGPOOL;
        if (windowed) naive_window(l, word);
        if (l->kind == NAIVE_DENSE || l->kind == NAIVE_CONV) {
            const size_t taps = l->kind == NAIVE_CONV ? (size_t)(l->kh * l->kw) : 1;
            l->kernel = net->n_param;
            l->bias = l->kernel + taps * (size_t)l->c * (size_t)l->oc;
            net->n_param = l->bias + (size_t)l->oc;
        }
        if (l->kind == NAIVE_LSTM) {
            l->kernel = net->n_param;
            net->n_param += naive_lstm_params(l->w * l->c, l->oc);
            l->bias = net->n_param - 4 * (size_t)l->oc;
        }
        h = l->oh, w = l->ow, c = l->oc;
        l->out = calloc(naive_size_out(l), sizeof *l->out);
        l->d = calloc(naive_size_out(l), sizeof *l->d);
        if (!l->out || !l->d) abort();
    }
    if (h * w * c != classes) abort();
}

static inline void naive_close(naive_net *net) {
    for (int i = 0; i < net->n_layer; i++) free(net->layer[i].out), free(net->layer[i].d);
}

static inline void naive_near(naive_net *net, double distance) {
    if (distance < net->margin) net->margin = distance;
}

/* Value at (y, x, c) of a picture, 0 outside. */
static inline double naive_at(const naive_layer *l, const double *in, int y, int x, int c) {
    if (y < 0 || y >= l->h || x < 0 || x >= l->w) return 0;
    return in[(y * l->w + x) * l->c + c];
}

/* Output (y, x, o) of a convolution without its bias. */
static inline double naive_conv(const naive_layer *l, const double *in, const double *kernel, int y,
                                int x, int o) {
    double v = 0;
    for (int t = 0; t < l->kh * l->kw * l->c; t++)
        v += naive_at(l, in, y * l->stride + t / l->c / l->kw - l->top,
                      x * l->stride + t / l->c % l->kw - l->left, t % l->c) *
             kernel[t * l->oc + o];
    return v;
}

/* Element t of the window of output (y, x), channel c: its index in the picture, or -1 outside. */
static inline ptrdiff_t naive_tap(const naive_layer *l, int y, int x, int c, int t) {
    const int iy = y * l->stride + t / l->kw - l->top, ix = x * l->stride + t % l->kw - l->left;
    return iy < 0 || iy >= l->h || ix < 0 || ix >= l->w ? -1 : (iy * l->w + ix) * l->c + c;
}

/* Where the maximum of a window lies: the first largest, by rows. */
static inline ptrdiff_t naive_best(naive_net *net, const naive_layer *l, const double *in, int y,
                                   int x, int c) {
    ptrdiff_t best = -1;
    double gap = INFINITY;
    for (int t = 0; t < l->kh * l->kw; t++) {
        const ptrdiff_t at = naive_tap(l, y, x, c, t);
        if (at < 0) continue;
        if (best < 0) {
            best = at;
        } else if (in[at] > in[best]) {
            gap = in[at] - in[best];
            best = at;
        } else if (in[at] < in[best] && in[best] - in[at] < gap) {
            gap = in[best] - in[at];
        }
    }
    naive_near(net, gap);
    return best;
}

/* Elements of a window that lie in the picture. */
static inline int naive_taps(const naive_layer *l, int y, int x) {
    int n = 0;
    for (int t = 0; t < l->kh * l->kw; t++) n += naive_tap(l, y, x, 0, t) >= 0;
    return n;
}

/* One sample through the network; `row` picks its dropout masks. Returns the logits. */
static inline const double *naive_forward(naive_net *net, const double *param, const double *x,
                                          int row) {
    const double *in = x;
    for (int n = 0; n < net->n_layer; n++) {
        naive_layer *l = &net->layer[n];
        const size_t size = naive_size_out(l);
        const double *kernel = param + l->kernel, *bias = param + l->bias;
        naive_lstm sequence = {0};
        if (l->kind == NAIVE_LSTM) sequence = naive_lstm_run(l->h, l->w * l->c, l->oc, kernel, in);
        for (int y = 0; y < l->oh; y++)
            for (int xx = 0; xx < l->ow; xx++)
                for (int o = 0; o < l->oc; o++) {
                    const size_t at = (size_t)((y * l->ow + xx) * l->oc + o);
                    double v = 0;
                    switch (l->kind) {
                    case NAIVE_DENSE:
                        v = bias[o];
                        for (int i = 0; i < l->c; i++) v += in[i] * kernel[i * l->oc + o];
                        break;
                    case NAIVE_CONV: v = bias[o] + naive_conv(l, in, kernel, y, xx, o); break;
                    case NAIVE_MAXPOOL: v = in[naive_best(net, l, in, y, xx, o)]; break;
                    case NAIVE_AVGPOOL:
                        for (int t = 0; t < l->kh * l->kw; t++)
                            if (naive_tap(l, y, xx, o, t) >= 0) v += in[naive_tap(l, y, xx, o, t)];
                        v /= naive_taps(l, y, xx);
                        break;
                    case NAIVE_GLOBAL:
                        for (int p = 0; p < l->h * l->w; p++) v += in[p * l->c + o];
                        v /= l->h * l->w;
                        break;
                    case NAIVE_FLATTEN: v = in[at]; break;
                    case NAIVE_DROPOUT:
                        v = l->mask ? in[at] * l->mask[(size_t)row * size + at] : in[at];
                        break;
                    case NAIVE_RELU:
                        v = in[at] > 0 ? in[at] : 0;
                        if (in[at] != 0) naive_near(net, fabs(in[at]));
                        break;
                    case NAIVE_LEAKY:
                        v = in[at] > 0 ? in[at] : l->slope * in[at];
                        if (in[at] != 0) naive_near(net, fabs(in[at]));
                        break;
                    case NAIVE_LSTM: v = sequence.hidden[l->h * l->oc + o]; break;
                    case NAIVE_KINDS: break;
                    case NAIVE_SIGMOID: v = 1 / (1 + exp(-in[at])); break;
                    case NAIVE_TANH: v = tanh(in[at]); break;
                    case NAIVE_RESIDUAL: v = in[at]; break;
                    case NAIVE_END: v = in[at] + net->layer[l->partner].out[at]; break;
                    }
                    l->out[at] = v;
                }
        naive_lstm_free(&sequence);
        in = l->out;
    }
    return in;
}

/* -log softmax(z)[label]. */
static inline double naive_loss(const double *z, int classes, int label) {
    double max = z[0], sum = 0;
    for (int i = 1; i < classes; i++) max = fmax(max, z[i]);
    for (int i = 0; i < classes; i++) sum += exp(z[i] - max);
    return log(sum) - (z[label] - max);
}

/* A layer while derivatives go through it. */
typedef struct naive_back {
    naive_net *net;
    const naive_layer *l;
    int row;
    const double *in, *kernel;
    double *din; /* NULL for the first layer */
    double *dkernel, *dbias;
} naive_back;

static inline void naive_conv_back(const naive_back *b, int y, int x, int o, double g) {
    const naive_layer *l = b->l;
    b->dbias[o] += g;
    for (int t = 0; t < l->kh * l->kw * l->c; t++) {
        const int c = t % l->c, iy = y * l->stride + t / l->c / l->kw - l->top;
        const int ix = x * l->stride + t / l->c % l->kw - l->left;
        b->dkernel[t * l->oc + o] += naive_at(l, b->in, iy, ix, c) * g;
        if (b->din && iy >= 0 && iy < l->h && ix >= 0 && ix < l->w)
            b->din[(iy * l->w + ix) * l->c + c] += b->kernel[t * l->oc + o] * g;
    }
}

static inline void naive_average_back(const naive_back *b, int y, int x, int o, double g) {
    const naive_layer *l = b->l;
    const int taps = naive_taps(l, y, x);
    for (int t = 0; t < l->kh * l->kw; t++)
        if (naive_tap(l, y, x, o, t) >= 0) b->din[naive_tap(l, y, x, o, t)] += g / taps;
}

/* What output (y, x, o) gives to the derivatives of parameters and inputs. */
static inline void naive_output_back(const naive_back *b, int y, int x, int o) {
    const naive_layer *l = b->l;
    const size_t at = (size_t)((y * l->ow + x) * l->oc + o);
    const double g = l->d[at], v = l->out[at];
    if (l->kind == NAIVE_CONV) naive_conv_back(b, y, x, o, g);
    if (l->kind == NAIVE_DENSE) {
        b->dbias[o] += g;
        for (int i = 0; i < l->c; i++) {
            b->dkernel[i * l->oc + o] += b->in[i] * g;
            if (b->din) b->din[i] += b->kernel[i * l->oc + o] * g;
        }
    }
    if (!b->din) return;
    switch (l->kind) {
    case NAIVE_DENSE:
    case NAIVE_CONV:
    case NAIVE_LSTM:
    case NAIVE_KINDS: break;
    case NAIVE_MAXPOOL: b->din[naive_best(b->net, l, b->in, y, x, o)] += g; break;
    case NAIVE_AVGPOOL: naive_average_back(b, y, x, o, g); break;
    case NAIVE_GLOBAL:
        for (int p = 0; p < l->h * l->w; p++) b->din[p * l->c + o] = g / (l->h * l->w);
        break;
    case NAIVE_FLATTEN: b->din[at] = g; break;
    case NAIVE_DROPOUT:
        b->din[at] = l->mask ? g * l->mask[(size_t)b->row * naive_size_out(l) + at] : g;
        break;
    case NAIVE_RELU: b->din[at] = b->in[at] > 0 ? g : 0; break;
    case NAIVE_LEAKY: b->din[at] = b->in[at] > 0 ? g : l->slope * g; break;
    case NAIVE_SIGMOID: b->din[at] = g * v * (1 - v); break;
    case NAIVE_TANH: b->din[at] = g * (1 - v * v); break;
    case NAIVE_RESIDUAL: b->din[at] = g + b->net->layer[l->partner].d[at]; break;
    case NAIVE_END: b->din[at] = g; break;
    }
}

/* One sample's loss, and its gradient times `scale` added to grad (n_param). */
static inline double naive_backward(naive_net *net, const double *param, const double *x, int label,
                                    int row, double scale, double *grad) {
    const double *z = naive_forward(net, param, x, row);
    const double loss = naive_loss(z, net->classes, label);
    double *d = net->layer[net->n_layer - 1].d;
    for (int i = 0; i < net->classes; i++)
        d[i] = scale * (exp(-naive_loss(z, net->classes, i)) - (i == label));
    for (int n = net->n_layer - 1; n >= 0; n--) {
        const naive_layer *l = &net->layer[n];
        const naive_back b = {.net = net,
                              .l = l,
                              .row = row,
                              .in = n ? net->layer[n - 1].out : x,
                              .kernel = param + l->kernel,
                              .din = n ? net->layer[n - 1].d : NULL,
                              .dkernel = grad + l->kernel,
                              .dbias = grad + l->bias};
        if (b.din) memset(b.din, 0, naive_size_in(l) * sizeof *b.din);
        if (l->kind == NAIVE_LSTM) {
            naive_lstm s = naive_lstm_run(l->h, l->w * l->c, l->oc, b.kernel, b.in);
            naive_lstm_back(&s, l->d, b.dkernel, b.din);
            naive_lstm_free(&s);
        }
        for (int y = 0; y < l->oh; y++)
            for (int xx = 0; xx < l->ow; xx++)
                for (int o = 0; o < l->oc; o++) naive_output_back(&b, y, xx, o);
    }
    return loss;
}

/* Sum of the losses of n samples; grad (may be NULL) gets the gradient of scale * that sum. */
static inline double naive_gradient(naive_net *net, const double *param, const double *x,
                                    const uint8_t *label, int n, double scale, double *grad) {
    double loss = 0;
    if (grad) memset(grad, 0, net->n_param * sizeof *grad);
    for (int i = 0; i < n; i++) {
        const double *xi = x + (size_t)i * net->in;
        loss += grad ? naive_backward(net, param, xi, label[i], i, scale, grad)
                     : naive_loss(naive_forward(net, param, xi, i), net->classes, label[i]);
    }
    return loss;
}

#endif
