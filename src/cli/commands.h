/* commands.h - the subcommands. Each gets argv[0] = its own name and returns the exit code. */
#ifndef MNIST_DIST_CLI_COMMANDS_H
#define MNIST_DIST_CLI_COMMANDS_H

#include "mnist_dist/status.h"

/* Exit codes: what scripts and batch systems rely on. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_STOPPED = 75 };

/* name, one line for the list of commands */
#define COMMAND_TABLE(X) X(convert, "IDX files to one HDF5 data file")

#define COMMAND_DECLARE(name, text) int cmd_##name(int argc, char **argv);
COMMAND_TABLE(COMMAND_DECLARE)
#undef COMMAND_DECLARE

/* Logs mnd_error() if status is not MND_OK and returns the exit code that belongs to it. */
int command_exit(mnd_status status);

#endif
