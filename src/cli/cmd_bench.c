/* cmd_bench.c - measures how the program scales on these processes. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench_report.h"
#include "commands.h"
#include "mnist_dist/bench.h"
#include "mnist_dist/folder.h"
#include "options.h"

typedef struct choices {
    const char *optimizer, *products, *json, *plot;
    int64_t steps, repeats, messages, threads, seed;
    bool synthetic;
} choices;

/* Called before the measurement, so that a wrong path is reported at once. */
static mnd_status open_file(const char *path, FILE **out) {
    *out = NULL;
    if (path == NULL) return MND_OK;
    const mnd_status made = mnd_folder_make_parents(path);
    if (made != MND_OK) return made;
    *out = fopen(path, "we");
    if (*out == NULL) return mnd_fail(MND_IO, "%s: cannot write: %s", path, strerror(errno));
    return MND_OK;
}

/* MND_OK if there is nothing to close. */
static mnd_status close_file(const char *path, FILE **file) {
    if (*file == NULL) return MND_OK;
    const bool bad = ferror(*file) != 0;
    if (fclose(*file) == 0 && !bad) {
        *file = NULL;
        return MND_OK;
    }
    *file = NULL;
    return mnd_fail(MND_IO, "%s: cannot write: %s", path, strerror(errno));
}

static void show(void *context, int done, int all) {
    (void)context;
    if (isatty(STDERR_FILENO) != 1) return;
    fprintf(stderr, "\r\033[K");
    if (done < all) fprintf(stderr, "measuring, %d of %d", done, all);
    fflush(stderr);
}

static mnd_status bench(mnd_comm *comm, const mnd_bench_config *c, const choices *k) {
    mnd_status status = MND_OK;
    mnd_bench result = {0};
    FILE *json = NULL, *plot = NULL;
    const bool first = mnd_comm_rank(comm) == 0;
    if (first) {
        status = open_file(k->json, &json);
        if (status == MND_OK) status = open_file(k->plot, &plot);
    }
    MND_TRY(mnd_comm_agree(comm, status, NULL));
    MND_TRY(mnd_bench_run(c, comm, show, NULL, &result));
    if (first) {
        const bench_about about = {.config = c, .mpi = mnd_comm_library(comm)};
        bench_print(stdout, &about, &result);
        if (json != NULL) bench_write_json(json, &about, &result);
        if (plot != NULL) bench_write_svg(plot, &result);
        status = close_file(k->json, &json);
        if (status == MND_OK) status = close_file(k->plot, &plot);
    }
    MND_TRY(mnd_comm_agree(comm, status, NULL));
cleanup:
    /* Still open only after a failure, when nothing was written to them. */
    if (json != NULL) (void)fclose(json);
    if (plot != NULL) (void)fclose(plot);
    mnd_bench_free(&result);
    return status;
}

int cmd_bench(int argc, char **argv) {
    mnd_bench_config c = {.model = "cnn", .exchange = "auto", .batch_size = 128};
    choices k = {.optimizer = "adam",
                 .products = "native",
                 .steps = 50,
                 .repeats = 7,
                 .messages = 10,
                 .threads = 1,
                 .seed = 1};
    const option_row rows[] = {
        {"data", OPTION_TEXT, &c.data, "FILE", 0, 0,
         "images of an HDF5 data file (drawn digits, made in memory)"},
        {"synthetic", OPTION_FLAG, &k.synthetic, "", 0, 0,
         "drawn digits, whatever MNIST_DIST_DATA says"},
        {"images", OPTION_INT, &c.images, "N", 1, 1 << 30,
         "train on so many at most (all of the file; 60000 drawn ones)"},
        {"model", OPTION_TEXT, &c.model, "NAME|SPEC", 0, 0, "as in train (cnn)"},
        {"optimizer", OPTION_CHOICE, &k.optimizer, "adam|adamw|rmsprop|sgd", 0, 0, "(adam)"},
        {"batch-size", OPTION_INT, &c.batch_size, "N", 1, 1 << 24,
         "strong scaling: over all processes together; weak: of each (128)"},
        {"steps", OPTION_INT, &k.steps, "N", 1, 1000000, "steps of a turn (50)"},
        {"repeats", OPTION_INT, &k.repeats, "N", 1, 1000,
         "turns; printed are medians, so let it be 5 or more (7)"},
        {"messages", OPTION_INT, &k.messages, "N", 1, 100000,
         "messages of each size in a turn of the exchange alone (10)"},
        {"exchange", OPTION_TEXT, &c.exchange, "NAME", 0, 0,
         "auto, mpi, tree, shared or hierarchical (auto)"},
        {"threads", OPTION_INT, &k.threads, "T", 1, 256, "threads of each process (1)"},
        {"products", OPTION_CHOICE, &k.products, "native|openblas", 0, 0,
         "own kernels, or the plain reference by OpenBLAS (native)"},
        {"seed", OPTION_INT, &k.seed, "N", 0, 9e15, "(1)"},
        {"json", OPTION_TEXT, &k.json, "FILE", 0, 0, "all figures, as one JSON object"},
        {"plot", OPTION_TEXT, &k.plot, "FILE.svg", 0, 0, "speed-up and exchange as a picture"},
    };
    static const command_usage usage = {
        .name = "bench",
        .arguments = "",
        .text =
            "Under mpirun -np P: trains on the first 1, 2, 4 ... P processes in turns while the\n"
            "others sleep (strong scaling: the same batch over all; weak: the same batch each),\n"
            "says where the time went and which rank was slowest, measures the exchange alone,\n"
            "and predicts what more ranks would give."};
    command_line line;
    mnd_comm *comm = NULL;
    mnd_status status = options_parse(&usage, rows, OPTION_COUNT(rows), argc, argv, &line);
    if (line.helped) return EXIT_DONE;
    if (status == MND_OK) status = mnd_optimizer_default(k.optimizer, &c.optimizer);
    c.plain = strcmp(k.products, "openblas") == 0;
    c.steps = (int)k.steps;
    c.repeats = (int)k.repeats;
    c.messages = (int)k.messages;
    c.threads = (int)k.threads;
    c.seed = (uint64_t)k.seed;
    if (k.synthetic) c.data = NULL;
    status = command_join(status, &comm);
    if (status == MND_OK) status = bench(comm, &c, &k);
    return command_leave(status, &comm);
}
