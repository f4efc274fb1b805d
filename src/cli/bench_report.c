#include "bench_report.h"

#include <math.h>
#include <string.h>

#include "mnist_dist/kernels.h"

const char *bench_way(const char *way) { return strcmp(way, "mpi") == 0 ? "MPI_Allreduce" : way; }

static const mnd_bench_row *one_process(const mnd_bench *b) { return &b->row[0]; }

/* -------------------------------------------------------------------------------------- tables */

static void print_row(FILE *out, const mnd_bench_row *r, const char *exchange) {
    const mnd_time_split *t = &r->time;
    const double percent = 100.0 / r->seconds;
    fprintf(out,
            "%5d %5d  %-12s %10.0f %8.2f %5.1f%% %9.3f | %4.1f%% %4.1f%% %4.1f%% %4.1f%% %4.1f%% | "
            "rank %d on %s (+%.1f%%)\n",
            r->ranks, r->nodes, exchange, r->images_per_second, r->efficiency * r->ranks,
            100.0 * r->efficiency, 1e3 * r->seconds, percent * t->data, percent * t->compute,
            percent * t->exchange, percent * t->optimizer, percent * t->wait, r->slowest, r->host,
            100.0 * (r->busy / r->busy_mean - 1.0));
}

static void print_rows(FILE *out, const mnd_bench *b, bool weak) {
    fprintf(out, "\n%s scaling: batch %lld %s\n", weak ? "Weak" : "Strong",
            (long long)b->batch_size, weak ? "per process" : "over all processes");
    fprintf(out, "%5s %5s  %-12s %10s %8s %6s %9s | %5s %5s %5s %5s %5s | %s\n", "ranks", "hosts",
            "exchange", "images/s", "speed-up", "effic.", "ms/step", "data", "comp.", "exch.",
            "opt.", "wait", "slowest (over the mean)");
    for (int i = 0; i < b->n_row; i++)
        if (b->row[i].weak == weak) print_row(out, &b->row[i], b->row[i].exchange);
    if (!weak) print_row(out, &b->textbook, "textbook");
}

/* Whether a message was measured on all ranks: tables and picture show only these. */
static bool of_all(const mnd_bench *b, const mnd_bench_message *m) { return m->ranks == b->ranks; }

static const mnd_bench_message *find_message(const mnd_bench *b, const char *way, size_t bytes) {
    for (int i = 0; i < b->n_message; i++)
        if (of_all(b, &b->message[i]) && b->message[i].bytes == bytes &&
            strcmp(b->message[i].way, way) == 0)
            return &b->message[i];
    return NULL;
}

static void print_messages(FILE *out, const mnd_bench *b) {
    enum { MOST_WAYS = 8 };
    const char *way[MOST_WAYS];
    int n_way = 0;
    for (int i = 0; i < b->n_fit && n_way < MOST_WAYS; i++)
        if (b->fit[i].ranks == b->ranks) way[n_way++] = b->fit[i].way;
    if (n_way == 0) return;
    fprintf(out, "\nExchange alone on %d ranks: us for a gradient (median; slowest rank)\n%10s",
            b->ranks, "bytes");
    for (int w = 0; w < n_way; w++) fprintf(out, " %14s", bench_way(way[w]));
    size_t shown = 0;
    for (int i = 0; i < b->n_message; i++) {
        const size_t bytes = b->message[i].bytes;
        if (!of_all(b, &b->message[i]) || bytes <= shown) continue;
        shown = bytes;
        fprintf(out, "\n%10zu", bytes);
        for (int w = 0; w < n_way; w++) {
            const mnd_bench_message *m = find_message(b, way[w], bytes);
            if (m != NULL)
                fprintf(out, " %14.1f", 1e6 * m->seconds);
            else
                fprintf(out, " %14s", "-");
        }
    }
    fprintf(out, "\n\nFit of t = alpha + beta n (least squares of the relative error)\n");
    fprintf(out, "%-14s %5s %11s %14s %10s %9s\n", "exchange", "ranks", "alpha, us", "beta, ns/KiB",
            "1/beta", "error");
    for (int i = 0; i < b->n_fit; i++) {
        const mnd_bench_fit *f = &b->fit[i];
        if (f->ranks == 0) continue;
        char speed[32] = "-";
        if (f->line.beta > 0.0) snprintf(speed, sizeof speed, "%.2f GB/s", 1e-9 / f->line.beta);
        fprintf(out, "%-14s %5d %11.2f %14.2f %10s %8.0f%%\n", bench_way(f->way), f->ranks,
                1e6 * f->line.alpha, 1e9 * 1024.0 * f->line.beta, speed, 100.0 * f->line.error);
    }
}

