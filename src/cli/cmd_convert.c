/* cmd_convert.c - converts IDX files to an HDF5 data file. Runs in one process, without MPI. */
#include <stdio.h>

#include "commands.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/idx.h"
#include "options.h"
#include "progress.h"

static const command_usage usage = {
    "convert", "SRC",
    "Writes the four IDX files of folder SRC (train and t10k, images and labels; raw or .gz) into\n"
    "one HDF5 data file with x_train, y_train, x_test, y_test. Every header, size and label is\n"
    "checked; an existing file is replaced only once the new one is complete.",
    1, 1};

/* Prints the line on stdout, with what is read back from the new file. */
static mnd_status print_result(const char *path, double seconds) {
    mnd_status status = MND_OK;
    mnd_dataset *data = NULL;
    MND_TRY(mnd_dataset_open(path, &data));
    const mnd_dataset_info *info = mnd_dataset_about(data);
    printf("%s: %lld training and %lld test images of %d x %d", path,
           (long long)info->count[MND_TRAIN], (long long)info->count[MND_TEST], info->height,
           info->width);
    if (info->channels > 1) printf(" x %d", info->channels);
    printf(", %d classes, sha256 %.12s (%.1f s)\n", info->classes, info->data_sha256, seconds);
cleanup:
    mnd_dataset_close(&data);
    return status;
}

int cmd_convert(int argc, char **argv) {
    mnd_status status = MND_OK;
    const char *output = "data/mnist.h5";
    bool transpose = false;
    const option_row row[] = {
        {"o,output", OPTION_TEXT, &output, "FILE", 0, 0, "the file to write (data/mnist.h5)"},
        {"transpose", OPTION_FLAG, &transpose, NULL, 0, 0,
         "exchange rows and columns of every image, as EMNIST needs it"},
    };
    command_line line;
    MND_TRY(options_parse(&usage, row, OPTION_COUNT(row), argc, argv, &line));
    if (line.helped || !command_is_first()) return EXIT_DONE;
    progress bar;
    progress_start(&bar, "converting");
    status = mnd_convert_idx(line.argument[0], output, transpose, progress_show, &bar);
    const double seconds = progress_end(&bar);
    if (status == MND_OK) status = print_result(output, seconds);
cleanup:
    return command_exit(status);
}
