/* bench_report.h - a finished measurement as tables, as JSON and as a picture. */
#ifndef MNIST_DIST_CLI_BENCH_REPORT_H
#define MNIST_DIST_CLI_BENCH_REPORT_H

#include <stdio.h>

#include "mnist_dist/bench.h"

/* What was asked for, and by what it was computed; strings are borrowed. */
typedef struct bench_about {
    const mnd_bench_config *config;
    const char *mpi;
} bench_about;

void bench_print(FILE *out, const bench_about *about, const mnd_bench *bench);
/* One JSON object; seconds and bytes throughout. */
void bench_write_json(FILE *out, const bench_about *about, const mnd_bench *bench);
/* SVG: speed-up over processes, and exchange time over bytes. */
void bench_write_svg(FILE *out, const mnd_bench *bench);

/* The name of a way for people: "MPI_Allreduce" for "mpi". */
const char *bench_way(const char *way);

#endif
