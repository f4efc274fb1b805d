/*
 * picture_ink.c - the strokes of digits among connected components of ink: not what touches the
 * border (a frame, the edge of a table), not specks, not pale marks.
 */
#include "picture_ink.h"

#include <stdlib.h>
#include <string.h>

#include "mnist_dist/memory.h"

enum {
    OVERVIEW = 512, /* longest side of the reduced picture */
    SPECK = 20,     /* a blot smaller than 1/SPECK of the largest one is a speck of dirt */
    MAX_DIGITS = MND_PICTURE_DIGITS
};

/* A cell with less is no part of a blot. */
static const float least_ink = 0.25F;

static int smaller_side(const mnd_ink *o) { return o->height < o->width ? o->height : o->width; }

static int longer_side(const mnd_blot *b) {
    const int h = b->y1 - b->y0, w = b->x1 - b->x0;
    return h > w ? h : w;
}

/* --- connected components --------------------------------------------------------------------- */

/* Flood fill from `start`, with 8 neighbours. */
static void fill(mnd_ink *o, int start) {
    mnd_blot b = {.y0 = o->height, .x0 = o->width};
    int top = 0;
    o->stack[top++] = start;
    o->label[start] = o->n_blot + 1;
    while (top > 0) {
        const int at = o->stack[--top], y = at / o->width, x = at % o->width;
        b.area++;
        b.mass += mnd_ink_stretched(o, o->ink[at]);
        b.contact += y == 0 || x == 0 || y == o->height - 1 || x == o->width - 1;
        b.y0 = y < b.y0 ? y : b.y0;
        b.x0 = x < b.x0 ? x : b.x0;
        b.y1 = y >= b.y1 ? y + 1 : b.y1;
        b.x1 = x >= b.x1 ? x + 1 : b.x1;
        for (int i = y > 0 ? y - 1 : 0; i <= y + 1 && i < o->height; i++)
            for (int j = x > 0 ? x - 1 : 0; j <= x + 1 && j < o->width; j++) {
                const int next = i * o->width + j;
                if (o->label[next] != 0 || mnd_ink_stretched(o, o->ink[next]) < least_ink) continue;
                o->label[next] = o->n_blot + 1;
                o->stack[top++] = next;
            }
    }
    o->blot[o->n_blot++] = b;
}

static void find_blots(mnd_ink *o) {
    const int n = o->height * o->width;
    memset(o->label, 0, (size_t)n * sizeof *o->label);
    o->n_blot = 0;
    for (int i = 0; i < n; i++)
        if (o->label[i] == 0 && mnd_ink_stretched(o, o->ink[i]) >= least_ink) fill(o, i);
}

/* --- which of them are strokes ---------------------------------------------------------------- */

/* Whether blot k is a frame: large, nearly all of it at the sides of its own bounding box. */
static bool is_frame(const mnd_ink *o, int k) {
    const mnd_blot *b = &o->blot[k];
    const int h = b->y1 - b->y0, w = b->x1 - b->x0;
    if (5 * h < 3 * o->height || 5 * w < 3 * o->width) return false;
    const int band = 3 + (h < w ? h : w) / 12;
    int32_t outside = 0;
    for (int y = b->y0; y < b->y1; y++)
        for (int x = b->x0; x < b->x1; x++)
            outside +=
                o->label[y * o->width + x] == k + 1 &&
                (y < b->y0 + band || y >= b->y1 - band || x < b->x0 + band || x >= b->x1 - band);
    return 10 * outside >= 8 * b->area;
}

/* The blot with most ink among those that touch the border, or among the others; or -1. */
static int heaviest(const mnd_ink *o, bool at_border, const bool *out) {
    int best = -1;
    for (int k = 0; k < o->n_blot; k++)
        if (!out[k] && (o->blot[k].contact > 0) == at_border &&
            (best < 0 || o->blot[k].mass > o->blot[best].mass))
            best = k;
    return best;
}

/*
 * Whether a blot at the border may be part of a digit of which `main` is the heaviest part that
 * does not touch the border: the picture was cropped closely.
 */
static bool may_belong(const mnd_ink *o, const mnd_blot *b, const mnd_blot *main) {
    if (4 * b->contact >= smaller_side(o)) return false;
    return b->area > 2 * main->area && b->x0 < main->x1 && main->x0 < b->x1;
}

