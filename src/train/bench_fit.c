/* bench_fit.c - models of what was measured, and predictions from them. No measuring here. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mnist_dist/bench.h"
#include "mnist_dist/memory.h"

mnd_bench_line mnd_bench_fit_line(int n, const mnd_bench_point *point) {
    mnd_bench_line line = {.points = n};
    if (n == 0) return line;
    /* Dividing by t makes all residuals relative: alpha u + beta v = 1. */
    double uu = 0.0, uv = 0.0, vv = 0.0, u1 = 0.0, v1 = 0.0;
    for (int i = 0; i < n; i++) {
        const double u = point[i].a / point[i].t, v = point[i].b / point[i].t;
        uu += u * u;
        uv += u * v;
        vv += v * v;
        u1 += u;
        v1 += v;
    }
    const double det = uu * vv - uv * uv;
    if (det > 1e-9 * uu * vv) {
        line.alpha = (u1 * vv - v1 * uv) / det;
        line.beta = (v1 * uu - u1 * uv) / det;
    } else {
        line.alpha = vv > 0.0 ? 0.0 : u1 / uu;
        line.beta = vv > 0.0 ? v1 / vv : 0.0;
    }
    if (line.alpha < 0.0) {
        line.alpha = 0.0;
        line.beta = v1 / vv;
    } else if (line.beta < 0.0) {
        line.alpha = u1 / uu;
        line.beta = 0.0;
    }
    double square = 0.0;
    for (int i = 0; i < n; i++) {
        const double off = (line.alpha * point[i].a + line.beta * point[i].b) / point[i].t - 1.0;
        square += off * off;
    }
    line.error = sqrt(square / n);
    return line;
}

mnd_status mnd_bench_terms(const char *way, int ranks, int nodes, double *a, double *c) {
    const double p = ranks;
    if (strcmp(way, "mpi") == 0) {
        *a = 2.0 * ceil(log2(p));
        *c = 2.0 * (p - 1.0) / p;
    } else if (strcmp(way, "tree") == 0) {
        *a = 2.0 * (p - 1.0);
        *c = 2.0 * (p - 1.0) / p;
    } else if (strcmp(way, "shared") == 0) {
        *a = 2.0 * (p - 1.0);
        *c = 1.0;
    } else if (strcmp(way, "hierarchical") == 0) {
        *a = 2.0 * (nodes - 1.0);
        *c = 2.0 * (nodes - 1.0) / p;
    } else {
        return mnd_fail(MND_USAGE, "no model of the exchange '%s'", way);
    }
    return MND_OK;
}

/* The fit of one way on `ranks` processes, or over 2 .. upto of them if ranks is 0. */
static mnd_status fit_way(const mnd_bench *b, const char *way, int ranks, int upto,
                          mnd_bench_line *out) {
    mnd_status status = MND_OK;
    mnd_bench_point *point;
    int n = 0;
    MND_NEW(point, b->n_message, "the fit");
    for (int i = 0; i < b->n_message; i++) {
        const mnd_bench_message *m = &b->message[i];
        if (strcmp(m->way, way) != 0 || m->ranks > upto || (ranks > 0 && m->ranks != ranks))
            continue;
        double a = 1.0, c = 1.0;
        if (ranks == 0) MND_TRY(mnd_bench_terms(way, m->ranks, m->nodes, &a, &c));
        point[n++] = (mnd_bench_point){.a = a, .b = c * (double)m->bytes, .t = m->seconds};
    }
    *out = mnd_bench_fit_line(n, point);
cleanup:
    mnd_free(point);
    return status;
}

static bool known_fit(const mnd_bench *b, const char *way, int ranks) {
    for (int i = 0; i < b->n_fit; i++)
        if (b->fit[i].ranks == ranks && strcmp(b->fit[i].way, way) == 0) return true;
    return false;
}

static mnd_status fit_messages(mnd_bench *b) {
    mnd_status status = MND_OK;
    mnd_free(b->fit);
    MND_NEW(b->fit, 2 * b->n_message, "the fits");
    b->n_fit = 0;
    for (int all = 0; all < 2; all++)
        for (int i = 0; i < b->n_message; i++) {
            const mnd_bench_message *m = &b->message[i];
            const int ranks = all ? 0 : m->ranks;
            if (known_fit(b, m->way, ranks)) continue;
            mnd_bench_fit *f = &b->fit[b->n_fit++];
            *f = (mnd_bench_fit){.ranks = ranks, .nodes = all ? 0 : m->nodes};
            memcpy(f->way, m->way, sizeof f->way);
            MND_TRY(fit_way(b, m->way, ranks, b->ranks, &f->line));
        }
cleanup:
    return status;
}

static const mnd_bench_row *find_row(const mnd_bench *b, bool weak, int ranks) {
    for (int i = 0; i < b->n_row; i++)
        if (b->row[i].weak == weak && b->row[i].ranks == ranks) return &b->row[i];
    return NULL;
}

