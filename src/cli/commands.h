/* commands.h - the subcommands. Each gets argv[0] = its own name and returns the exit code. */
#ifndef MNIST_DIST_CLI_COMMANDS_H
#define MNIST_DIST_CLI_COMMANDS_H

#include "mnist_dist/comm.h"
#include "mnist_dist/status.h"

/* Exit codes: what scripts and batch systems rely on. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_STOPPED = 75 };

/* name, one line for the list of commands */
#define COMMAND_TABLE(X)                                                                           \
    X(train, "train, evaluate after each epoch, write checkpoints")                                \
    X(evaluate, "loss, accuracy and confusion matrix of a checkpoint")                             \
    X(predict, "class probabilities of one image or of pictures")                                  \
    X(bench, "how it scales here, where the time goes, and what more ranks would give")            \
    X(summary, "the layers of a model")                                                            \
    X(show, "a split of a data file, and one of its images")                                       \
    X(convert, "IDX files to one HDF5 data file")                                                  \
    X(synth, "a data file of digits drawn by the program")                                         \
    X(doctor, "what is wrong with this launch, and what mends it")                                 \
    X(accept, "PASSED or FAILED for this machine")

#define COMMAND_DECLARE(name, text) int cmd_##name(int argc, char **argv);
COMMAND_TABLE(COMMAND_DECLARE)
#undef COMMAND_DECLARE

/*
 * Whether this process explains what all agree on. Until a command says so, rank 0 does, as far as
 * the launcher's environment tells the rank.
 */
void command_speaker(int speaks);

/* Whether it is this process. Commands for one process do nothing in the others of a launch. */
int command_speaks(void);

/*
 * Joins the other processes and agrees with them on `status`, that of reading the options. Even a
 * wrong option is said that way: a rank that left before rank 0 has spoken would have the launcher
 * silence it. *comm may be NULL afterwards. Collective.
 */
mnd_status command_join(mnd_status status, mnd_comm **comm);
/* command_exit, then leaves the other processes. Collective. */
int command_leave(mnd_status status, mnd_comm **comm);

/* Logs mnd_error() (from the speaker only) if status is not MND_OK and returns the exit code that
 * belongs to it. */
int command_exit(mnd_status status);

#endif
