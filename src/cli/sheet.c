#include "sheet.h"

#include <string.h>

#include "mnist_dist/loops.h"
#include "mnist_dist/memory.h"

enum { LINE = 64 }; /* the grey of the lines */

/* Picture i of the sheet from floats of any number of channels. */
static void place(const mnd_dataset_info *info, const sheet_plan *plan, int64_t i, const float *x,
                  mnd_picture *sheet) {
    const int height = info->height, width = info->width, n = info->channels;
    const size_t top = (size_t)(i / plan->columns) * (size_t)(height + 1);
    const size_t left = (size_t)(i % plan->columns) * (size_t)(width + 1);
    for (int y = 0; y < height; y++) {
        uint8_t *to = sheet->pixel + (top + (size_t)y) * (size_t)sheet->width + left;
        for (int k = 0; k < width; k++) {
            float sum = 0.0F;
            for (int c = 0; c < n; c++) sum += *x++;
            to[k] = (uint8_t)(sum / (float)n * 255.0F + 0.5F);
        }
    }
}

mnd_status sheet_make(const sheet_plan *plan, const mnd_dataset_info *info, int64_t index,
                      const uint8_t *image, mnd_picture *out) {
    mnd_status status = MND_OK;
    mnd_augmenter *augmenter = NULL;
    float *x = NULL;
    sheet_plan p = *plan;
    const size_t size = (size_t)info->height * (size_t)info->width * (size_t)info->channels;
    if (p.columns > p.draws + 1) p.columns = p.draws + 1;
    const int64_t rows = (p.draws + p.columns) / p.columns; /* of draws + 1 pictures */
    const int64_t height = rows * (info->height + 1) - 1;
    const int64_t width = p.columns * (info->width + 1) - 1;
    *out = (mnd_picture){0};
    if (height > INT32_MAX || width > INT32_MAX)
        MND_FAIL(MND_RANGE, "a sheet of %lld images is too large", (long long)p.draws + 1);
    out->height = (int)height;
    out->width = (int)width;
    MND_NEW(out->pixel, height * width, "the sheet");
    memset(out->pixel, LINE, (size_t)(height * width));
    MND_TRY(mnd_augmenter_create(&p.how, info->height, info->width, info->channels, 1, &augmenter));
    MND_NEW(x, size, "an image");
    mnd_pixels(size, image, x);
    place(info, &p, 0, x, out);
    for (int64_t epoch = 1; epoch <= p.draws; epoch++) {
        mnd_distortion d;
        mnd_augment_draw(&p.how, p.seed, (uint32_t)epoch, (uint32_t)index, &d);
        mnd_augmenter_image(augmenter, 0, &d, image, x);
        place(info, &p, epoch, x, out);
    }
cleanup:
    mnd_augmenter_destroy(&augmenter);
    mnd_free(x);
    if (status != MND_OK) mnd_picture_free(out);
    return status;
}