/* Marks in out[] what is no stroke. False if nothing remains. */
static bool drop(mnd_ink *o, bool *out) {
    const int side = smaller_side(o);
    int n_large = 0;
    for (int k = 0; k < o->n_blot; k++) n_large += 5 * longer_side(&o->blot[k]) >= side;
    for (int k = 0; k < o->n_blot && n_large > 1; k++)
        if (is_frame(o, k)) {
            out[k] = o->frame = true;
            n_large--;
        }
    int main = heaviest(o, false, out);
    const bool inside = main >= 0 && 5 * longer_side(&o->blot[main]) >= side;
    for (int k = 0; k < o->n_blot; k++) {
        if (out[k] || o->blot[k].contact == 0 || !inside) continue;
        if (may_belong(o, &o->blot[k], &o->blot[main])) continue;
        out[k] = true;
        /* Worth a word, unless it is a trace of light that falls off towards the border. */
        o->border = o->border || o->blot[k].mass > 0.5F * (float)o->blot[k].area;
    }
    if (!inside) {
        main = heaviest(o, true, out);
        if (main < 0) main = heaviest(o, false, out);
    }
    if (main < 0) return false;
    const mnd_blot *m = &o->blot[main];
    for (int k = 0; k < o->n_blot; k++) {
        const mnd_blot *b = &o->blot[k];
        if (out[k] || k == main) continue;
        const bool pale = b->mass * (float)m->area < 0.45F * m->mass * (float)b->area;
        if (b->area * SPECK >= m->area && !pale) continue;
        out[k] = true;
        o->specks = o->specks || b->area > 4;
    }
    return true;
}

/* --- digits ----------------------------------------------------------------------------------- */

static bool same_digit(const mnd_blot *a, const mnd_blot *b) {
    const int overlap = (a->x1 < b->x1 ? a->x1 : b->x1) - (a->x0 > b->x0 ? a->x0 : b->x0);
    const int gap = (a->y0 > b->y0 ? a->y0 : b->y0) - (a->y1 < b->y1 ? a->y1 : b->y1);
    const int wa = a->x1 - a->x0, wb = b->x1 - b->x0;
    const int ha = a->y1 - a->y0, hb = b->y1 - b->y0;
    /* A bar above its body, or the two halves of a stroke that the pen left. */
    return 5 * overlap > 2 * (wa < wb ? wa : wb) && 3 * gap < (ha > hb ? ha : hb);
}

static void join(mnd_blot *a, const mnd_blot *b) {
    a->y0 = b->y0 < a->y0 ? b->y0 : a->y0;
    a->x0 = b->x0 < a->x0 ? b->x0 : a->x0;
    a->y1 = b->y1 > a->y1 ? b->y1 : a->y1;
    a->x1 = b->x1 > a->x1 ? b->x1 : a->x1;
    a->area += b->area;
}

/* What is small beside the tallest digit is a stroke of its nearest neighbour. */
static int nearest(const mnd_blot *group, int n, int k, int tallest) {
    int best = -1, least = 0;
    const int middle = group[k].x0 + group[k].x1;
    for (int i = 0; i < n; i++) {
        if (i == k || 2 * (group[i].y1 - group[i].y0) < tallest) continue;
        const int apart = abs(group[i].x0 + group[i].x1 - middle);
        if (best < 0 || apart < least) {
            best = i;
            least = apart;
        }
    }
    return best;
}

/* Merges group b into group a < b and closes the gap. */
static void merge(mnd_ink *o, mnd_blot *group, int *n, int a, int b) {
    join(&group[a], &group[b]);
    for (int k = 0; k < o->n_blot; k++) {
        if (o->blot[k].digit == b + 1) o->blot[k].digit = a + 1;
        if (o->blot[k].digit > b + 1) o->blot[k].digit--;
    }
    memmove(group + b, group + b + 1, (size_t)(*n - b - 1) * sizeof *group);
    --*n;
}

