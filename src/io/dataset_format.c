#include "dataset_format.h"

enum {
    MAX_SIDE = 1 << 15,
    MAX_IMAGE = 1 << 26 /* bytes */
};

const char *const mnd_dataset_x_name[] = {"x_train", "x_test"};
const char *const mnd_dataset_y_name[] = {"y_train", "y_test"};

int64_t mnd_dataset_image_size(const mnd_dataset_info *info) {
    return (int64_t)info->height * info->width * info->channels;
}

mnd_status mnd_dataset_check_sizes(const char *path, const mnd_dataset_info *info) {
    for (int s = 0; s < 2; s++)
        if (info->count[s] < (s == MND_TEST) || info->count[s] > INT32_MAX)
            return mnd_fail(MND_FORMAT, "%s: %s has %lld images; 1 to %d can be used", path,
                            mnd_dataset_x_name[s], (long long)info->count[s], INT32_MAX);
    if (info->height < 1 || info->height > MAX_SIDE || info->width < 1 || info->width > MAX_SIDE ||
        info->channels < 1 || info->channels > MAX_SIDE || mnd_dataset_image_size(info) > MAX_IMAGE)
        return mnd_fail(
            MND_FORMAT,
            "%s: images of %d x %d x %d cannot be used; each size must be 1 to %d, and an "
            "image at most %d bytes",
            path, info->height, info->width, info->channels, MAX_SIDE, MAX_IMAGE);
    return MND_OK;
}
