/* cmd_accept.c - tests whether the program works correctly on this machine. */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "mnist_dist/accept.h"
#include "mnist_dist/timer.h"
#include "options.h"

int cmd_accept(int argc, char **argv) {
    mnd_accept_request q = {.min_efficiency = 0.7};
    const char *products = "native";
    int64_t threads = 1;
    const option_row rows[] = {
        {"threads", OPTION_INT, &threads, "T", 1, 256, "threads of each process (1)"},
        {"products", OPTION_CHOICE, &products, "native|openblas", 0, 0,
         "own kernels, or the plain reference by OpenBLAS (native)"},
        {"min-efficiency", OPTION_REAL, &q.min_efficiency, "X", 0, 1,
         "measured over modelled rate of a step (0.7)"},
    };
    static const command_usage usage = {
        .name = "accept",
        .arguments = "",
        .text =
            "Tests this machine, on all processes that mpirun or srun started: a training run "
            "whose\n"
            "answer is known to the bit, an accuracy floor, every exchange against an exact sum,\n"
            "identity of the replicas, and the rate of a step against its model. Needs no data.\n"
            "Exit code 0 if all lines say PASSED, 1 otherwise."};
    command_line line;
    int n = 0, failed = 0;
    mnd_comm *comm = NULL;
    mnd_acceptance row[MND_MAX_ACCEPTANCES];
    mnd_status status = options_parse(&usage, rows, OPTION_COUNT(rows), argc, argv, &line);
    if (line.helped) return EXIT_DONE;
    status = command_join(status, &comm);
    if (status != MND_OK) return command_leave(status, &comm);
    const int rank = mnd_comm_rank(comm);
    q.threads = (int)threads;
    q.plain = strcmp(products, "openblas") == 0;
    const double begin = mnd_now();
    status = mnd_accept(comm, &q, row, &n);
    for (int i = 0; i < n; i++) {
        failed += !row[i].passed;
        if (rank == 0)
            printf("%-6s  %-22s %s\n", row[i].passed ? "PASSED" : "FAILED", row[i].check,
                   row[i].text);
    }
    if (rank == 0)
        printf("%d processes on %d host%s: %d passed, %d failed%s, %.1f s\n", mnd_comm_size(comm),
               mnd_comm_nodes(comm), mnd_comm_nodes(comm) == 1 ? "" : "s", n - failed, failed,
               status == MND_OK ? "" : ", not finished", mnd_now() - begin);
    int code = command_exit(status);
    if (status == MND_OK && failed > 0) code = EXIT_FAILED;
    mnd_comm_finish(&comm);
    return code;
}
