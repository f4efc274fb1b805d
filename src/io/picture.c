#include "mnist_dist/picture.h"

#include <errno.h>
#include <math.h>
#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "mnist_dist/memory.h"

enum {
    SIGNATURE = 8,
    MAX_SIDE = 1 << 16,
    MAX_PIXELS = 1 << 26,
    CHUNK_MAX = 1 << 22, /* bytes that one ancillary chunk may unpack to */
    DEFLATE_MAX = 1032   /* no deflate stream grows more than this */
};

void mnd_picture_free(mnd_picture *picture) {
    mnd_free(picture->pixel);
    *picture = (mnd_picture){0};
}

/* ---- PNG ----
 *
 * libpng reports errors by longjmp. Everything that must survive the jump lives in one of the two
 * structs below, owned by the caller of the function that calls setjmp; nothing is freed between
 * the two, and that function keeps no local variable across the jump.
 */
typedef struct png_job {
    png_structp png;
    png_infop info;
    FILE *file;           /* read or written, or */
    const uint8_t *bytes; /* read from memory */
    size_t n_bytes, used;
    uint8_t *row, *pixel; /* of the picture; `pixel` is borrowed when writing */
    int height, width;
    int io_error; /* errno of a failed read or write */
    char message[128];
    jmp_buf back;
} png_job;

_Noreturn static void on_error(png_structp png, png_const_charp message) {
    png_job *job = png_get_error_ptr(png);
    snprintf(job->message, sizeof job->message, "%s", message);
    longjmp(job->back, 1);
}

static void on_warning(png_structp png, png_const_charp message) {
    (void)png; /* whatever libpng can mend is good enough */
    (void)message;
}

static void on_read(png_structp png, png_bytep out, size_t n) {
    png_job *job = png_get_io_ptr(png);
    if (job->file == NULL) {
        if (n > job->n_bytes - job->used) png_error(png, "the file ends too early");
        memcpy(out, job->bytes + job->used, n);
        job->used += n;
        return;
    }
    errno = 0;
    if (fread(out, 1, n, job->file) == n) return;
    if (ferror(job->file)) {
        job->io_error = errno != 0 ? errno : EIO;
        png_error(png, strerror(job->io_error));
    }
    png_error(png, "the file ends too early");
}

/* One row of 1 to 4 samples a pixel (grey or RGB, each with or without alpha) to grey on white. */
static void row_to_grey(const uint8_t *row, int channels, int count, int step, uint8_t *out) {
    for (int i = 0; i < count; i++, row += channels, out += step) {
        unsigned v = row[0];
        if (channels >= 3) /* Rec. 709 in 1/65536, the three sum to one */
            v = (13933U * row[0] + 46871U * row[1] + 4732U * row[2] + 32768U) >> 16;
        if (channels == 2 || channels == 4) {
            const unsigned alpha = row[channels - 1];
            v = (v * alpha + 255U * (255U - alpha) + 127U) / 255U;
        }
        *out = (uint8_t)v;
    }
}

/* Reads the header, sets the transformations to 8-bit samples; false after an error. */
static bool read_header(png_job *job) {
    if (setjmp(job->back) != 0) return false;
    png_read_info(job->png, job->info);
    png_set_expand(job->png);   /* palettes, fewer than 8 bits, transparent colours */
    png_set_scale_16(job->png); /* 16 bits, rounded */
    /* The seven passes of an interlaced picture are taken one by one: no second buffer. */
    png_read_update_info(job->png, job->info);
    job->height = (int)png_get_image_height(job->png, job->info);
    job->width = (int)png_get_image_width(job->png, job->info);
    return true;
}

