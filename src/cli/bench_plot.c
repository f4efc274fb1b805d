/* bench_plot.c - draws the measurements as an SVG picture with two log-log panels. */
#include <math.h>
#include <string.h>

#include "bench_report.h"

enum { WIDTH = 1000, HEIGHT = 460, PANEL = 380, TALL = 320, TOP = 60 };

/* The axes of a panel of PANEL by TALL pixels whose upper left corner is (left, TOP). */
typedef struct axes {
    double left;
    double x0, x1, y0, y1; /* log10 of the smallest and largest values */
} axes;

static double at_x(const axes *a, double x) {
    return a->left + PANEL * (log10(x) - a->x0) / (a->x1 - a->x0);
}

static double at_y(const axes *a, double y) {
    return TOP + TALL * (1.0 - (log10(y) - a->y0) / (a->y1 - a->y0));
}

/* Moves the ends of an axis a little outwards, so that they also differ. */
static void stretch(double *low, double *high) {
    const double more = 0.05 * (*high - *low) + 0.05;
    *low -= more;
    *high += more;
}

/* Extends the range of an axis to a value. */
static void widen(double *low, double *high, double value) {
    const double l = log10(value);
    if (l < *low) *low = l;
    if (l > *high) *high = l;
}

static void tick_x(FILE *out, const axes *a, double x, const char *text) {
    fprintf(out,
            "<path class=\"grid\" d=\"M%.1f %d V%d\"/><text x=\"%.1f\" y=\"%d\" "
            "text-anchor=\"middle\">%s</text>\n",
            at_x(a, x), TOP, TOP + TALL, at_x(a, x), TOP + TALL + 18, text);
}

static void tick_y(FILE *out, const axes *a, double y, const char *text) {
    fprintf(out,
            "<path class=\"grid\" d=\"M%.1f %.1f h%d\"/><text x=\"%.1f\" y=\"%.1f\" "
            "text-anchor=\"end\">%s</text>\n",
            a->left, at_y(a, y), PANEL, a->left - 6, at_y(a, y) + 4, text);
}

static void frame(FILE *out, const axes *a, const char *title, const char *x, const char *y) {
    fprintf(out,
            "<rect x=\"%.1f\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#444\"/>\n"
            "<text x=\"%.1f\" y=\"%d\" font-weight=\"bold\">%s</text>\n"
            "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n"
            "<text transform=\"translate(%.1f %d) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
            a->left, TOP, PANEL, TALL, a->left, TOP - 12, title, a->left + PANEL / 2.0,
            TOP + TALL + 38, x, a->left - 52, TOP + TALL / 2, y);
}

static void legend(FILE *out, const axes *a, int line, const char *color, const char *text) {
    const double y = TOP + 18.0 + 17.0 * line;
    fprintf(out,
            "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/><text x=\"%.1f\" "
            "y=\"%.1f\">%s</text>\n",
            a->left + 14, y - 4, color, a->left + 24, y, text);
}

static void dot(FILE *out, const axes *a, double x, double y, const char *color, bool hollow) {
    fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\" stroke=\"%s\"/>\n",
            at_x(a, x), at_y(a, y), hollow ? "#fff" : color, color);
}

static void draw_scaling(FILE *out, const mnd_bench *b) {
    static const char *const color[2] = {"#1f77b4", "#d95f02"};
    axes a = {.left = 80, .x0 = 0.0, .x1 = 0.0, .y0 = 0.0, .y1 = 0.0};
    int most = 1;
    for (int i = 0; i < b->n_row; i++) {
        if (b->row[i].ranks > most) most = b->row[i].ranks;
        widen(&a.y0, &a.y1, b->row[i].efficiency * b->row[i].ranks);
    }
    for (int i = 0; i < b->n_prediction; i++) {
        if (b->prediction[i].ranks > most) most = b->prediction[i].ranks;
        widen(&a.y0, &a.y1, b->prediction[i].efficiency * b->prediction[i].ranks);
    }
    widen(&a.x0, &a.x1, most);
    widen(&a.y0, &a.y1, most);
    stretch(&a.x0, &a.x1);
    stretch(&a.y0, &a.y1);
    char text[32];
    for (int k = -10; k <= 30; k++) {
        const double p = ldexp(1.0, k);
        if (p > most) break;
        snprintf(text, sizeof text, "%g", p);
        if (p >= 1.0) tick_x(out, &a, p, text);
        if (log10(p) > a.y0) tick_y(out, &a, p, text);
    }
    frame(out, &a, "Speed-up (hollow: predicted)", "ranks", "images/s over those of one rank");
    fprintf(out, "<path class=\"ideal\" d=\"M%.1f %.1f L%.1f %.1f\"/>\n", at_x(&a, 1), at_y(&a, 1),
            at_x(&a, most), at_y(&a, most));
    for (int weak = 0; weak < 2; weak++) {
        const char *go = "M";
        fprintf(out, "<path fill=\"none\" stroke=\"%s\" d=\"", color[weak]);
        for (int i = 0; i < b->n_row; i++, go = "L")
            if (b->row[i].weak == weak)
                fprintf(out, "%s%.1f %.1f ", b->row[i].ranks == 1 ? "M" : go,
                        at_x(&a, b->row[i].ranks),
                        at_y(&a, b->row[i].efficiency * b->row[i].ranks));
        fprintf(out, "\"/>\n");
        for (int i = 0; i < b->n_prediction; i++) {
            const mnd_bench_prediction *p = &b->prediction[i];
            if (p->weak == weak)
                dot(out, &a, p->ranks, p->efficiency * p->ranks, color[weak], true);
        }
        for (int i = 0; i < b->n_row; i++) {
            const mnd_bench_row *r = &b->row[i];
            if (r->weak == weak)
                dot(out, &a, r->ranks, r->efficiency * r->ranks, color[weak], false);
        }
        legend(out, &a, weak, color[weak], weak ? "weak" : "strong");
    }
}