/* Numbers the digits from left to right, in blot[].digit. */
static void group_blots(mnd_ink *o, const bool *out) {
    mnd_blot group[MAX_DIGITS];
    int n = 0, tallest = 0;
    for (int k = 0; k < o->n_blot; k++) {
        o->blot[k].digit = 0;
        if (out[k] || n == MAX_DIGITS) continue;
        group[n] = o->blot[k];
        o->blot[k].digit = ++n;
    }
    for (int a = 0; a < n; a++)
        for (int b = a + 1; b < n; b++)
            if (same_digit(&group[a], &group[b])) {
                merge(o, group, &n, a, b);
                b = a; /* what did not fit before may fit now */
            }
    for (int a = 0; a < n; a++)
        if (group[a].y1 - group[a].y0 > tallest) tallest = group[a].y1 - group[a].y0;
    for (int k = n - 1; k >= 0; k--) {
        if (2 * (group[k].y1 - group[k].y0) >= tallest) continue;
        const int to = nearest(group, n, k, tallest);
        if (to >= 0) merge(o, group, &n, to < k ? to : k, to < k ? k : to);
    }
    int order[MAX_DIGITS];
    for (int a = 0; a < n; a++) {
        order[a] = 1;
        for (int b = 0; b < n; b++)
            order[a] += group[b].x0 < group[a].x0 || (group[b].x0 == group[a].x0 && b < a);
    }
    for (int k = 0; k < o->n_blot; k++)
        if (o->blot[k].digit > 0) o->blot[k].digit = order[o->blot[k].digit - 1];
    o->n_digit = n;
}

/* Cells of the digits, and those around them, where the strokes fade into the paper. */
static void spread(mnd_ink *o) {
    const int n = o->height * o->width;
    int64_t area = 0, edge = 0;
    int end = 0;
    memset(o->owner, 0, (size_t)n);
    for (int i = 0; i < n; i++) {
        if (o->label[i] == 0 || o->blot[o->label[i] - 1].digit == 0) continue;
        o->owner[i] = (uint8_t)o->blot[o->label[i] - 1].digit;
        o->stack[end++] = i;
        area++;
        edge += i % o->width == 0 || o->label[i - 1] == 0;
        edge += i < o->width || o->label[i - o->width] == 0;
    }
    /* As in find_box of picture_normalize.c: 0.6 of the strokes' width. */
    const int radius = 2 + (edge > 0 ? (int)(0.75 * (double)area / (double)edge) : 0);
    int begin = 0;
    for (int step = 0; step < radius; step++)
        for (const int stop = end; begin < stop; begin++) {
            const int at = o->stack[begin], y = at / o->width, x = at % o->width;
            const int next[4] = {y > 0 ? at - o->width : at, y + 1 < o->height ? at + o->width : at,
                                 x > 0 ? at - 1 : at, x + 1 < o->width ? at + 1 : at};
            for (int k = 0; k < 4; k++) {
                if (o->owner[next[k]] != 0 || o->label[next[k]] != 0 || o->line[next[k]] != 0)
                    continue;
                o->owner[next[k]] = o->owner[at];
                o->stack[end++] = next[k];
            }
        }
}

/* Blots, and what of them is no stroke. */
static mnd_status select_blots(mnd_ink *o, bool **out, bool *found) {
    find_blots(o);
    mnd_free(*out);
    *out = NULL;
    void *memory;
    const mnd_status status = mnd_alloc(&memory, (size_t)o->n_blot + 1, 1, "the blots");
    if (status != MND_OK) return status;
    *out = memory;
    *found = drop(o, *out);
    return MND_OK;
}

/* Whether lines were digits: what is left is small. */
static bool too_little(const mnd_ink *o, const bool *out) {
    int longest = 0;
    for (int k = 0; k < o->n_blot; k++)
        if (!out[k] && longer_side(&o->blot[k]) > longest) longest = longer_side(&o->blot[k]);
    return 5 * longest < smaller_side(o);
}

/* Whether the largest blot is no digit, but something at the border that may cover one. */
static bool is_covered(const mnd_ink *o, const bool *out) {
    const int side = smaller_side(o), main = heaviest(o, true, out);
    for (int k = 0; k < o->n_blot; k++)
        if (!out[k] && o->blot[k].contact == 0 && 5 * longer_side(&o->blot[k]) >= side)
            return false;
    if (main < 0) return false;
    /* A digit that was cropped closely fills the picture and touches it here and there. */
    const mnd_blot *m = &o->blot[main];
    if (10 * (m->y1 - m->y0) >= 9 * o->height && 10 * (m->x1 - m->x0) >= 9 * o->width &&
        3 * m->contact < 2 * (o->height + o->width))
        return false;
    return 4 * m->contact >= side;
}

