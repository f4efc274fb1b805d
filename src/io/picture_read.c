/* picture_read.c - reads a picture whatever its file format. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "picture_raster.h"

static bool is_jpeg(const uint8_t *bytes, size_t n) {
    return n >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
}

static mnd_status finish(mnd_status status, mnd_raster *raster, const char *name, bool any_channel,
                         mnd_picture *out) {
    if (status != MND_OK) return status;
    status = mnd_raster_to_grey(raster, any_channel, out);
    return status == MND_FORMAT ? mnd_fail(MND_FORMAT, "%s: %s", name, mnd_error()) : status;
}

mnd_status mnd_picture_read_png(const char *path, mnd_picture *out) {
    mnd_raster raster;
    *out = (mnd_picture){0};
    return finish(mnd_raster_png(NULL, 0, path, &raster), &raster, path, false, out);
}

mnd_status mnd_picture_decode_png(const uint8_t *bytes, size_t n, const char *name,
                                  mnd_picture *out) {
    mnd_raster raster;
    *out = (mnd_picture){0};
    return finish(mnd_raster_png(bytes, n, name, &raster), &raster, name, false, out);
}

mnd_status mnd_picture_decode(const uint8_t *bytes, size_t n, const char *name, mnd_picture *out) {
    mnd_raster raster;
    *out = (mnd_picture){0};
    const mnd_status status = is_jpeg(bytes, n) ? mnd_raster_jpeg(bytes, n, name, &raster)
                                                : mnd_raster_png(bytes, n, name, &raster);
    return finish(status, &raster, name, true, out);
}

mnd_status mnd_picture_read(const char *path, mnd_picture *out) {
    mnd_raster raster;
    uint8_t start[3];
    *out = (mnd_picture){0};
    FILE *file = fopen(path, "rbe");
    if (file == NULL)
        return mnd_fail(errno == ENOENT ? MND_NOT_FOUND : MND_IO, "%s: cannot open: %s", path,
                        strerror(errno));
    const size_t n = fread(start, 1, sizeof start, file);
    fclose(file);
    const mnd_status status = is_jpeg(start, n) ? mnd_raster_jpeg(NULL, 0, path, &raster)
                                                : mnd_raster_png(NULL, 0, path, &raster);
    return finish(status, &raster, path, true, out);
}
