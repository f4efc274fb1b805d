/* cmd_synth.c - writes a data file of synthetic digits. Runs in one process, without MPI. */
#include <stdio.h>

#include "commands.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/synth.h"
#include "options.h"
#include "progress.h"

static const command_usage usage = {
    "synth", "",
    "Draws digits that resemble handwriting (strokes in several styles, randomly distorted) in "
    "the\n"
    "format of MNIST and writes any number of them to one data file: for tests, for weak scaling,\n"
    "and for machines without access to MNIST. Equal seeds give equal digits everywhere.",
    0, 0};

int cmd_synth(int argc, char **argv) {
    mnd_status status = MND_OK;
    const char *output = "data/synth.h5";
    int64_t images = 60000, test_images = 10000, seed = 1;
    const option_row row[] = {
        {"o,output", OPTION_TEXT, &output, "FILE", 0, 0, "the file to write (data/synth.h5)"},
        {"images", OPTION_INT, &images, "N", 1, INT32_MAX, "training images (60000)"},
        {"test-images", OPTION_INT, &test_images, "M", 1, INT32_MAX, "test images (10000)"},
        {"seed", OPTION_INT, &seed, "S", 0, 9e15, "which digits are drawn (1)"},
    };
    command_line line;
    MND_TRY(options_parse(&usage, row, OPTION_COUNT(row), argc, argv, &line));
    if (line.helped || !command_is_first()) return EXIT_DONE;
    progress bar;
    progress_start(&bar, "drawing");
    status = mnd_synth_file(output, images, test_images, (uint64_t)seed, progress_show, &bar);
    const double seconds = progress_end(&bar);
    if (status == MND_OK)
        printf(
            "%s: %lld training and %lld test images of 28 x 28, 10 classes, seed %lld (%.1f s)\n",
            output, (long long)images, (long long)test_images, (long long)seed, seconds);
cleanup:
    return command_exit(status);
}
