/* JPEG files and their Exif data: a picture or one line of explanation, within bounded memory. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mnist_dist/picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    mnd_picture picture;
    const mnd_status status = mnd_picture_decode(bytes, n, "fuzz", &picture);
    if (status != MND_OK) {
        if (picture.pixel != NULL || strlen(mnd_error()) == 0) abort();
        return 0;
    }
    /* Larger ones only cost time. */
    if ((int64_t)picture.height * picture.width <= 1 << 16) {
        const mnd_picture_target target = {
            .height = 28, .width = 28, .form = mnd_picture_mnist, .split = true};
        mnd_picture_images images;
        const mnd_status found = mnd_picture_prepare(&picture, &target, &images);
        if (found != MND_OK && found != MND_FORMAT) abort();
        mnd_picture_images_free(&images);
    }
    mnd_picture_free(&picture);
    return 0;
}