static void draw_messages(FILE *out, const mnd_bench *b) {
    static const char *const color[] = {"#7570b3", "#1b9e77", "#e7298a", "#66a61e"};
    axes a = {.left = 570, .x0 = 99.0, .x1 = -99.0, .y0 = 99.0, .y1 = -99.0};
    double least = 0.0, most = 0.0;
    for (int i = 0; i < b->n_message; i++) {
        const mnd_bench_message *m = &b->message[i];
        if (m->ranks != b->ranks) continue;
        widen(&a.x0, &a.x1, (double)m->bytes);
        widen(&a.y0, &a.y1, 1e6 * m->seconds);
        if (least <= 0.0 || (double)m->bytes < least) least = (double)m->bytes;
        if ((double)m->bytes > most) most = (double)m->bytes;
    }
    if (most <= 0.0) return;
    stretch(&a.x0, &a.x1);
    stretch(&a.y0, &a.y1);
    char text[64];
    for (int k = 10; k < 40; k += 4) {
        const double x = ldexp(1.0, k);
        if (log10(x) < a.x0 || log10(x) > a.x1) continue;
        snprintf(text, sizeof text, x < 1048576.0 ? "%.0f KiB" : "%.0f MiB",
                 x < 1048576.0 ? x / 1024.0 : x / 1048576.0);
        tick_x(out, &a, x, text);
    }
    for (int k = -3; k < 12; k++) {
        const double y = pow(10.0, k);
        if (log10(y) < a.y0 || log10(y) > a.y1) continue;
        snprintf(text, sizeof text, "%g", y);
        tick_y(out, &a, y, text);
    }
    snprintf(text, sizeof text, "Exchange alone on %d ranks (lines: fit)", b->ranks);
    frame(out, &a, text, "bytes of gradient", "microseconds");
    int n = 0;
    for (int i = 0; i < b->n_fit && n < 4; i++) {
        const mnd_bench_fit *f = &b->fit[i];
        if (f->ranks != b->ranks) continue;
        fprintf(out, "<path fill=\"none\" stroke=\"%s\" d=\"", color[n]);
        for (int k = 0; k <= 40; k++) {
            const double x = least * pow(most / least, k / 40.0);
            double y = 1e6 * (f->line.alpha + f->line.beta * x);
            y = fmin(fmax(y, pow(10.0, a.y0)), pow(10.0, a.y1));
            fprintf(out, "%s%.1f %.1f ", k == 0 ? "M" : "L", at_x(&a, x), at_y(&a, y));
        }
        fprintf(out, "\"/>\n");
        for (int k = 0; k < b->n_message; k++) {
            const mnd_bench_message *m = &b->message[k];
            if (m->ranks == b->ranks && strcmp(m->way, f->way) == 0)
                dot(out, &a, (double)m->bytes, 1e6 * m->seconds, color[n], false);
        }
        legend(out, &a, n, color[n], bench_way(f->way));
        n++;
    }
}

void bench_write_svg(FILE *out, const mnd_bench *b) {
    fprintf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d "
        "%d\" font-family=\"sans-serif\" font-size=\"12\">\n"
        "<style>.grid{stroke:#ddd}.ideal{stroke:#999;stroke-dasharray:5 4}</style>\n"
        "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
        "<text x=\"80\" y=\"24\" font-size=\"14\">%s, batch %lld, %d thread%s per rank</text>\n",
        WIDTH, HEIGHT, WIDTH, HEIGHT, b->model, (long long)b->batch_size, b->threads,
        b->threads == 1 ? "" : "s");
    draw_scaling(out, b);
    draw_messages(out, b);
    fprintf(out, "</svg>\n");
}