/* A shadow may lie across the digit, paler than its ink: the limit is raised. */
static mnd_status uncover(mnd_ink *o, bool **out, bool *found) {
    const float low = o->low, high = o->high;
    mnd_status status = MND_OK;
    for (int i = 0; i < 2 && status == MND_OK && is_covered(o, *out); i++) {
        mnd_ink_raise(o, heaviest(o, true, *out) + 1);
        status = select_blots(o, out, found);
    }
    if (status != MND_OK || o->low <= low) return status;
    if (*found && !is_covered(o, *out)) {
        o->levelled = true;
        return MND_OK;
    }
    o->low = low;
    o->high = high;
    return select_blots(o, out, found);
}

/* *sure: what was found resembles a digit. */
static mnd_status find_digits(mnd_ink *o, mnd_guess guess, bool *sure) {
    mnd_status status = MND_OK;
    const int n = o->height * o->width;
    bool *out = NULL, found = false;
    *sure = false;
    o->lines = 0;
    o->lined = o->frame = o->border = o->specks = false;
    memset(o->line, 0, (size_t)n);
    MND_TRY(mnd_ink_separate(o, guess));
    MND_TRY(mnd_ink_remove_lines(o));
    MND_TRY(select_blots(o, &out, &found));
    if (o->lined && (!found || too_little(o, out))) {
        memset(o->line, 0, (size_t)n);
        o->lines = 0;
        o->lined = o->frame = o->border = o->specks = false;
        for (int i = 0; i < n; i++)
            o->ink[i] = (uint8_t)mnd_ink_of(o->dark, o->paper[i], o->grey[i]);
        MND_TRY(select_blots(o, &out, &found));
    }
    MND_TRY(uncover(o, &out, &found));
    if (!o->levelled && (o->border || o->frame || o->lined)) {
        /* The contrast of the digit alone: a table's edge has another. */
        for (int i = 0; i < n; i++)
            o->owner[i] = o->line[i] == 0 && (o->label[i] == 0 || !out[o->label[i] - 1]);
        mnd_ink_contrast(o, o->owner);
        MND_TRY(select_blots(o, &out, &found));
    }
    if (!found)
        MND_FAIL(MND_FORMAT, "the picture is empty: nothing stands out from its background");
    *sure = !is_covered(o, out);
    group_blots(o, out);
    spread(o);
cleanup:
    mnd_free(out);
    return status;
}

mnd_status mnd_ink_find(const mnd_picture *in, mnd_ink *o) {
    mnd_status status = MND_OK;
    *o = (mnd_ink){.in = in};
    const int longer = in->height > in->width ? in->height : in->width;
    o->factor = (longer + OVERVIEW - 1) / OVERVIEW;
    o->height = (in->height + o->factor - 1) / o->factor;
    o->width = (in->width + o->factor - 1) / o->factor;
    const size_t n = (size_t)o->height * (size_t)o->width;
    MND_NEW(o->grey, n, "the reduced picture");
    MND_NEW(o->paper, n, "the reduced picture");
    MND_NEW(o->ink, n, "the reduced picture");
    MND_NEW(o->line, n, "the reduced picture");
    MND_NEW(o->owner, n, "the reduced picture");
    MND_NEW(o->label, n, "the reduced picture");
    MND_NEW(o->stack, n, "the search for ink");
    MND_NEW(o->blot, (n + 1) / 2 + 1, "the blots");
    bool sure = false;
    for (int guess = MND_GUESS_FIRST; guess <= MND_GUESS_OPPOSITE && !sure; guess++)
        MND_TRY(find_digits(o, (mnd_guess)guess, &sure));
    if (!sure) MND_TRY(find_digits(o, MND_GUESS_FIRST, &sure));
cleanup:
    return status;
}

void mnd_ink_free(mnd_ink *o) {
    mnd_free(o->grey);
    mnd_free(o->paper);
    mnd_free(o->ink);
    mnd_free(o->line);
    mnd_free(o->owner);
    mnd_free(o->label);
    mnd_free(o->stack);
    mnd_free(o->blot);
    *o = (mnd_ink){0};
}
