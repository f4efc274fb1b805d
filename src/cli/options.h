/*
 * options.h - one table of options a command: parsing, environment, ranges and --help come from it.
 *
 * "--name VALUE", "--name=VALUE"; MNIST_DIST_NAME (upper case, '-' as '_') in the environment means
 * the same and is overridden by the command line. A row may have a letter, too: "-o VALUE". Names
 * may be shortened while unambiguous, as getopt_long(3) allows. "--" ends the options.
 */
#ifndef MNIST_DIST_CLI_OPTIONS_H
#define MNIST_DIST_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "mnist_dist/status.h"

typedef enum option_type {
    OPTION_FLAG,   /* bool *: takes no value (in the environment: 0, 1, true, false, yes, no) */
    OPTION_INT,    /* int64_t *: within [low, high] */
    OPTION_REAL,   /* double *: within [low, high], finite */
    OPTION_TEXT,   /* const char **: not empty */
    OPTION_CHOICE, /* const char **: one of the words of `value`, separated by '|' */
} option_type;

typedef struct option_row {
    const char *name; /* without the dashes; "o,output" takes -o as well (never 'h': help) */
    option_type type;
    void *target;      /* holds the default until the option is given */
    const char *value; /* how --help names the value ("N", "FILE"), or the choices */
    double low, high;
    const char *help; /* one line; the default is part of it */
} option_row;

typedef struct command_usage {
    const char *name;                 /* "predict" */
    const char *arguments;            /* "CKPT [FILE.png...]" or "" */
    const char *text;                 /* what it does, one or more lines */
    int min_arguments, max_arguments; /* positional; max < 0: any number */
} command_usage;

/*
 * argv[0] is the command's name. On success *argument and *n_argument are the positional arguments
 * (pointing into argv, which is permuted). MND_USAGE with one line otherwise. After --help was
 * printed *helped is true and nothing else is set.
 */
MND_CHECKED mnd_status options_parse(const command_usage *usage, const option_row *row, int n_row,
                                     int argc, char **argv, char ***argument, int *n_argument,
                                     bool *helped);

#define OPTION_COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))

#endif