static bool read_pixels(png_job *job) {
    if (setjmp(job->back) != 0) return false;
    const bool interlaced = png_get_interlace_type(job->png, job->info) == PNG_INTERLACE_ADAM7;
    const int channels = png_get_channels(job->png, job->info);
    const int height = job->height, width = job->width;
    for (int pass = 0; pass < (interlaced ? PNG_INTERLACE_ADAM7_PASSES : 1); pass++) {
        const int rows = interlaced ? PNG_PASS_ROWS(height, pass) : height;
        const int cols = interlaced ? PNG_PASS_COLS(width, pass) : width;
        if (rows == 0 || cols == 0) continue;
        const int first = interlaced ? PNG_PASS_START_COL(pass) : 0;
        const int step = interlaced ? PNG_PASS_COL_OFFSET(pass) : 1;
        for (int i = 0; i < rows; i++) {
            const int y = interlaced ? PNG_ROW_FROM_PASS_ROW(i, pass) : i;
            png_read_row(job->png, job->row, NULL);
            row_to_grey(job->row, channels, cols, step,
                        job->pixel + (size_t)y * (size_t)width + first);
        }
    }
    png_read_end(job->png, NULL);
    return true;
}

/* Reads what follows the signature. */
static mnd_status decode(png_job *job, const char *name, mnd_picture *out) {
    mnd_status status = MND_OK;
    void *memory = NULL;
    *out = (mnd_picture){0};
    job->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, job, on_error, on_warning);
    if (job->png != NULL) job->info = png_create_info_struct(job->png);
    if (job->info == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory to read the PNG", name);
    png_set_read_fn(job->png, job, on_read);
    png_set_sig_bytes(job->png, SIGNATURE);
    png_set_user_limits(job->png, MAX_SIDE, MAX_SIDE);
    png_set_chunk_malloc_max(job->png, CHUNK_MAX);
    png_set_chunk_cache_max(job->png, 64);
    if (!read_header(job)) goto damaged;

    const size_t pixels = (size_t)job->height * (size_t)job->width;
    if (pixels > MAX_PIXELS)
        MND_FAIL(MND_FORMAT, "%s: %d x %d pixels are too many; the limit is %d million", name,
                 job->width, job->height, MAX_PIXELS / 1000000);
    if (pixels / 8 / DEFLATE_MAX > job->n_bytes)
        MND_FAIL(MND_FORMAT, "%s: damaged PNG: too short for %d x %d pixels", name, job->width,
                 job->height);
    MND_TRY(mnd_alloc(&memory, png_get_rowbytes(job->png, job->info), 1, "a row of the picture"));
    job->row = memory;
    MND_TRY(mnd_alloc(&memory, pixels, 1, "the picture"));
    job->pixel = memory;
    if (!read_pixels(job)) goto damaged;
    *out = (mnd_picture){.height = job->height, .width = job->width, .pixel = job->pixel};
    job->pixel = NULL;
    goto cleanup;
damaged:
    status = job->io_error != 0
                 ? mnd_fail(MND_IO, "%s: cannot read: %s", name, strerror(job->io_error))
                 : mnd_fail(MND_FORMAT, "%s: damaged PNG: %s", name, job->message);
cleanup:
    mnd_free(job->row);
    mnd_free(job->pixel);
    png_destroy_read_struct(&job->png, &job->info, NULL);
    return status;
}

static mnd_status check_signature(const uint8_t *bytes, size_t n, const char *name) {
    if (n < SIGNATURE || png_sig_cmp(bytes, 0, SIGNATURE) != 0)
        return mnd_fail(MND_FORMAT, "%s: not a PNG file; convert the picture to PNG first", name);
    return MND_OK;
}

mnd_status mnd_picture_decode_png(const uint8_t *bytes, size_t n, const char *name,
                                  mnd_picture *out) {
    *out = (mnd_picture){0};
    const mnd_status status = check_signature(bytes, n, name);
    if (status != MND_OK) return status;
    png_job job = {.bytes = bytes, .n_bytes = n, .used = SIGNATURE};
    return decode(&job, name, out);
}

