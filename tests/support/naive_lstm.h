/*
 * naive_lstm.h - an LSTM from its definition, in double, one sample at a time. Kernel (k, 4 n),
 * recurrent kernel (n, 4 n) and bias (4 n) lie one after the other in `param`; gates i, f, g, o.
 */
#ifndef MND_NAIVE_LSTM_H
#define MND_NAIVE_LSTM_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct naive_lstm {
    int steps, k, n;
    const double *param, *x; /* x (steps, k) */
    double *gate;            /* (steps, 4 n) after their activations; owned */
    double *cell, *hidden;   /* (steps + 1, n), those of step t at t + 1; owned */
} naive_lstm;

static inline size_t naive_lstm_params(int k, int n) { return 4 * (size_t)n * (size_t)(k + n + 1); }

static inline double naive_sigmoid(double x) { return 1 / (1 + exp(-x)); }

static inline naive_lstm naive_lstm_run(int steps, int k, int n, const double *param,
                                        const double *x) {
    const size_t all = (size_t)(steps + 1) * (size_t)n;
    naive_lstm s = {.steps = steps, .k = k, .n = n, .param = param, .x = x};
    s.gate = calloc(4 * all, sizeof *s.gate);
    s.cell = calloc(all, sizeof *s.cell);
    s.hidden = calloc(all, sizeof *s.hidden);
    if (!s.gate || !s.cell || !s.hidden) abort();
    const double *recurrent = param + k * 4 * n, *bias = recurrent + n * 4 * n;
    for (int t = 0; t < steps; t++) {
        double *gate = s.gate + t * 4 * n;
        for (int q = 0; q < 4 * n; q++) {
            double z = bias[q];
            for (int i = 0; i < k; i++) z += x[t * k + i] * param[i * 4 * n + q];
            for (int i = 0; i < n; i++) z += s.hidden[t * n + i] * recurrent[i * 4 * n + q];
            gate[q] = q / n == 2 ? tanh(z) : naive_sigmoid(z);
        }
        for (int u = 0; u < n; u++) {
            const double c = gate[n + u] * s.cell[t * n + u] + gate[u] * gate[2 * n + u];
            s.cell[(t + 1) * n + u] = c;
            s.hidden[(t + 1) * n + u] = gate[3 * n + u] * tanh(c);
        }
    }
    return s;
}

static inline void naive_lstm_free(naive_lstm *s) { free(s->gate), free(s->cell), free(s->hidden); }

/* Adds to grad (as param) and, unless NULL, to dx (steps, k), from the gradient dy (n) of the last
 * hidden state. */
static inline void naive_lstm_back(const naive_lstm *s, const double *dy, double *grad,
                                   double *dx) {
    const int k = s->k, n = s->n;
    const double *recurrent = s->param + k * 4 * n;
    double *dh = calloc(6 * (size_t)n, sizeof *dh), *dc = dh + n, *dz = dc + n;
    if (!dh) abort();
    memcpy(dh, dy, (size_t)n * sizeof *dh);
    for (int t = s->steps - 1; t >= 0; t--) {
        const double *gate = s->gate + t * 4 * n, *before = s->hidden + t * n;
        for (int u = 0; u < n; u++) {
            const double i = gate[u], f = gate[n + u], g = gate[2 * n + u], o = gate[3 * n + u];
            const double th = tanh(s->cell[(t + 1) * n + u]);
            dc[u] += dh[u] * o * (1 - th * th);
            dz[u] = dc[u] * g * i * (1 - i);
            dz[n + u] = dc[u] * s->cell[t * n + u] * f * (1 - f);
            dz[2 * n + u] = dc[u] * i * (1 - g * g);
            dz[3 * n + u] = dh[u] * th * o * (1 - o);
            dc[u] *= f;
        }
        memset(dh, 0, (size_t)n * sizeof *dh);
        for (int q = 0; q < 4 * n; q++) {
            grad[(k + n) * 4 * n + q] += dz[q];
            for (int i = 0; i < k; i++) {
                grad[i * 4 * n + q] += s->x[t * k + i] * dz[q];
                if (dx) dx[t * k + i] += s->param[i * 4 * n + q] * dz[q];
            }
            for (int i = 0; i < n; i++) {
                grad[(k + i) * 4 * n + q] += before[i] * dz[q];
                dh[i] += recurrent[i * 4 * n + q] * dz[q];
            }
        }
    }
    free(dh);
}

#endif
