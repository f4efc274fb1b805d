/* terminal.h - the option --color: whether pictures are drawn with colours. */
#ifndef MNIST_DIST_CLI_TERMINAL_H
#define MNIST_DIST_CLI_TERMINAL_H

#include <stdbool.h>

/* The choices of --color; the first is the default. */
#define TERMINAL_COLOR_CHOICES "auto|always|never"

/*
 * Whether to use colours for this choice of --color: "auto" does if stdout is a terminal, TERM is
 * not "dumb" and NO_COLOR is not set.
 */
bool terminal_color(const char *choice);

#endif