mnd_status mnd_picture_read_png(const char *path, mnd_picture *out) {
    mnd_status status = MND_OK;
    *out = (mnd_picture){0};
    png_job job = {.file = fopen(path, "rbe")};
    if (job.file == NULL)
        return mnd_fail(errno == ENOENT ? MND_NOT_FOUND : MND_IO, "%s: cannot open: %s", path,
                        strerror(errno));
    struct stat about;
    if (fstat(fileno(job.file), &about) != 0)
        MND_FAIL(MND_IO, "%s: cannot read: %s", path, strerror(errno));
    /* A pipe has no size: nothing to compare the header with. */
    job.n_bytes = S_ISREG(about.st_mode) ? (size_t)about.st_size : SIZE_MAX;
    uint8_t signature[SIGNATURE];
    errno = 0;
    const size_t n = fread(signature, 1, sizeof signature, job.file);
    if (ferror(job.file)) MND_FAIL(MND_IO, "%s: cannot read: %s", path, strerror(errno));
    MND_TRY(check_signature(signature, n, path));
    status = decode(&job, path, out);
cleanup:
    fclose(job.file);
    return status;
}

static bool write_pixels(png_job *job) {
    if (setjmp(job->back) != 0) return false;
    png_set_IHDR(job->png, job->info, (png_uint_32)job->width, (png_uint_32)job->height, 8,
                 PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(job->png, job->info);
    for (int y = 0; y < job->height; y++)
        png_write_row(job->png, job->pixel + (size_t)y * (size_t)job->width);
    png_write_end(job->png, NULL);
    return true;
}

static void on_write(png_structp png, png_bytep bytes, size_t n) {
    png_job *job = png_get_io_ptr(png);
    errno = 0;
    if (fwrite(bytes, 1, n, job->file) == n) return;
    job->io_error = errno != 0 ? errno : EIO;
    png_error(png, strerror(job->io_error));
}

static void on_flush(png_structp png) { (void)png; /* fclose does */ }

mnd_status mnd_picture_write_png(const char *path, const mnd_picture *picture) {
    mnd_status status = MND_OK;
    char temporary[4096];
    bool written = false;
    png_job job = {.height = picture->height, .width = picture->width, .pixel = picture->pixel};
    MND_TRY(mnd_atomic_name(path, temporary, sizeof temporary));
    job.file = fopen(temporary, "wbe");
    if (job.file == NULL) MND_FAIL(MND_IO, "%s: cannot create: %s", path, strerror(errno));
    job.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &job, on_error, on_warning);
    if (job.png != NULL) job.info = png_create_info_struct(job.png);
    if (job.info == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory to write the PNG", path);
    png_set_write_fn(job.png, &job, on_write, on_flush);
    if (!write_pixels(&job)) MND_FAIL(MND_IO, "%s: cannot write: %s", path, job.message);
    written = true;
cleanup:
    png_destroy_write_struct(&job.png, &job.info);
    if (job.file == NULL) return status;
    if (fclose(job.file) != 0 && status == MND_OK)
        status = mnd_fail(MND_IO, "%s: cannot write: %s", path, strerror(errno));
    if (written && status == MND_OK) return mnd_atomic_commit(temporary, path);
    unlink(temporary);
    return status;
}

/* ---- normalisation ---- */

enum {
    OVERVIEW = 1024, /* longest side of the reduced picture in which ink is looked for */
    SPECK = 20       /* a blot smaller than 1/SPECK of the largest one is dirt */
};

/*
 * The picture reduced by a whole factor, as ink: 0 is the background, larger is inkier, whichever
 * of the two is lighter.
 */
typedef struct overview {
    int factor, height, width;
    uint8_t *ink;    /* (height, width) */
    uint8_t *kept;   /* (height, width): 1 where ink belongs to the digit */
    int32_t *stack;  /* (height * width), for flooding */
    int background;  /* grey value of the paper */
    bool dark_ink;   /* ink is darker than the paper */
    float low, high; /* ink values taken as no ink and full ink */
} overview;

/* Value below which `part` of the counted values lie. */
static int quantile(const int64_t count[256], double part) {
    int64_t total = 0, seen = 0;
    for (int i = 0; i < 256; i++) total += count[i];
    for (int i = 0; i < 256; i++) {
        seen += count[i];
        if ((double)seen > part * (double)total) return i;
    }
    return 255;
}

/*
 * The threshold that separates two groups of values best: N. Otsu, "A threshold selection method
 * from gray-level histograms", IEEE Trans. SMC 9 (1979).
 */
static int otsu(const int64_t count[256]) {
    double total = 0, sum = 0, below = 0, below_sum = 0, best = -1;
    int threshold = 0;
    for (int i = 0; i < 256; i++) {
        total += (double)count[i];
        sum += (double)count[i] * i;
    }
    for (int i = 0; i < 255; i++) {
        below += (double)count[i];
        below_sum += (double)count[i] * i;
        if (below == 0 || below == total) continue;
        const double apart = below_sum / below - (sum - below_sum) / (total - below);
        const double between = below * (total - below) * apart * apart;
        if (between > best) {
            best = between;
            threshold = i;
        }
    }
    return threshold;
}

/* Ink of a grey value, before the stretching of contrast. */
static int ink_of(const overview *o, int grey) {
    const int d = o->dark_ink ? o->background - grey : grey - o->background;
    return d > 0 ? d : 0;
}

/* 0 to 1. */
static float stretched(const overview *o, int ink) {
    const float v = ((float)ink - o->low) / (o->high - o->low);
    return v < 0.0F ? 0.0F : v > 1.0F ? 1.0F : v;
}

static void reduce(const mnd_picture *in, overview *o) {
    const int f = o->factor;
    for (int y = 0; y < o->height; y++)
        for (int x = 0; x < o->width; x++) {
            const int y1 = (y + 1) * f < in->height ? (y + 1) * f : in->height;
            const int x1 = (x + 1) * f < in->width ? (x + 1) * f : in->width;
            int64_t sum = 0;
            for (int i = y * f; i < y1; i++)
                for (int j = x * f; j < x1; j++)
                    sum += in->pixel[(size_t)i * (size_t)in->width + (size_t)j];
            const int64_t n = (int64_t)(y1 - y * f) * (x1 - x * f);
            o->ink[y * o->width + x] = (uint8_t)((sum + n / 2) / n);
        }
}

/* Counts the values of the outermost pixels. */
static void count_border(const uint8_t *pixel, int height, int width, int64_t count[256]) {
    memset(count, 0, 256 * sizeof count[0]);
    for (int y = 0; y < height; y++) {
        const bool whole_row = y == 0 || y == height - 1 || width == 1;
        for (int x = 0; x < width; x += whole_row ? 1 : width - 1) count[pixel[y * width + x]]++;
    }
}

/* Finds paper, polarity and contrast; turns o->ink from grey into ink. */
static mnd_status find_ink(overview *o) {
    const int n = o->height * o->width;
    int64_t count[256] = {0}, border[256];
    count_border(o->ink, o->height, o->width, border);
    o->background = quantile(border, 0.5);
    int64_t lighter = 0;
    int least = 255, most = 0;
    for (int i = 0; i < n; i++) {
        const int v = o->ink[i];
        lighter += v - o->background;
        least = v < least ? v : least;
        most = v > most ? v : most;
    }
    if (least == most) return mnd_fail(MND_FORMAT, "the picture is empty: every pixel is %d", most);
    o->dark_ink = lighter < 0;
    for (int i = 0; i < n; i++) {
        o->ink[i] = (uint8_t)ink_of(o, o->ink[i]);
        count[o->ink[i]]++;
    }
    /* Paper is never even: what 9 of 10 border pixels stay below is paper, unless the digit itself
     * runs along the border. */
    const int threshold = otsu(count);
    count_border(o->ink, o->height, o->width, border);
    const float paper = (float)quantile(border, 0.9);
    o->low = paper < 0.5F * (float)threshold ? paper : 0.5F * (float)threshold;
    for (int i = 0; i <= threshold; i++) count[i] = 0;
    o->high = (float)quantile(count, 0.75);
    if (o->high < o->low + 1.0F) o->high = o->low + 1.0F;
    return MND_OK;
}

/* Marks the blot around `start` with `mark` in `kept`, returns its area; 0 if there is no ink. */
static int flood(overview *o, int start, float least, uint8_t from, uint8_t mark) {
    if (o->kept[start] != from || stretched(o, o->ink[start]) < least) return 0;
    int top = 0, area = 0;
    o->stack[top++] = start;
    o->kept[start] = mark;
    while (top > 0) {
        const int at = o->stack[--top];
        area++;
        const int y = at / o->width, x = at % o->width;
        for (int i = y > 0 ? y - 1 : 0; i <= y + 1 && i < o->height; i++)
            for (int j = x > 0 ? x - 1 : 0; j <= x + 1 && j < o->width; j++) {
                const int next = i * o->width + j;
                if (o->kept[next] != from || stretched(o, o->ink[next]) < least) continue;
                o->kept[next] = mark;
                o->stack[top++] = next;
            }
    }
    return area;
}

/* Keeps the largest blot of ink and every one that is not a speck beside it. */
static void drop_specks(overview *o) {
    const int n = o->height * o->width;
    int largest = 0;
    for (int i = 0; i < n; i++) {
        const int area = flood(o, i, 0.25F, 0, 2);
        largest = area > largest ? area : largest;
    }
    /* A blot is flooded again with 1 when it is large enough, with 3 when it is not. */
    for (int i = 0; i < n; i++) {
        if (o->kept[i] != 2) continue;
        const int area = flood(o, i, 0.25F, 2, 3);
        if (area * SPECK >= largest) flood(o, i, 0.25F, 3, 1);
    }
}

typedef struct box {
    int y0, x0, y1, x1; /* y1 and x1 are the first outside */
} box;

/* A pixel of the full picture as ink, 0 to 1, without the specks. */
static float ink_at(const mnd_picture *in, const overview *o, int y, int x) {
    if (o->kept[y / o->factor * o->width + x / o->factor] == 3) return 0.0F;
    return stretched(o, ink_of(o, in->pixel[(size_t)y * (size_t)in->width + (size_t)x]));
}

/* Whether a cell of the overview belongs to the digit rather than to the paper; none outside does.
 */
static bool is_inked(const overview *o, int y, int x) {
    if (y < 0 || x < 0) return false;
    const int at = y * o->width + x;
    return o->kept[at] == 1 && stretched(o, o->ink[at]) >= 0.5F;
}

/* The digit's box in the full picture; *pen is the mean width of its strokes, in pixels of `in`. */
static box find_box(const mnd_picture *in, const overview *o, float *pen) {
    box cells = {o->height, o->width, 0, 0};
    int64_t area = 0, edge = 0;
    for (int y = 0; y < o->height; y++)
        for (int x = 0; x < o->width; x++) {
            const bool inked = is_inked(o, y, x);
            area += inked;
            edge += inked != is_inked(o, y - 1, x);
            edge += inked != is_inked(o, y, x - 1);
            if (o->kept[y * o->width + x] != 1) continue;
            if (y < cells.y0) cells.y0 = y;
            if (x < cells.x0) cells.x0 = x;
            if (y >= cells.y1) cells.y1 = y + 1;
            if (x >= cells.x1) cells.x1 = x + 1;
        }
    /* A stroke of length L and width w covers w L and has two edges of L; an edge counted along the
     * axes comes out 4/pi too long in the mean over all directions. */
    *pen = (float)o->factor;
    if (edge > 0) *pen *= 2.0F * (float)area / ((float)edge * 0.7853982F);

    /* Now to the pixel, with a cell to spare around. */
    box fine = {in->height, in->width, 0, 0};
    const int f = o->factor;
    for (int y = cells.y0 > 0 ? (cells.y0 - 1) * f : 0; y < in->height && y < (cells.y1 + 1) * f;
         y++)
        for (int x = cells.x0 > 0 ? (cells.x0 - 1) * f : 0; x < in->width && x < (cells.x1 + 1) * f;
             x++) {
            if (ink_at(in, o, y, x) < 0.25F) continue;
            if (y < fine.y0) fine.y0 = y;
            if (x < fine.x0) fine.x0 = x;
            if (y >= fine.y1) fine.y1 = y + 1;
            if (x >= fine.x1) fine.x1 = x + 1;
        }
    return fine;
}

/* Mean ink of the rectangle with these (fractional) corners; outside the picture there is none. */
static float mean_ink(const mnd_picture *in, const overview *o, float y0, float x0, float y1,
                      float x1) {
    const int top = y0 < 0.0F ? 0 : (int)y0, left = x0 < 0.0F ? 0 : (int)x0;
    double sum = 0;
    for (int y = top; y < in->height && (float)y < y1; y++) {
        const float wy = fminf((float)y + 1.0F, y1) - fmaxf((float)y, y0);
        for (int x = left; x < in->width && (float)x < x1; x++) {
            const float wx = fminf((float)x + 1.0F, x1) - fmaxf((float)x, x0);
            sum += (double)(wy * wx * ink_at(in, o, y, x));
        }
    }
    return (float)(sum / (double)((y1 - y0) * (x1 - x0)));
}

/* Moves a plane of (height, width) by whole pixels so that the centre of mass is in the middle. */
static void centre(const float *plane, int height, int width, uint8_t *out) {
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
    memset(out, 0, (size_t)height * (size_t)width);
    if (mass <= 0) return;
    int dy = (int)lrint(0.5 * height - my / mass), dx = (int)lrint(0.5 * width - mx / mass);
    /* No ink may leave the picture, at most a faint fringe. */
    if (dy < -ink.y0) dy = -ink.y0;
    if (dy > height - ink.y1) dy = height - ink.y1;
    if (dx < -ink.x0) dx = -ink.x0;
    if (dx > width - ink.x1) dx = width - ink.x1;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const int from_y = y - dy, from_x = x - dx;
            if (from_y < 0 || from_y >= height || from_x < 0 || from_x >= width) continue;
            out[y * width + x] = (uint8_t)lrintf(255.0F * plane[from_y * width + from_x]);
        }
}

