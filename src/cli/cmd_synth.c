/* cmd_synth.c - a data file of digits drawn by the program. Needs no MPI: one process. */
#include <stdio.h>

#include "commands.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/synth.h"
#include "options.h"
#include "progress.h"

static const command_usage usage = {
    "synth", "",
    "Draws handwritten-looking digits (strokes in several styles under random distortion, in the\n"
    "form of MNIST's) and writes them to one data file, as many as wanted: for tests, for weak\n"
    "scaling, and for where MNIST cannot be had. The same seed gives the same digits everywhere.",
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
    char **argument;
    int n_argument;
    bool helped;
    MND_TRY(
        options_parse(&usage, row, OPTION_COUNT(row), argc, argv, &argument, &n_argument, &helped));
    if (helped || !command_speaks()) return EXIT_DONE;
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
