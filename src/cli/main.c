/* main.c - calls the subcommand. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "commands.h"
#include "environment.h"
#include "mnist_dist/log.h"
#include "mnist_dist/subnormal.h"
#include "nearest.h"
#include "options.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *text;
} command[] = {
#define COMMAND_ROW(name, text) {#name, cmd_##name, text},
    COMMAND_TABLE(COMMAND_ROW)
#undef COMMAND_ROW
};
enum { N_COMMANDS = sizeof command / sizeof command[0] };

static int is_first = -1; /* whether this is rank 0; -1: communication has not started */

int command_is_first(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
    if (is_first >= 0) return is_first;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *rank = getenv(names[i]);
        if (rank != NULL) return strcmp(rank, "0") == 0;
    }
    return 1;
}

mnd_status command_join(mnd_status status, mnd_comm **comm) {
    char why[1024];
    snprintf(why, sizeof why, "%s", mnd_error());
    const mnd_status joined = mnd_comm_start(comm);
    if (joined != MND_OK) return joined;
    is_first = mnd_comm_rank(*comm) == 0;
    if (status != MND_OK) status = mnd_fail(status, "%s", why);
    return mnd_comm_agree(*comm, status, NULL);
}

void command_skipped(void *context, const char *path, const char *why) {
    (void)context;
    (void)path; /* `why` begins with it */
    if (command_is_first()) mnd_log(MND_LOG_WARNING, "passed over: %s", why);
}

int command_exit(mnd_status status) {
    if (status == MND_OK) return EXIT_DONE;
    if (command_is_first())
        mnd_log(status == MND_STOPPED ? MND_LOG_INFO : MND_LOG_ERROR, "%s", mnd_error());
    if (status == MND_STOPPED) return EXIT_STOPPED;
    return status == MND_USAGE ? EXIT_USAGE : EXIT_FAILED;
}

int command_leave(mnd_status status, mnd_comm **comm) {
    const int code = command_exit(status);
    mnd_comm_finish(comm);
    return code;
}

static void print_help(void) {
    printf("Usage: mnist_dist [COMMAND] [OPTIONS]\n"
           "       mpirun -np 8 mnist_dist [train] [OPTIONS]\n\n"
           "Distributed data-parallel training on MNIST over MPI.\n\nCommands:\n");
    for (int i = 0; i < N_COMMANDS; i++) printf("  %-10s%s\n", command[i].name, command[i].text);
    printf(
        "\nNo command means train. 'mnist_dist COMMAND --help' lists the options.\n"
        "Exit codes: 0 done, 1 failed, 2 wrong usage, 75 stopped by a signal after a checkpoint\n"
        "(start again with --resume auto to continue).\n");
}

/*
 * The program may have been started with closed standard input, output or error. The next file that
 * is opened, data or a checkpoint, would then get that number, and all that is printed. Hence a
 * place that cannot be read or written takes the number; each attempt fails as on a closed file.
 */
static void occupy_closed_files(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/", O_PATH) != fd) _exit(EXIT_FAILED);
}

/* If results could not be written to stdout (a full disk), the command has failed. */
static int finish_output(int code) {
    errno = 0;
    if ((fflush(stdout) == 0 && ferror(stdout) == 0) || code != EXIT_DONE) return code;
    if (errno == EBADF)
        return command_exit(mnd_fail(MND_IO, "standard output is closed, so the results are lost; "
                                             "if they are not needed, start with >/dev/null"));
    return command_exit(mnd_fail(MND_IO, "cannot write to standard output: %s",
                                 strerror(errno != 0 ? errno : EIO)));
}

/*
 * OpenBLAS starts one thread per core when it is loaded. Each thread allocates 128 MB of address
 * space and retries for ever if a limit (ulimit -v, some batch systems) forbids it, so that the
 * program would never end. The number of threads can only be set by an environment variable before
 * OpenBLAS is loaded. Under such a limit the program therefore sets it and starts itself again.
 */
static void keep_openblas_small(char **argv) {
    struct rlimit most;
    if (getrlimit(RLIMIT_AS, &most) != 0 || most.rlim_cur == RLIM_INFINITY) return;
    if (getenv("OPENBLAS_NUM_THREADS") != NULL || setenv("OPENBLAS_NUM_THREADS", "1", 1) != 0)
        return;
    (void)execv("/proc/self/exe", argv); /* if that fails, continue without */
}

/* For environment_check: every command gives its options to options_visit and returns. */
static void visit_all(void) {
    static char name[] = "";
    for (int i = 0; i < N_COMMANDS; i++) (void)command[i].run(1, (char *[]){name, NULL});
}

static int refuse_command(const char *name) {
    const mnd_status status = options_check_word("mnist_dist", name);
    if (status != MND_OK) return command_exit(status);
    nearest found = {.word = name};
    for (int i = 0; i < N_COMMANDS; i++) nearest_offer(&found, command[i].name);
    if (!command_is_first()) return EXIT_USAGE;
    if (found.best != NULL)
        mnd_log(MND_LOG_ERROR, "'%s' is not a command; did you mean %s? See 'mnist_dist --help'",
                name, found.best);
    else
        mnd_log(MND_LOG_ERROR, "'%s' is not a command; see 'mnist_dist --help'", name);
    return EXIT_USAGE;
}

int main(int argc, char **argv) {
    occupy_closed_files();
    keep_openblas_small(argv);
    (void)mnd_flush_subnormals();
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help();
        return finish_output(EXIT_DONE);
    }
    if (strcmp(name, "--version") == 0) {
        printf("mnist_dist %s\n", MND_VERSION);
        return finish_output(EXIT_DONE);
    }
    /* Without a command the options are those of train. */
    static char train[] = "train";
    const int skip = name[0] != '\0' && name[0] != '-';
    if (!skip) {
        name = train;
        argv[0] = train;
    }
    if (command_is_first()) environment_check(visit_all);
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(name, command[i].name) == 0)
            return finish_output(command[i].run(argc - skip, argv + skip));
    return refuse_command(name);
}
