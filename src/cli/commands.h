/* commands.h - the subcommands. argv[0] is the name of the command; each returns the exit code. */
#ifndef MNIST_DIST_CLI_COMMANDS_H
#define MNIST_DIST_CLI_COMMANDS_H

#include "mnist_dist/comm.h"
#include "mnist_dist/status.h"

/* Exit codes, which scripts and batch systems rely on. STOPPED: by a signal, after a checkpoint. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_STOPPED = 75 };

/* name, and one line for the list of commands */
#define COMMAND_TABLE(X)                                                                           \
    X(train, "train, evaluate after each epoch, write checkpoints")                                \
    X(evaluate, "loss, accuracy and confusion matrix of a checkpoint")                             \
    X(predict, "class probabilities of one image or of pictures")                                  \
    X(bench, "how it scales here, where the time goes, and what more ranks would give")            \
    X(summary, "the layers of a model")                                                            \
    X(show, "a split of a data file, and one of its images")                                       \
    X(convert, "images in IDX, CSV, npz, PNG, CIFAR or HDF5 files to one data file")               \
    X(synth, "a data file of digits drawn by the program")                                         \
    X(doctor, "what is wrong with this launch, and how to repair it")                              \
    X(accept, "PASSED or FAILED for this machine")

#define COMMAND_DECLARE(name, text) int cmd_##name(int argc, char **argv);
COMMAND_TABLE(COMMAND_DECLARE)
#undef COMMAND_DECLARE

/*
 * Whether this process prints the error lines that all processes of a launch have in common: rank
 * 0. Before command_join the rank is taken from the environment variables of the launcher. Commands
 * for one process do nothing in the other processes of a launch.
 */
int command_is_first(void);

/*
 * Starts communication and agrees with all processes on `status`, the result of reading the
 * options. Called even after a wrong option: if another rank exited before rank 0 has printed the
 * error line, the launcher could kill rank 0 first. *comm may be NULL afterwards. Collective.
 */
mnd_status command_join(mnd_status status, mnd_comm **comm);
/* command_exit, then ends communication. Collective. */
int command_leave(mnd_status status, mnd_comm **comm);

/* A mnd_checkpoint_skipped_fn: warns of the damaged checkpoint. */
void command_skipped(void *context, const char *path, const char *why);

/* Returns the exit code of `status`. Unless it is MND_OK, the first process logs mnd_error(). */
int command_exit(mnd_status status);

#endif
