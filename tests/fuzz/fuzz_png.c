/* PNG files: whatever the bytes, a picture or one line of explanation, within bounded memory. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "mnist_dist/picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t n, size_t capacity);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t capacity, unsigned seed);

/* libpng stops at a wrong checksum, so that a blind mutation would never get any further. */
static void mend_checksums(uint8_t *bytes, size_t n) {
    for (size_t at = 8; at + 12 <= n;) {
        const size_t length = (size_t)bytes[at] << 24 | (size_t)bytes[at + 1] << 16 |
                              (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (length > n - at - 12) return;
        const unsigned long crc = crc32(0, bytes + at + 4, (unsigned)(length + 4));
        for (int i = 0; i < 4; i++)
            bytes[at + 8 + length + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += 12 + length;
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t capacity, unsigned seed) {
    n = LLVMFuzzerMutate(bytes, n, capacity);
    /* One in eight stays wrong. */
    if (seed % 8 != 0) mend_checksums(bytes, n);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    mnd_picture picture;
    const mnd_status status = mnd_picture_decode_png(bytes, n, "fuzz", &picture);
    if (status != MND_OK) {
        if (picture.pixel != NULL || strlen(mnd_error()) == 0) abort();
        return 0;
    }
    /* Larger ones only cost time. */
    if ((int64_t)picture.height * picture.width <= 1 << 16) {
        uint8_t out[28 * 28];
        const mnd_status normal = mnd_picture_normalize(&picture, 28, 28, out);
        if (normal != MND_OK && normal != MND_FORMAT) abort();
    }
    mnd_picture_free(&picture);
    return 0;
}
