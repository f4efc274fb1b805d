/* picture_jpeg.c - reads JPEG files, upright as the camera was held. */
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>
#include <libexif/exif-data.h>

#include "mnist_dist/memory.h"
#include "picture_raster.h"

/* libjpeg reports errors by longjmp; what survives the jump is here (see picture_png.c). */
typedef struct jpeg_job {
    struct jpeg_error_mgr error; /* first: libjpeg hands back a pointer to it */
    struct jpeg_decompress_struct jpeg;
    uint8_t *value; /* owned */
    char message[JMSG_LENGTH_MAX];
    jmp_buf back;
} jpeg_job;

_Noreturn static void on_error(j_common_ptr jpeg) {
    jpeg_job *job = (jpeg_job *)jpeg->err;
    jpeg->err->format_message(jpeg, job->message);
    longjmp(job->back, 1);
}

/* A warning means that data is missing or damaged: libjpeg would go on with grey blocks. Only bytes
   between segments do no harm; some cameras leave them. */
static void on_message(j_common_ptr jpeg, int level) {
    if (level < 0 && jpeg->err->msg_code != JWRN_EXTRANEOUS_DATA) on_error(jpeg);
}

static bool read_header(jpeg_job *job, const uint8_t *bytes, size_t n) {
    if (setjmp(job->back) != 0) return false;
    jpeg_create_decompress(&job->jpeg);
    jpeg_mem_src(&job->jpeg, bytes, (unsigned long)n);
    jpeg_save_markers(&job->jpeg, JPEG_APP0 + 1, 0xffff);
    (void)jpeg_read_header(&job->jpeg, TRUE);
    /* CMYK, as some printing programs write it, has no conversion in libjpeg. */
    if (job->jpeg.jpeg_color_space != JCS_GRAYSCALE) job->jpeg.out_color_space = JCS_RGB;
    return true;
}

static bool read_pixels(jpeg_job *job, int height, size_t row_bytes) {
    if (setjmp(job->back) != 0) return false;
    (void)jpeg_start_decompress(&job->jpeg);
    while ((int)job->jpeg.output_scanline < height) {
        JSAMPROW row = job->value + (size_t)job->jpeg.output_scanline * row_bytes;
        (void)jpeg_read_scanlines(&job->jpeg, &row, 1);
    }
    (void)jpeg_finish_decompress(&job->jpeg);
    return true;
}

/* Exif's orientation, 1 (upright) to 8; 1 where there is none. */
static int orientation(const jpeg_job *job) {
    int turn = 1;
    for (jpeg_saved_marker_ptr m = job->jpeg.marker_list; m != NULL; m = m->next) {
        ExifData *exif = exif_data_new_from_data(m->data, m->data_length);
        if (exif == NULL) continue;
        const ExifEntry *entry = exif_data_get_entry(exif, EXIF_TAG_ORIENTATION);
        if (entry != NULL && entry->format == EXIF_FORMAT_SHORT && entry->size >= 2)
            turn = exif_get_short(entry->data, exif_data_get_byte_order(exif));
        exif_data_unref(exif);
    }
    return turn >= 1 && turn <= 8 ? turn : 1;
}

/* Turns and mirrors *in as Exif's orientation says. */
static mnd_status set_upright(mnd_raster *in, int turn) {
    void *memory;
    if (turn == 1) return MND_OK;
    const bool across = turn >= 5; /* rows become columns */
    mnd_raster to = {.height = across ? in->width : in->height,
                     .width = across ? in->height : in->width,
                     .channels = in->channels};
    const size_t c = (size_t)in->channels;
    mnd_status status =
        mnd_alloc(&memory, (size_t)to.height * (size_t)to.width, c, "the upright picture");
    if (status != MND_OK) return status;
    to.value = memory;
    const bool from_right = turn == 2 || turn == 3 || turn == 7 || turn == 8;
    const bool from_bottom = turn == 3 || turn == 4 || turn == 6 || turn == 7;
    for (int y = 0; y < to.height; y++)
        for (int x = 0; x < to.width; x++) {
            int fy = across ? x : y, fx = across ? y : x;
            if (from_bottom) fy = in->height - 1 - fy;
            if (from_right) fx = in->width - 1 - fx;
            memcpy(to.value + ((size_t)y * (size_t)to.width + (size_t)x) * c,
                   in->value + ((size_t)fy * (size_t)in->width + (size_t)fx) * c, c);
        }
    mnd_free(in->value);
    *in = to;
    return MND_OK;
}

