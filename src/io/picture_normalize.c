/*
 * picture_normalize.c - brings the digits of a picture into the form of the training images.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "mnist_dist/memory.h"
#include "picture_ink.h"

typedef struct box {
    int y0, x0, y1, x1; /* y1 and x1 are exclusive */
} box;

/* A digit to be brought into form: all of them if `digit` is 0. */
typedef struct subject {
    const mnd_ink *ink;
    int digit;
    box from;  /* in the full picture */
    float pen; /* mean width of the strokes, in pixels of the full picture */
} subject;

static bool is_owner(const subject *s, int cell) {
    const int owner = s->ink->owner[cell];
    return s->digit == 0 ? owner != 0 : owner == s->digit;
}

/* The ink of a pixel of the full picture, 0 to 1; none outside the digit. */
static float ink_at(const subject *s, int y, int x) {
    const mnd_ink *o = s->ink;
    const int cell = y / o->factor * o->width + x / o->factor;
    if (!is_owner(s, cell)) return 0.0F;
    const int grey = o->in->pixel[(size_t)y * (size_t)o->in->width + (size_t)x];
    return mnd_ink_stretched(o, mnd_ink_of(o->dark, o->paper[cell], grey));
}

/* Whether a cell belongs to the digit; cells outside the picture do not. */
static bool is_inked(const subject *s, int y, int x) {
    if (y < 0 || x < 0) return false;
    const int cell = y * s->ink->width + x;
    return is_owner(s, cell) && mnd_ink_stretched(s->ink, s->ink->ink[cell]) >= 0.5F;
}

/* Finds the bounding box and the width of the pen. */
static void find_box(subject *s) {
    const mnd_ink *o = s->ink;
    const mnd_picture *in = o->in;
    box cells = {o->height, o->width, 0, 0};
    int64_t area = 0, edge = 0;
    for (int y = 0; y < o->height; y++)
        for (int x = 0; x < o->width; x++) {
            const bool inked = is_inked(s, y, x);
            area += inked;
            edge += inked != is_inked(s, y - 1, x);
            edge += inked != is_inked(s, y, x - 1);
            if (!is_owner(s, y * o->width + x)) continue;
            if (y < cells.y0) cells.y0 = y;
            if (x < cells.x0) cells.x0 = x;
            if (y >= cells.y1) cells.y1 = y + 1;
            if (x >= cells.x1) cells.x1 = x + 1;
        }
    /* A stroke of length L and width w has the area w L and two edges of length L. An edge measured
     * along the axes is 4/pi times its true length in the mean over all directions. */
    s->pen = (float)o->factor;
    if (edge > 0) s->pen *= 2.0F * (float)area / ((float)edge * 0.7853982F);

    /* The same in pixels. */
    box fine = {in->height, in->width, 0, 0};
    const int f = o->factor;
    for (int y = cells.y0 * f; y < in->height && y < cells.y1 * f; y++)
        for (int x = cells.x0 * f; x < in->width && x < cells.x1 * f; x++) {
            if (ink_at(s, y, x) < 0.25F) continue;
            if (y < fine.y0) fine.y0 = y;
            if (x < fine.x0) fine.x0 = x;
            if (y >= fine.y1) fine.y1 = y + 1;
            if (x >= fine.x1) fine.x1 = x + 1;
        }
    s->from = fine;
}

/* The mean ink of a rectangle with fractional corners; outside the picture there is no ink. */
static float mean_ink(const subject *s, float y0, float x0, float y1, float x1) {
    const mnd_picture *in = s->ink->in;
    const int top = y0 < 0.0F ? 0 : (int)y0, left = x0 < 0.0F ? 0 : (int)x0;
    double sum = 0;
    for (int y = top; y < in->height && (float)y < y1; y++) {
        const float wy = fminf((float)y + 1.0F, y1) - fmaxf((float)y, y0);
        for (int x = left; x < in->width && (float)x < x1; x++) {
            const float wx = fminf((float)x + 1.0F, x1) - fmaxf((float)x, x0);
            sum += (double)(wy * wx * ink_at(s, y, x));
        }
    }
    return (float)(sum / (double)((y1 - y0) * (x1 - x0)));
}

/* The grey value of ink from 0 to 1. */
static uint8_t grey_of(const mnd_picture_form *form, float ink) {
    return (uint8_t)lrint(form->background + (double)ink * (form->ink - form->background));
}