/* The most rows that a process has. */
static double rows_of(int64_t batch, int ranks) {
    const int64_t most = (batch + ranks - 1) / ranks;
    return (double)most;
}

/* The sums of a step on `ranks` processes that depend on them alone: optimizer and exchange. */
static mnd_status shared_part(const mnd_bench *b, const char *way, const mnd_bench_line *message,
                              int ranks, int nodes, double *seconds) {
    double a, c;
    const mnd_status status = mnd_bench_terms(way, ranks, nodes, &a, &c);
    if (status != MND_OK) return status;
    const mnd_bench_row *one = find_row(b, false, 1);
    const bool whole = strcmp(way, "tree") == 0 || strcmp(way, "mpi") == 0;
    *seconds = one->time.optimizer / (whole ? 1 : ranks) + message->alpha * a +
               message->beta * c * (double)(b->n_param * sizeof(float));
    return MND_OK;
}

/* The rest of a step, by the rows a process has: from 2 .. upto processes. */
static mnd_status fit_work(const mnd_bench *b, const char *way, const mnd_bench_line *message,
                           int upto, mnd_bench_line *out) {
    mnd_status status = MND_OK;
    mnd_bench_point *point;
    int n = 0;
    MND_NEW(point, b->n_row, "the fit");
    for (int i = 0; i < b->n_row; i++) {
        const mnd_bench_row *r = &b->row[i];
        if (r->ranks < 2 || r->ranks > upto || strcmp(r->exchange, way) != 0) continue;
        double other;
        MND_TRY(shared_part(b, way, message, r->ranks, r->nodes, &other));
        /* An exchange that is slower alone than in a step must not eat up the computing. */
        const double rest = r->seconds - other > r->busy ? r->seconds - other : r->busy;
        point[n++] = (mnd_bench_point){.a = 1.0, .b = rows_of(r->batch, r->ranks), .t = rest};
    }
    *out = mnd_bench_fit_line(n, point);
cleanup:
    mnd_free(point);
    return status;
}

/* Adds predictions for `ranks` processes from those of at most `upto`, if there are any. */
static mnd_status predict(mnd_bench *b, int ranks, int upto) {
    mnd_status status = MND_OK;
    const mnd_bench_row *one = find_row(b, false, 1), *most = find_row(b, false, b->ranks);
    mnd_bench_line message, work;
    if (one == NULL || most == NULL) return MND_OK;
    const char *way = most->exchange;
    MND_TRY(fit_way(b, way, 0, upto, &message));
    if (message.points == 0) return MND_OK;
    MND_TRY(fit_work(b, way, &message, upto, &work));
    if (work.points == 0) return MND_OK;
    const int nodes = (int)(((int64_t)ranks * b->nodes + b->ranks - 1) / b->ranks);
    double other;
    MND_TRY(shared_part(b, way, &message, ranks, nodes, &other));
    for (int weak = 0; weak < 2; weak++) {
        const int64_t batch = weak ? b->batch_size * ranks : b->batch_size;
        if (batch < ranks) continue; /* processes without a row */
        const double seconds = work.alpha + work.beta * rows_of(batch, ranks) + other;
        const double rate = (double)batch / seconds;
        const mnd_bench_row *measured = find_row(b, weak, ranks);
        b->prediction[b->n_prediction++] = (mnd_bench_prediction){
            .weak = weak,
            .ranks = ranks,
            .nodes = nodes,
            .images_per_second = rate,
            .efficiency = rate / (ranks * one->images_per_second),
            .seconds = seconds,
            .from = upto,
            .measured = measured != NULL ? measured->images_per_second : 0.0,
            .error = measured != NULL ? rate / measured->images_per_second - 1.0 : 0.0};
    }
cleanup:
    return status;
}

mnd_status mnd_bench_predict(mnd_bench *b) {
    enum { DOUBLINGS = 4 };
    mnd_status status = MND_OK;
    MND_TRY(fit_messages(b));
    mnd_free(b->prediction);
    MND_NEW(b->prediction, 2 * (DOUBLINGS + 1), "the predictions");
    b->n_prediction = 0;
    MND_TRY(predict(b, b->ranks, b->ranks - 1));
    for (int k = 1; k <= DOUBLINGS && b->ranks <= (1 << 20); k++)
        MND_TRY(predict(b, b->ranks << k, b->ranks));
cleanup:
    return status;
}

void mnd_bench_free(mnd_bench *b) {
    for (int i = 0; i < b->n_row; i++) mnd_free(b->row[i].rate);
    mnd_free(b->textbook.rate);
    mnd_free(b->row);
    mnd_free(b->message);
    mnd_free(b->fit);
    mnd_free(b->prediction);
    *b = (mnd_bench){0};
}