/* Scales the digit in `from` into the middle of `plane`. */
static void scale_into(const mnd_picture *in, const overview *o, box from, float pen, int height,
                       int width, float *plane) {
    const float ih = (float)(from.y1 - from.y0), iw = (float)(from.x1 - from.x0);
    const float bh = (float)height * 20.0F / 28.0F, bw = (float)width * 20.0F / 28.0F;
    const float shrink = fmaxf(ih / bh, iw / bw); /* source pixels a target pixel */
    /* A hair line would all but vanish: it is blurred to the width of a thin pen and then brought
     * to full ink below. */
    const float thin = 1.2F - pen / shrink;
    const float blur = thin < 0.0F ? 1.0F : thin < 1.0F ? 1.0F + thin : 2.0F;
    /* When enlarging, a square of one source pixel: that is linear interpolation. */
    const float half = 0.5F * fmaxf(blur * shrink, 1.0F);
    const int top = (int)(0.5F * ((float)height - ih / shrink));
    const int left = (int)(0.5F * ((float)width - iw / shrink));
    float most = 0.0F;
    /* Beyond the fringe of the ink there is only paper. */
    const int bottom = top + (int)ceilf(ih / shrink), right = left + (int)ceilf(iw / shrink);
    for (int y = top > 2 ? top - 2 : 0; y < bottom + 2 && y < height; y++)
        for (int x = left > 2 ? left - 2 : 0; x < right + 2 && x < width; x++) {
            const float cy = (float)from.y0 + ((float)(y - top) + 0.5F) * shrink;
            const float cx = (float)from.x0 + ((float)(x - left) + 0.5F) * shrink;
            const float v = mean_ink(in, o, cy - half, cx - half, cy + half, cx + half);
            plane[y * width + x] = v;
            most = fmaxf(most, v);
        }
    for (int i = 0; i < height * width && most > 0.0F; i++) plane[i] /= most;
}