/* Shifts a plane by whole pixels so that its centre of mass, or its box, is in the middle. */
static void centre(const float *plane, const mnd_picture_target *t, uint8_t *out) {
    const int height = t->height, width = t->width;
    double mass = 0, my = 0, mx = 0;
    box ink = {height, width, 0, 0};
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const float v = plane[y * width + x];
            mass += (double)v;
            my += (double)v * (y + 0.5);
            mx += (double)v * (x + 0.5);
            if (v < 0.1F) continue;
            if (y < ink.y0) ink.y0 = y;
            if (x < ink.x0) ink.x0 = x;
            if (y >= ink.y1) ink.y1 = y + 1;
            if (x >= ink.x1) ink.x1 = x + 1;
        }
    memset(out, grey_of(&t->form, 0.0F), (size_t)height * (size_t)width);
    if (mass <= 0) return;
    my = t->form.by_mass > 0.0 ? my / mass : 0.5 * (ink.y0 + ink.y1);
    mx = t->form.by_mass > 0.0 ? mx / mass : 0.5 * (ink.x0 + ink.x1);
    int dy = (int)lrint(0.5 * height - my), dx = (int)lrint(0.5 * width - mx);
    /* Only ink fainter than 0.1 may be shifted out of the picture. */
    if (dy < -ink.y0) dy = -ink.y0;
    if (dy > height - ink.y1) dy = height - ink.y1;
    if (dx < -ink.x0) dx = -ink.x0;
    if (dx > width - ink.x1) dx = width - ink.x1;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const int from_y = y - dy, from_x = x - dx;
            if (from_y < 0 || from_y >= height || from_x < 0 || from_x >= width) continue;
            out[y * width + x] = grey_of(&t->form, plane[from_y * width + from_x]);
        }
}

/* Scales the digit into the middle of `plane`, (height, width). */
static void scale_into(const subject *s, const mnd_picture_target *t, float *plane) {
    const int height = t->height, width = t->width;
    const float extent = (float)t->form.extent;
    const box from = s->from;
    const float ih = (float)(from.y1 - from.y0), iw = (float)(from.x1 - from.x0);
    const float bh = (float)height * extent, bw = (float)width * extent;
    const float shrink = fmaxf(ih / bh, iw / bw); /* source pixels per target pixel */
    /* Very thin lines would almost vanish: they are blurred to the width of a thin pen. The
     * division by the largest value below then restores full ink. */
    const float thin = 1.2F - s->pen / shrink;
    const float blur = thin < 0.0F ? 1.0F : thin < 1.0F ? 1.0F + thin : 2.0F;
    /* At least one source pixel wide: when enlarging, this is linear interpolation. */
    const float half = 0.5F * fmaxf(blur * shrink, 1.0F);
    const int top = (int)(0.5F * ((float)height - ih / shrink));
    const int left = (int)(0.5F * ((float)width - iw / shrink));
    float most = 0.0F;
    /* Two pixels around the box are enough: there is no ink beyond. */
    const int bottom = top + (int)ceilf(ih / shrink), right = left + (int)ceilf(iw / shrink);
    for (int y = top > 2 ? top - 2 : 0; y < bottom + 2 && y < height; y++)
        for (int x = left > 2 ? left - 2 : 0; x < right + 2 && x < width; x++) {
            const float cy = (float)from.y0 + ((float)(y - top) + 0.5F) * shrink;
            const float cx = (float)from.x0 + ((float)(x - left) + 0.5F) * shrink;
            const float v = mean_ink(s, cy - half, cx - half, cy + half, cx + half);
            plane[y * width + x] = v;
            most = fmaxf(most, v);
        }
    for (int i = 0; i < height * width && most > 0.0F; i++) plane[i] /= most;
}

/* The whole picture, scaled to fill the frame: for networks of images without a background. */
static void fill_frame(const mnd_picture *in, const mnd_picture_target *t, uint8_t *out) {
    const double shrink = fmin((double)in->height / t->height, (double)in->width / t->width);
    const double top = 0.5 * (in->height - shrink * t->height);
    const double left = 0.5 * (in->width - shrink * t->width);
    for (int y = 0; y < t->height; y++)
        for (int x = 0; x < t->width; x++) {
            const int y0 = (int)(top + y * shrink), x0 = (int)(left + x * shrink);
            int y1 = (int)(top + (y + 1) * shrink), x1 = (int)(left + (x + 1) * shrink);
            y1 = y1 > y0 ? y1 : y0 + 1; /* when enlarging */
            x1 = x1 > x0 ? x1 : x0 + 1;
            int64_t sum = 0, n = 0;
            for (int i = y0; i < y1 && i < in->height; i++)
                for (int j = x0; j < x1 && j < in->width; j++, n++)
                    sum += in->pixel[(size_t)i * (size_t)in->width + (size_t)j];
            out[y * t->width + x] = (uint8_t)(n > 0 ? (sum + n / 2) / n : 0);
        }
}

