/*
 * options.h - reads command lines. Every command describes its options in one table, from which
 * parsing, environment variables, range checks and --help are derived.
 *
 * Forms: "--name VALUE", "--name=VALUE", and "-o VALUE" if the row has a letter. Names may be
 * abbreviated as long as they are unambiguous, as getopt_long(3) allows. "--" ends the options. The
 * environment variable MNIST_DIST_NAME (upper case, '_' instead of '-') means the same as --name;
 * the command line takes precedence.
 */
#ifndef MNIST_DIST_CLI_OPTIONS_H
#define MNIST_DIST_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/status.h"

typedef enum option_type {
    OPTION_FLAG,   /* bool *: no value; in the environment 1, true, yes, on, 0, false, no, off */
    OPTION_INT,    /* int64_t *: within [low, high] */
    OPTION_REAL,   /* double *: within [low, high], finite */
    OPTION_TEXT,   /* const char **: not empty */
    OPTION_CHOICE, /* const char **: one of the words of `value`, separated by '|' */
} option_type;

typedef struct option_row {
    const char
        *name; /* without the dashes; "o,output" also accepts -o ('h' is reserved for help) */
    option_type type;
    void *target;      /* of the type given above; holds the default value before parsing */
    const char *value; /* the name of the value in --help ("N", "FILE"), or the choices */
    double low, high;
    const char *help; /* one line, which mentions the default */
} option_row;

typedef struct command_usage {
    const char *name;                 /* "predict" */
    const char *arguments;            /* "CKPT [FILE.png...]" or "" */
    const char *text;                 /* what the command does, one or more lines */
    int min_arguments, max_arguments; /* positional; max < 0: any number */
} command_usage;

/* What is left of a command line after its options. */
typedef struct command_line {
    char **argument; /* the positional arguments, in argv */
    int n_argument;
    bool helped; /* --help was given and printed; then there are no arguments */
} command_line;

/*
 * Reads the environment, then the options of argv, into the targets of the rows. argv[0] is the
 * command's name; argv is permuted so that the positional arguments come last. MND_USAGE with one
 * line for anything that does not fit the table.
 */
MND_CHECKED mnd_status options_parse(const command_usage *usage, const option_row *row, int n_row,
                                     int argc, char **argv, command_line *out);

/*
 * While a function is set, options_parse reads nothing: it calls `visit` with the rows and reports
 * `helped`, upon which every command returns without doing anything. NULL ends that.
 */
typedef void (*options_visit_fn)(void *context, const option_row *row, int n_row);
void options_visit(options_visit_fn visit, void *context);

/* MND_USAGE for a word with a carriage return; `from` is where it comes from. */
MND_CHECKED mnd_status options_check_word(const char *from, const char *word);

/* The environment variable of an option, "MNIST_DIST_BATCH_SIZE"; cut to fit. */
void options_variable(const option_row *row, char *out, size_t size);

#define OPTION_COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))

#endif