/* Whether the picture can go to the network as it stands. */
static bool is_ready(const mnd_picture *in, int height, int width) {
    if (in->height != height || in->width != width) return false;
    int64_t border[256];
    count_border(in->pixel, height, width, border);
    uint8_t most = 0;
    for (int i = 0; i < height * width; i++) most = in->pixel[i] > most ? in->pixel[i] : most;
    return most >= 128 && quantile(border, 0.9) < 32;
}

mnd_status mnd_picture_normalize(const mnd_picture *in, int height, int width, uint8_t *out) {
    mnd_status status = MND_OK;
    overview o = {0};
    void *memory = NULL;
    float *plane = NULL;
    if (is_ready(in, height, width)) {
        memcpy(out, in->pixel, (size_t)height * (size_t)width);
        return MND_OK;
    }
    const int longer = in->height > in->width ? in->height : in->width;
    o.factor = (longer + OVERVIEW - 1) / OVERVIEW;
    o.height = (in->height + o.factor - 1) / o.factor;
    o.width = (in->width + o.factor - 1) / o.factor;
    const size_t cells = (size_t)o.height * (size_t)o.width;
    MND_TRY(mnd_alloc(&memory, cells, 1, "the reduced picture"));
    o.ink = memory;
    MND_TRY(mnd_alloc(&memory, cells, 1, "the mask of the picture"));
    o.kept = memory;
    MND_TRY(mnd_alloc(&memory, cells, sizeof *o.stack, "the search for ink"));
    o.stack = memory;
    MND_TRY(mnd_alloc(&memory, (size_t)height * (size_t)width, sizeof *plane, "the small picture"));
    plane = memory;
    reduce(in, &o);
    MND_TRY(find_ink(&o));
    drop_specks(&o);
    float pen;
    const box from = find_box(in, &o, &pen);
    scale_into(in, &o, from, pen, height, width, plane);
    centre(plane, height, width, out);
cleanup:
    mnd_free(o.ink);
    mnd_free(o.kept);
    mnd_free(o.stack);
    mnd_free(plane);
    return status;
}

