/* terminal.h - whether pictures are drawn with colours. */
#ifndef MNIST_DIST_CLI_TERMINAL_H
#define MNIST_DIST_CLI_TERMINAL_H

#include <stdbool.h>

/* The words of --color; its default is the first. */
#define TERMINAL_COLOR_CHOICES "auto|always|never"

/*
 * For a value of --color: "auto" means when stdout is a terminal that is not "dumb" and the user
 * has not set NO_COLOR.
 */
bool terminal_color(const char *choice);

#endif