/* What was done, in words. */
static void describe(const mnd_ink *o, const mnd_picture_target *t, mnd_picture_images *out) {
    char lines[40] = "";
    if (o->lines > 0)
        snprintf(lines, sizeof lines, ", %d ruled line%s removed", o->lines,
                 o->lines == 1 ? "" : "s");
    snprintf(out->done, sizeof out->done, "%s ink on %s%s%s%s%s%s, cropped, scaled, centred%s",
             o->dark ? "dark" : "light", o->dark ? "light" : "dark",
             o->levelled ? ", uneven background levelled" : "", lines,
             o->frame ? ", a frame removed" : "",
             o->border ? ", what touches the border removed" : "",
             o->specks ? ", specks removed" : "",
             o->dark == (t->form.ink < t->form.background) ? "" : ", inverted");
}

/*
 * Whether a picture of exactly the target's size is one of the kind that the network knows. It is,
 * unless all training images have a background of one grey and this picture has another.
 */
static bool is_ready(const mnd_picture *in, const mnd_picture_target *t) {
    double part;
    if (in->height != t->height || in->width != t->width) return false;
    const int border =
        mnd_picture_border(in->pixel, in->height, in->width, t->form.background, &part);
    return t->form.uniform < 1.0 || fabs(border - t->form.background) <= 64.0;
}

/* Whether it is one with light and dark exchanged; then it is inverted. */
static bool is_inverse(const mnd_picture *in, const mnd_picture_target *t) {
    double part;
    if (in->height != t->height || in->width != t->width) return false;
    (void)mnd_picture_border(in->pixel, in->height, in->width, 255.0 - t->form.background, &part);
    return part >= 0.9;
}

static mnd_status allocate(mnd_picture_images *out, const mnd_picture_target *t, int n) {
    mnd_status status = MND_OK;
    MND_NEW(out->pixel, (size_t)n * (size_t)t->height * (size_t)t->width, "the small pictures");
    out->n = n;
cleanup:
    return status;
}

static mnd_status take_digits(const mnd_picture *in, const mnd_picture_target *t,
                              mnd_picture_images *out) {
    mnd_status status = MND_OK;
    mnd_ink ink = {0};
    float *plane = NULL;
    const size_t size = (size_t)t->height * (size_t)t->width;
    MND_TRY(mnd_ink_find(in, &ink));
    out->digits = ink.n_digit;
    MND_TRY(allocate(out, t, t->split ? ink.n_digit : 1));
    MND_NEW(plane, size, "the small picture");
    for (int i = 0; i < out->n; i++) {
        subject s = {.ink = &ink, .digit = t->split ? i + 1 : 0};
        memset(plane, 0, size * sizeof *plane);
        find_box(&s);
        scale_into(&s, t, plane);
        centre(plane, t, out->pixel + (size_t)i * size);
    }
    describe(&ink, t, out);
cleanup:
    mnd_free(plane);
    mnd_ink_free(&ink);
    return status;
}

mnd_status mnd_picture_prepare(const mnd_picture *in, const mnd_picture_target *t,
                               mnd_picture_images *out) {
    mnd_status status = MND_OK;
    const size_t size = (size_t)t->height * (size_t)t->width;
    *out = (mnd_picture_images){.digits = 1};
    const bool fits = in->height == t->height && in->width == t->width;
    const bool ready = fits && (t->as_is || is_ready(in, t)), inverse = is_inverse(in, t);
    const bool no_ink = t->form.ink == t->form.background;
    if (!ready && !inverse && !no_ink && !t->as_is) {
        MND_TRY(take_digits(in, t, out));
        goto cleanup;
    }
    MND_TRY(allocate(out, t, 1));
    if (ready || inverse) {
        for (size_t i = 0; i < size; i++)
            out->pixel[i] = (uint8_t)(ready ? in->pixel[i] : 255 - in->pixel[i]);
    } else {
        fill_frame(in, t, out->pixel);
    }
    snprintf(out->done, sizeof out->done, "%s",
             ready     ? "taken as it is"
             : inverse ? "light and dark exchanged, as the training images have them"
                       : "the whole picture, scaled");
cleanup:
    if (status != MND_OK) mnd_picture_images_free(out);
    return status;
}

void mnd_picture_images_free(mnd_picture_images *images) {
    mnd_free(images->pixel);
    *images = (mnd_picture_images){0};
}

mnd_status mnd_picture_normalize(const mnd_picture *in, int height, int width, uint8_t *out) {
    const mnd_picture_target target = {.height = height, .width = width, .form = mnd_picture_mnist};
    mnd_picture_images images;
    const mnd_status status = mnd_picture_prepare(in, &target, &images);
    if (status != MND_OK) return status;
    memcpy(out, images.pixel, (size_t)height * (size_t)width);
    mnd_picture_images_free(&images);
    return MND_OK;
}
