/* cmd_convert.c - converts data to an HDF5 data file. Runs in one process, without MPI. */
#include <stdio.h>

#include "commands.h"
#include "mnist_dist/convert.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/log.h"
#include "options.h"
#include "progress.h"

static const command_usage usage = {
    "convert", "SRC",
    "Writes one HDF5 data file with x_train, y_train, x_test, y_test. Every size and label is\n"
    "checked; an existing file is replaced only once the new one is complete. SRC is\n"
    "  a folder of IDX files (train and t10k, images and labels; raw or .gz), as MNIST, "
    "Fashion-MNIST,\n"
    "    KMNIST, QMNIST and EMNIST (--set letters) come, or of the t10k files only;\n"
    "  a folder with one folder of PNG files per class, or train and test with such folders;\n"
    "  CSV, one image a line with its label first or last: a file, or a folder with train.csv and\n"
    "    test.csv, as from Kaggle;\n"
    "  mnist.npz of Keras, or another by numpy.savez;\n"
    "  an HDF5 file by h5py: any type of number, compressed, one-hot, channels first;\n"
    "  the folder of CIFAR-10's or CIFAR-100's binary version.\n"
    "A file class-names.txt in the folder names the classes, one a line.",
    1, 1};

/* Prints the line on stdout, with what is read back from the new file. */
static mnd_status print_result(const char *path, double seconds) {
    mnd_status status = MND_OK;
    mnd_dataset *data = NULL;
    MND_TRY(mnd_dataset_open_any(path, &data));
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
    mnd_convert_options options = {0};
    mnd_convert_report report = {0};
    const char *output = "data/mnist.h5";
    int64_t classes = 0, first_label = 0, test_every = 0;
    const option_row row[] = {
        {"o,output", OPTION_TEXT, &output, "FILE", 0, 0, "the file to write (data/mnist.h5)"},
        {"set", OPTION_TEXT, &options.set, "NAME", 0, 0,
         "which set of a folder with several, as EMNIST's letters"},
        {"classes", OPTION_INT, &classes, "N", 0, MND_MAX_CLASSES,
         "number of classes (the largest label + 1, if that is plausible)"},
        {"first-label", OPTION_INT, &first_label, "N", 0, MND_MAX_CLASSES - 1,
         "the label of the first class, subtracted from all (0)"},
        {"test-every", OPTION_INT, &test_every, "N", 0, INT32_MAX,
         "every N-th image is a test image if SRC has no labelled ones (7; 1: all)"},
        {"channels", OPTION_CHOICE, &options.channels, "auto|first|last", 0, 0,
         "where images have their channels (auto: judged by the dimensions)"},
        {"scale", OPTION_REAL, &options.scale, "X", 0, 1e9,
         "factor for pixels (0 to 1 becomes 0 to 255)"},
        {"transpose", OPTION_FLAG, &options.transpose, NULL, 0, 0,
         "exchange rows and columns of every image (EMNIST's: always)"},
        {"as-is", OPTION_FLAG, &options.as_is, NULL, 0, 0,
         "leave EMNIST's images transposed and its letters labelled from 1"},
    };
    command_line line;
    MND_TRY(options_parse(&usage, row, OPTION_COUNT(row), argc, argv, &line));
    if (line.helped || !command_is_first()) return EXIT_DONE;
    options.classes = (int)classes;
    options.first_label = (int)first_label;
    options.test_every = (int)test_every;
    progress bar;
    progress_start(&bar, "converting");
    status = mnd_convert(line.argument[0], output, &options, &report, progress_show, &bar);
    const double seconds = progress_end(&bar);
    if (status != MND_OK) goto cleanup;
    for (int i = 0; i < report.n_note; i++)
        mnd_log(MND_LOG_INFO, "%s: %s", line.argument[0], report.note[i]);
    status = print_result(output, seconds);
cleanup:
    return command_exit(status);
}
