/* cmd_doctor.c - checks a launch and names the commands that repair it. */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "mnist_dist/doctor.h"
#include "options.h"

/* Prints the findings; returns the highest severity, which decides the exit code. */
static mnd_severity print_findings(const mnd_finding *finding, int n) {
    static const char *const word[] = {"ok", "WARNING", "FATAL"};
    mnd_severity worst = MND_HEALTHY;
    for (int i = 0; i < n; i++) {
        const mnd_finding *f = &finding[i];
        if (f->severity > worst) worst = f->severity;
        printf("%-8s %-12s %s\n", word[f->severity], f->check, f->text);
        if (f->mend[0] != '\0') printf("%-8s %-12s mend: %s\n", "", "", f->mend);
    }
    printf("%s\n", worst == MND_HEALTHY    ? "This launch is sound."
                   : worst == MND_WORRYING ? "This launch works, but see the warnings."
                                           : "This launch must not train: see FATAL.");
    return worst;
}

int cmd_doctor(int argc, char **argv) {
    mnd_doctor_request q = {.data = "data/mnist.h5",
                            .model = "cnn",
                            .batch_size = 128,
                            .checkpoint_dir = "checkpoints"};
    const char *products = "native";
    int64_t threads = 1;
    const option_row rows[] = {
        {"data", OPTION_TEXT, &q.data, "FILE", 0, 0, "HDF5 data file (data/mnist.h5)"},
        {"model", OPTION_TEXT, &q.model, "NAME|SPEC", 0, 0, "for the memory it takes (cnn)"},
        {"batch-size", OPTION_INT, &q.batch_size, "N", 1, 1 << 30, "global (128)"},
        {"checkpoint-dir", OPTION_TEXT, &q.checkpoint_dir, "DIR", 0, 0, "(checkpoints)"},
        {"threads", OPTION_INT, &threads, "T", 1, 256, "threads of each process (1)"},
        {"products", OPTION_CHOICE, &products, "native|openblas", 0, 0, "as train (native)"},
    };
    static const command_usage usage = {
        .name = "doctor",
        .arguments = "",
        .text = "Examines this launch - start it exactly as you start train - and prints what is "
                "wrong\n"
                "with it and the command that repairs it. Exit code 1 if anything is fatal."};
    command_line line;
    int n = 0;
    mnd_comm *comm = NULL;
    mnd_finding finding[MND_MAX_FINDINGS];
    mnd_status status = options_parse(&usage, rows, OPTION_COUNT(rows), argc, argv, &line);
    if (line.helped) return EXIT_DONE;
    status = command_join(status, &comm);
    if (status != MND_OK) return command_leave(status, &comm);
    q.threads = (int)threads;
    q.plain = strcmp(products, "openblas") == 0;
    status = mnd_doctor(comm, &q, false, finding, &n);
    int code = command_exit(status);
    mnd_severity worst = MND_HEALTHY;
    for (int i = 0; i < n; i++)
        if (finding[i].severity > worst) worst = finding[i].severity;
    if (mnd_comm_rank(comm) == 0 && status == MND_OK) worst = print_findings(finding, n);
    if (status == MND_OK && worst == MND_FATAL) code = EXIT_FAILED;
    mnd_comm_finish(&comm);
    return code;
}