static void print_predictions(FILE *out, const mnd_bench *b) {
    if (b->n_prediction == 0) return;
    fprintf(out, "\nExpected of more ranks (more of the same: %s)\n",
            b->nodes > 1 ? "nodes on this network" : "cores on this host");
    fprintf(out, "%-7s %6s %12s %9s %7s %10s  %s\n", "scaling", "ranks", "images/s", "speed-up",
            "effic.", "ms/step", "checked");
    for (int i = 0; i < b->n_prediction; i++) {
        const mnd_bench_prediction *p = &b->prediction[i];
        char checked[96] = "-";
        if (p->measured > 0.0)
            snprintf(checked, sizeof checked, "from 2 to %d ranks; measured %.0f: off by %+.1f%%",
                     p->from, p->measured, 100.0 * p->error);
        fprintf(out, "%-7s %6d %12.0f %9.2f %6.1f%% %10.3f  %s\n", p->weak ? "weak" : "strong",
                p->ranks, p->images_per_second, p->efficiency * p->ranks, 100.0 * p->efficiency,
                1e3 * p->seconds, checked);
    }
    if (b->prediction[0].measured <= 0.0)
        fprintf(out, "No prediction could be checked: that takes 3 ranks or more, with the same "
                     "exchange on fewer of them.\n");
    fprintf(out, "Formula: t(p) = w0 + w1 rows + o/p + alpha A(p) + beta C(p) n; A and C of\n"
                 "Thakur, Rabenseifner, Gropp, IJHPCA 19(1), 2005 (see docs/performance.md).\n");
}

void bench_print(FILE *out, const bench_about *about, const mnd_bench *b) {
    const mnd_bench_config *c = about->config;
    fprintf(out, "%s: %zu parameters, %s, %lld images %s%s\n", b->model, b->n_param,
            c->optimizer.ops->name, (long long)b->images,
            c->data != NULL ? "of " : "drawn in memory", c->data != NULL ? c->data : "");
    fprintf(
        out, "%d rank%s on %d host%s, %d thread%s each; %s; %s; median of %d turns of %d steps\n",
        b->ranks, b->ranks == 1 ? "" : "s", b->nodes, b->nodes == 1 ? "" : "s", b->threads,
        b->threads == 1 ? "" : "s", mnd_products_name(c->plain), about->mpi, b->repeats, b->steps);
    if (b->note[0] != '\0') fprintf(out, "Note: %s\n", b->note);
    print_rows(out, b, false);
    print_rows(out, b, true);
    fprintf(out, "textbook: train --textbook, that is OpenBLAS and MPI_Allreduce.\n");
    fprintf(out,
            "Efficiency: median over the turns of rate / (ranks * rate of one rank in the same "
            "turn).\n");
    print_messages(out, b);
    print_predictions(out, b);
}

/* ----------------------------------------------------------------------------------------- JSON */

static void json_text(FILE *out, const char *key, const char *text) {
    fprintf(out, "\"%s\":\"", key);
    for (const unsigned char *s = (const unsigned char *)text; *s != '\0'; s++) {
        if (*s == '"' || *s == '\\')
            fprintf(out, "\\%c", *s);
        else if (*s < 0x20)
            fprintf(out, "\\u%04x", *s);
        else
            fputc(*s < 0x80 ? *s : '?',
                  out); /* JSON must be UTF-8, but file names may be any bytes */
    }
    fputs("\",", out);
}

static void json_real(FILE *out, const char *key, double value) {
    if (key != NULL) fprintf(out, "\"%s\":", key);
    if (isfinite(value))
        fprintf(out, "%.9g", value);
    else
        fputs("null", out); /* JSON has no NaN or infinity */
    fputc(',', out);
}

static void json_int(FILE *out, const char *key, int64_t value) {
    fprintf(out, "\"%s\":%lld,", key, (long long)value);
}

