/*
 * picture_lines.c - removes ruled lines, squared paper and frames at the border: lines of a few
 * cells' width that run straight from one border to the other. The search for one line is dynamic
 * programming: the cheapest path from border to border, where paper costs most.
 */
#include <stdlib.h>
#include <string.h>

#include "mnist_dist/memory.h"
#include "picture_ink.h"

enum { MAX_LINES = 64, PAPER = 100, THICK = 12, BEND = 30, LIMIT = 10 };

/* The picture seen along the lines: `along` steps from border to border, `across` rows. */
typedef struct ruled {
    mnd_ink *o;
    bool upright;
    int along, across, thick; /* a line has at most `thick` cells across */
    uint8_t *mask;            /* (along, across) 1: ink, also of pale lines */
    uint16_t *run;            /* (along, across) cells of ink across that a cell is one of */
    int32_t *cost;            /* (along, across) of the cheapest path to the cell */
    int *path;                /* (along) the row */
} ruled;

static int cell(const ruled *r, int a, int c) {
    return r->upright ? a * r->o->width + c : c * r->o->width + a;
}

static void fill_mask(ruled *r) {
    const float pale = 0.12F;
    for (int a = 0; a < r->along; a++)
        for (int c = 0; c < r->across; c++) {
            const int i = cell(r, a, c);
            r->mask[a * r->across + c] =
                r->o->line[i] == 0 && mnd_ink_stretched(r->o, r->o->ink[i]) > pale;
        }
}

static void measure_runs(ruled *r) {
    for (int a = 0; a < r->along; a++) {
        const uint8_t *mask = r->mask + a * r->across;
        uint16_t *run = r->run + a * r->across;
        for (int c = 0, end; c < r->across; c = end) {
            for (end = c; end < r->across && mask[end] != 0; end++) {
            }
            for (int i = c; i < end; i++) run[i] = (uint16_t)(end - c);
            if (end == c) run[end++] = 0;
        }
    }
}

static int cost_of(const ruled *r, int i) {
    return r->mask[i] == 0 ? PAPER : r->run[i] > r->thick ? THICK : 0;
}

/* The cheapest path, in r->path; returns its cost. */
static int32_t search(ruled *r) {
    const int n = r->across;
    for (int c = 0; c < n; c++) r->cost[c] = cost_of(r, c);
    for (int a = 1; a < r->along; a++)
        for (int c = 0; c < n; c++) {
            const int32_t *before = r->cost + (a - 1) * n;
            int32_t best = before[c];
            if (c > 0 && before[c - 1] + BEND < best) best = before[c - 1] + BEND;
            if (c + 1 < n && before[c + 1] + BEND < best) best = before[c + 1] + BEND;
            r->cost[a * n + c] = best + cost_of(r, a * n + c);
        }
    const int32_t *last = r->cost + (r->along - 1) * n;
    int at = 0;
    for (int c = 1; c < n; c++) at = last[c] < last[at] ? c : at;
    const int32_t cost = last[at];
    for (int a = r->along - 1; a > 0; a--) {
        r->path[a] = at;
        const int32_t *before = r->cost + (a - 1) * n;
        const int32_t rest = r->cost[a * n + at] - cost_of(r, a * n + at);
        if (before[at] == rest) continue;
        at = at > 0 && before[at - 1] + BEND == rest ? at - 1 : at + 1;
    }
    r->path[0] = at;
    return cost;
}

/* Whether the path is a straight line from border to border; *width becomes its median width. */
static bool is_line(const ruled *r, int *width) {
    const int n = r->along, end = n / 32 + 2;
    int first = 0, last = n - 1, thin = 0;
    int64_t *count = NULL;
    void *memory;
    while (first < n && r->mask[first * r->across + r->path[first]] == 0) first++;
    while (last > 0 && r->mask[last * r->across + r->path[last]] == 0) last--;
    if (first > end || last < n - 1 - end) return false;
    const double slope = (double)(r->path[last] - r->path[first]) / (last - first);
    if (slope > 0.15 || slope < -0.15) return false;
    if (mnd_alloc(&memory, (size_t)r->thick + 1, sizeof *count, "line widths") != MND_OK)
        return false;
    count = memory;
    bool straight = true;
    for (int a = first; a <= last; a++) {
        const double off = r->path[first] + slope * (a - first) - r->path[a];
        straight = straight && off * 32 < n + 64 && off * 32 > -n - 64;
        const int run = r->run[a * r->across + r->path[a]];
        if (run == 0 || run > r->thick) continue;
        count[run]++;
        thin++;
    }
    int64_t seen = 0;
    for (*width = 0; *width < r->thick && 2 * seen < thin; seen += count[*width]) ++*width;
    mnd_free(count);
    return straight && 2 * thin > n;
}

/* Removes the line, but not the strokes that cross it. Returns the number of removed cells. */
static int erase(ruled *r, int width) {
    int erased = 0;
    for (int a = 0; a < r->along; a++) {
        const int row = a * r->across;
        int c = r->path[a];
        if (r->mask[row + c] == 0 || r->run[row + c] > 2 * width + 1) continue;
        while (c > 0 && r->mask[row + c - 1] != 0) c--;
        for (; c < r->across && r->mask[row + c] != 0; c++, erased++) {
            r->mask[row + c] = 0;
            r->run[row + c] = 0;
            r->o->line[cell(r, a, c)] = 1;
        }
    }
    return erased;
}

/* Light that falls off towards the border leaves a pale line there: it was not drawn. */
static bool is_drawn(const ruled *r) {
    const int rim = r->across / 24 + 1;
    float sum = 0;
    for (int a = 0; a < r->along; a++) {
        if (r->path[a] >= rim && r->path[a] < r->across - rim) return true;
        sum += mnd_ink_stretched(r->o, r->o->ink[cell(r, a, r->path[a])]);
    }
    return sum > 0.4F * (float)r->along;
}

static mnd_status remove_direction(mnd_ink *o, bool upright) {
    mnd_status status = MND_OK;
    ruled r = {.o = o,
               .upright = upright,
               .along = upright ? o->height : o->width,
               .across = upright ? o->width : o->height};
    const size_t n = (size_t)r.along * (size_t)r.across;
    r.thick = r.across / 20 + 2;
    MND_NEW(r.mask, n, "the search for lines");
    MND_NEW(r.run, n, "the search for lines");
    MND_NEW(r.cost, n, "the search for lines");
    MND_NEW(r.path, (size_t)r.along, "the search for lines");
    fill_mask(&r);
    measure_runs(&r);
    for (int i = 0; i < MAX_LINES; i++) {
        int width;
        if (search(&r) > LIMIT * r.along || !is_line(&r, &width) || erase(&r, width) == 0) break;
        o->lines += is_drawn(&r);
        o->lined = true;
    }
cleanup:
    mnd_free(r.mask);
    mnd_free(r.run);
    mnd_free(r.cost);
    mnd_free(r.path);
    return status;
}

mnd_status mnd_ink_remove_lines(mnd_ink *o) {
    enum { SMALLEST = 40 }; /* in a smaller picture a line is not told from a stroke */
    mnd_status status = MND_OK;
    if (o->height < SMALLEST || o->width < SMALLEST) return MND_OK;
    MND_TRY(remove_direction(o, false));
    MND_TRY(remove_direction(o, true));
    for (int i = 0; i < o->height * o->width; i++)
        if (o->line[i] != 0) o->ink[i] = 0;
cleanup:
    return status;
}