/* ---- on the terminal ---- */

void mnd_picture_draw(FILE *stream, const uint8_t *pixel, int height, int width, int colour) {
    if (!colour) {
        static const char shade[] = " .:-=+*#%@";
        enum { LAST = sizeof shade - 2 };
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                const char c = shade[(pixel[y * width + x] * LAST + 127) / 255];
                fputc(c, stream);
                fputc(c, stream);
            }
            fputc('\n', stream);
        }
        return;
    }
    for (int y = 0; y < height; y += 2) {
        int upper = -1, lower = -1; /* the colours that are set */
        for (int x = 0; x < width; x++) {
            if (upper != pixel[y * width + x]) {
                upper = pixel[y * width + x];
                fprintf(stream, "\x1b[38;2;%d;%d;%dm", upper, upper, upper);
            }
            if (y + 1 < height && lower != pixel[(y + 1) * width + x]) {
                lower = pixel[(y + 1) * width + x];
                fprintf(stream, "\x1b[48;2;%d;%d;%dm", lower, lower, lower);
            }
            fputs("\u2580", stream);
        }
        fputs("\x1b[0m\n", stream);
    }
}

void mnd_picture_numbers(FILE *stream, const uint8_t *pixel, int height, int width) {
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            fprintf(stream, "%3d%c", pixel[y * width + x], x + 1 < width ? ' ' : '\n');
}