static void json_row(FILE *out, const mnd_bench *b, const mnd_bench_row *r) {
    const mnd_time_split *t = &r->time;
    json_text(out, "scaling", r->weak ? "weak" : "strong");
    json_int(out, "ranks", r->ranks);
    json_int(out, "hosts", r->nodes);
    json_int(out, "batch_size", r->batch);
    json_text(out, "exchange", r->exchange);
    json_real(out, "images_per_second", r->images_per_second);
    json_real(out, "efficiency", r->efficiency);
    json_real(out, "step_seconds", r->seconds);
    fputs("\"time\":{", out);
    json_real(out, "data", t->data);
    json_real(out, "compute", t->compute);
    json_real(out, "exchange", t->exchange);
    json_real(out, "optimizer", t->optimizer);
    fprintf(out, "\"wait\":%.9g},", t->wait);
    json_real(out, "busy_seconds", r->busy);
    json_real(out, "busy_mean_seconds", r->busy_mean);
    json_int(out, "slowest_rank", r->slowest);
    json_text(out, "slowest_host", r->host);
    fputs("\"turns\":[", out);
    for (int i = 0; i < b->repeats; i++) fprintf(out, "%s%.9g", i > 0 ? "," : "", r->rate[i]);
    fputs("]", out);
}

static void json_rows(FILE *out, const mnd_bench *b) {
    fputs("\n\"rows\":[", out);
    for (int i = 0; i < b->n_row; i++) {
        fputs(i > 0 ? "},\n{" : "\n{", out);
        json_row(out, b, &b->row[i]);
    }
    fputs("}]", out);
}

static void json_messages(FILE *out, const mnd_bench *b) {
    fputs(",\n\"messages\":[", out);
    for (int i = 0; i < b->n_message; i++) {
        const mnd_bench_message *m = &b->message[i];
        fputs(i > 0 ? ",\n{" : "\n{", out);
        json_text(out, "exchange", m->way);
        json_int(out, "ranks", m->ranks);
        json_int(out, "hosts", m->nodes);
        json_int(out, "bytes", (int64_t)m->bytes);
        fprintf(out, "\"seconds\":%.9g}", m->seconds);
    }
    fputs("]", out);
}

static void json_fits(FILE *out, const mnd_bench *b) {
    fputs(",\n\"fits\":[", out);
    for (int i = 0; i < b->n_fit; i++) {
        const mnd_bench_fit *f = &b->fit[i];
        fputs(i > 0 ? ",\n{" : "\n{", out);
        json_text(out, "exchange", f->way);
        if (f->ranks > 0)
            json_int(out, "ranks", f->ranks);
        else
            fputs("\"ranks\":null,", out); /* over all numbers of ranks */
        json_real(out, "alpha", f->line.alpha);
        json_real(out, "beta", f->line.beta);
        json_real(out, "error", f->line.error);
        fprintf(out, "\"points\":%d}", f->line.points);
    }
    fputs("]", out);
}

static void json_predictions(FILE *out, const mnd_bench *b) {
    fputs(",\n\"predictions\":[", out);
    for (int i = 0; i < b->n_prediction; i++) {
        const mnd_bench_prediction *p = &b->prediction[i];
        fputs(i > 0 ? ",\n{" : "\n{", out);
        json_text(out, "scaling", p->weak ? "weak" : "strong");
        json_int(out, "ranks", p->ranks);
        json_int(out, "hosts", p->nodes);
        json_real(out, "images_per_second", p->images_per_second);
        json_real(out, "efficiency", p->efficiency);
        json_real(out, "step_seconds", p->seconds);
        json_int(out, "from_ranks", p->from);
        json_real(out, "measured", p->measured > 0.0 ? p->measured : (double)NAN);
        fputs("\"error\":", out);
        if (p->measured > 0.0)
            fprintf(out, "%.9g}", p->error);
        else
            fputs("null}", out);
    }
    fputs("]", out);
}

void bench_write_json(FILE *out, const bench_about *about, const mnd_bench *b) {
    const mnd_bench_config *c = about->config;
    fputs("{", out);
    json_text(out, "version", MND_VERSION);
    json_text(out, "mpi", about->mpi);
    json_text(out, "products", mnd_products_name(c->plain));
    json_text(out, "model", b->model);
    json_int(out, "n_param", (int64_t)b->n_param);
    json_text(out, "optimizer", c->optimizer.ops->name);
    json_text(out, "data", c->data != NULL ? c->data : "drawn");
    json_int(out, "images", b->images);
    json_int(out, "batch_size", b->batch_size);
    json_int(out, "ranks", b->ranks);
    json_int(out, "hosts", b->nodes);
    json_int(out, "threads", b->threads);
    json_int(out, "steps", b->steps);
    json_int(out, "repeats", b->repeats);
    json_text(out, "note", b->note);
    json_rows(out, b);
    fputs(",\n\"textbook\":{", out);
    json_row(out, b, &b->textbook);
    fputs("}", out);
    json_messages(out, b);
    json_fits(out, b);
    json_predictions(out, b);
    fprintf(out, ",\n\"rate_of_one\":%.9g}\n", one_process(b)->images_per_second);
}
