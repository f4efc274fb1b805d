/* cmd_summary.c - prints the layers of a model. */
#include <stdio.h>

#include "commands.h"
#include "display.h"
#include "options.h"

int cmd_summary(int argc, char **argv) {
    const char *name = "cnn";
    int64_t height = 28, width = 28, channels = 1, classes = 10;
    const option_row rows[] = {
        {"model", OPTION_TEXT, &name, "NAME|SPEC", 0, 0, "preset or layers (cnn)"},
        {"height", OPTION_INT, &height, "N", 1, 1 << 16, "of the images (28)"},
        {"width", OPTION_INT, &width, "N", 1, 1 << 16, "of the images (28)"},
        {"channels", OPTION_INT, &channels, "N", 1, 1 << 10, "of the images (1)"},
        {"classes", OPTION_INT, &classes, "N", 1, MND_MAX_CLASSES, "(10)"},
    };
    static const command_usage usage = {
        .name = "summary",
        .arguments = "",
        .text = "Prints the layers of a model with their output shapes and parameters."};
    command_line line;
    mnd_model *model = NULL;
    mnd_status status = options_parse(&usage, rows, OPTION_COUNT(rows), argc, argv, &line);
    if (line.helped) return EXIT_DONE;
    if (status == MND_OK) {
        const mnd_shape input = {.ndim = 3, .dim = {(int)height, (int)width, (int)channels}};
        const mnd_model_options options = {.threads = 1};
        status = mnd_model_create(name, &input, (int)classes, &options, &model);
    }
    if (status == MND_OK) display_summary(model);
    mnd_model_destroy(&model);
    return command_exit(status);
}
