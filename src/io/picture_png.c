/* picture_png.c - reads and writes PNG files. */
#include <errno.h>
#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "mnist_dist/folder.h"
#include "mnist_dist/memory.h"
#include "picture_raster.h"

enum {
    SIGNATURE = 8,
    CHUNK_MAX = 1 << 22, /* uncompressed bytes of one ancillary chunk */
    DEFLATE_MAX = 1032   /* the highest compression ratio of deflate */
};

/*
 * libpng reports errors by longjmp. Everything that must survive the jump is in the struct below,
 * owned by the caller of the function that calls setjmp. That function uses no local variable after
 * the jump, and no memory is freed between setjmp and longjmp.
 */
typedef struct png_job {
    png_structp png;
    png_infop info;
    FILE *file;           /* NULL: the PNG is read from memory, `bytes` */
    const uint8_t *bytes; /* n_bytes of them, of which `used` were read */
    size_t n_bytes, used;
    uint8_t *row, *pixel; /* one row, and the whole picture; `pixel` is borrowed when writing */
    int channels;         /* of `pixel`, when reading */
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
    (void)png; /* libpng warns about faults that it can correct itself */
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

/* Puts pixel i of a row of one pass at out[i * step]. */
static void spread_row(const uint8_t *row, size_t channels, int count, int step, uint8_t *out) {
    if (step == 1) {
        memcpy(out, row, (size_t)count * channels);
        return;
    }
    for (int i = 0; i < count; i++, row += channels, out += (size_t)step * channels)
        memcpy(out, row, channels);
}

/* Reads the header and requests 8-bit samples; false after an error. */
static bool read_header(png_job *job) {
    if (setjmp(job->back) != 0) return false;
    png_read_info(job->png, job->info);
    png_set_expand(job->png);   /* palettes, fewer than 8 bits, transparent colours */
    png_set_scale_16(job->png); /* 16 bits, rounded to 8 */
    /* read_pixels handles the passes of an interlaced picture itself, which saves a buffer. */
    png_read_update_info(job->png, job->info);
    job->height = (int)png_get_image_height(job->png, job->info);
    job->width = (int)png_get_image_width(job->png, job->info);
    job->channels = png_get_channels(job->png, job->info);
    return true;
}

static bool read_pixels(png_job *job) {
    if (setjmp(job->back) != 0) return false;
    const bool interlaced = png_get_interlace_type(job->png, job->info) == PNG_INTERLACE_ADAM7;
    const size_t channels = (size_t)job->channels;
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
            spread_row(job->row, channels, cols, step,
                       job->pixel + ((size_t)y * (size_t)width + (size_t)first) * channels);
        }
    }
    png_read_end(job->png, NULL);
    return true;
}

/* Reads everything after the signature. */
static mnd_status decode(png_job *job, const char *name, mnd_raster *out) {
    mnd_status status = MND_OK;
    void *memory = NULL;
    *out = (mnd_raster){0};
    job->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, job, on_error, on_warning);
    if (job->png != NULL) job->info = png_create_info_struct(job->png);
    if (job->info == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory to read the PNG", name);
    png_set_read_fn(job->png, job, on_read);
    png_set_sig_bytes(job->png, SIGNATURE);
    png_set_user_limits(job->png, MND_RASTER_SIDE, MND_RASTER_SIDE);
    png_set_chunk_malloc_max(job->png, CHUNK_MAX);
    png_set_chunk_cache_max(job->png, 64);
    if (!read_header(job)) goto damaged;

    const size_t pixels = (size_t)job->height * (size_t)job->width;
    if (pixels > MND_RASTER_PIXELS)
        MND_FAIL(MND_FORMAT, "%s: %d x %d pixels are too many; the limit is %d million", name,
                 job->width, job->height, MND_RASTER_PIXELS / 1000000);
    if (pixels / 8 / DEFLATE_MAX > job->n_bytes)
        MND_FAIL(MND_FORMAT, "%s: damaged PNG: too short for %d x %d pixels", name, job->width,
                 job->height);
    MND_TRY(mnd_alloc(&memory, png_get_rowbytes(job->png, job->info), 1, "a row of the picture"));
    job->row = memory;
    MND_TRY(mnd_alloc(&memory, pixels, (size_t)job->channels, "the picture"));
    job->pixel = memory;
    if (!read_pixels(job)) goto damaged;
    *out = (mnd_raster){
        .height = job->height, .width = job->width, .channels = job->channels, .value = job->pixel};
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
    if (n >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
        return mnd_fail(MND_FORMAT, "%s: is a JPEG file, not PNG; convert the picture to PNG first",
                        name);
    if (n < SIGNATURE || png_sig_cmp(bytes, 0, SIGNATURE) != 0)
        return mnd_fail(MND_FORMAT, "%s: not a PNG or JPEG file; convert the picture to PNG first",
                        name);
    return MND_OK;
}

static mnd_status decode_memory(const uint8_t *bytes, size_t n, const char *name, mnd_raster *out) {
    const mnd_status status = check_signature(bytes, n, name);
    if (status != MND_OK) return status;
    png_job job = {.bytes = bytes, .n_bytes = n, .used = SIGNATURE};
    return decode(&job, name, out);
}

static mnd_status decode_file(const char *path, mnd_raster *out) {
    mnd_status status = MND_OK;
    png_job job = {.file = fopen(path, "rbe")};
    if (job.file == NULL)
        return mnd_fail(errno == ENOENT ? MND_NOT_FOUND : MND_IO, "%s: cannot open: %s", path,
                        strerror(errno));
    struct stat about;
    if (fstat(fileno(job.file), &about) != 0)
        MND_FAIL(MND_IO, "%s: cannot read: %s", path, strerror(errno));
    /* The size limits what the header may promise; a pipe has no size. */
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

mnd_status mnd_raster_png(const uint8_t *bytes, size_t n, const char *path, mnd_raster *out) {
    *out = (mnd_raster){0};
    return bytes != NULL ? decode_memory(bytes, n, path, out) : decode_file(path, out);
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

static void on_flush(png_structp png) { (void)png; /* fclose flushes */ }

mnd_status mnd_picture_write_png(const char *path, const mnd_picture *picture) {
    mnd_status status = MND_OK;
    char temporary[4096];
    bool written = false;
    png_job job = {.height = picture->height, .width = picture->width, .pixel = picture->pixel};
    MND_TRY(mnd_folder_make_parents(path));
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
