/* bench_report.h - prints the results of bench as tables, as JSON and as an SVG picture. */
#ifndef MNIST_DIST_CLI_BENCH_REPORT_H
#define MNIST_DIST_CLI_BENCH_REPORT_H

#include <stdio.h>

#include "mnist_dist/bench.h"

/* The configuration of the measurement; strings are borrowed. */
typedef struct bench_about {
    const mnd_bench_config *config;
    const char *mpi; /* the MPI library */
} bench_about;

void bench_print(FILE *out, const bench_about *about, const mnd_bench *bench);
/* One JSON object; seconds and bytes throughout. */
void bench_write_json(FILE *out, const bench_about *about, const mnd_bench *bench);
/* SVG: speed-up over the number of ranks, and time of the exchange over bytes. */
void bench_write_svg(FILE *out, const mnd_bench *bench);

/* The displayed name of an exchange: "MPI_Allreduce" for "mpi". */
const char *bench_way(const char *way);

#endif