static mnd_status decode(jpeg_job *job, const uint8_t *bytes, size_t n, const char *path,
                         mnd_raster *out) {
    mnd_status status = MND_OK;
    void *memory = NULL;
    if (!read_header(job, bytes, n)) goto damaged;
    const int height = (int)job->jpeg.image_height, width = (int)job->jpeg.image_width;
    const int channels = job->jpeg.out_color_space == JCS_GRAYSCALE ? 1 : 3;
    /* A block of 8 x 8 pixels takes at least a few bits. */
    const size_t pixels = (size_t)height * (size_t)width;
    if (pixels > MND_RASTER_PIXELS || pixels / 4096 > n)
        MND_FAIL(MND_FORMAT,
                 "%s: %d x %d pixels are too many for its length, or more than %d million", path,
                 width, height, MND_RASTER_PIXELS / 1000000);
    MND_TRY(mnd_alloc(&memory, pixels, (size_t)channels, "the picture"));
    job->value = memory;
    const int turn = orientation(job); /* libjpeg drops the marker with the last row */
    if (!read_pixels(job, height, (size_t)width * (size_t)channels)) goto damaged;
    *out =
        (mnd_raster){.height = height, .width = width, .channels = channels, .value = job->value};
    job->value = NULL;
    status = set_upright(out, turn);
    if (status != MND_OK) {
        mnd_free(out->value);
        *out = (mnd_raster){0};
    }
    goto cleanup;
damaged:
    status = mnd_fail(MND_FORMAT, "%s: damaged JPEG: %s", path, job->message);
cleanup:
    mnd_free(job->value);
    jpeg_destroy_decompress(&job->jpeg);
    return status;
}

/* Reads a whole file: JPEG files are small, and memory has no errors of its own. */
static mnd_status read_file(const char *path, uint8_t **bytes, size_t *n) {
    enum { STEP = 1 << 16, LIMIT = 1 << 28 };
    mnd_status status = MND_OK;
    size_t capacity = 0;
    FILE *file = fopen(path, "rbe");
    if (file == NULL) return mnd_fail(MND_IO, "%s: cannot open: %s", path, strerror(errno));
    for (size_t got = 1; got > 0; *n += got) {
        if (*n + STEP > capacity) {
            void *memory;
            capacity = 2 * capacity + STEP;
            if (capacity > LIMIT) MND_FAIL(MND_FORMAT, "%s: too long for a JPEG picture", path);
            MND_TRY(mnd_alloc(&memory, capacity, 1, "the JPEG file"));
            if (*bytes != NULL) memcpy(memory, *bytes, *n);
            mnd_free(*bytes);
            *bytes = memory;
        }
        errno = 0;
        got = fread(*bytes + *n, 1, STEP, file);
        if (ferror(file)) MND_FAIL(MND_IO, "%s: cannot read: %s", path, strerror(errno));
    }
cleanup:
    fclose(file);
    return status;
}

mnd_status mnd_raster_jpeg(const uint8_t *bytes, size_t n, const char *path, mnd_raster *out) {
    uint8_t *own = NULL;
    jpeg_job job = {0};
    *out = (mnd_raster){0};
    mnd_status status = bytes == NULL ? read_file(path, &own, &n) : MND_OK;
    job.jpeg.err = jpeg_std_error(&job.error);
    job.error.error_exit = on_error;
    job.error.emit_message = on_message;
    if (status == MND_OK) status = decode(&job, bytes != NULL ? bytes : own, n, path, out);
    mnd_free(own);
    return status;
}
