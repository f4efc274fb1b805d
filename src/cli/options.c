#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What getopt_long returns for a long option: beyond every character. */
enum { MAX_ROWS = 64, HELP_CODE = 1000, LONG_CODE = 1001 };

/* "o,output" has the letter 'o' and the name "output"; 0 for a row without a letter. */
static char row_letter(const option_row *row) {
    return row->name[0] != '\0' && row->name[1] == ',' ? row->name[0] : '\0';
}

static const char *row_name(const option_row *row) {
    return row->name + (row_letter(row) != '\0' ? 2 : 0);
}

static void print_help(const command_usage *usage, const option_row *row, int n_row) {
    printf("Usage: mnist_dist %s%s%s [OPTIONS]\n\n%s\n", usage->name,
           usage->arguments[0] != '\0' ? " " : "", usage->arguments, usage->text);
    if (n_row > 0) printf("\nOptions:\n");
    for (int i = 0; i < n_row; i++) {
        char left[96];
        const char letter[] = {'-', row_letter(&row[i]), ',', ' ', '\0'};
        snprintf(left, sizeof left, "%s--%s%s%s", letter[1] != '\0' ? letter : "",
                 row_name(&row[i]), row[i].type == OPTION_FLAG ? "" : " ",
                 row[i].type == OPTION_FLAG ? "" : row[i].value);
        if (strlen(left) > 26)
            printf("  %s\n  %-27s%s\n", left, "", row[i].help);
        else
            printf("  %-27s%s\n", left, row[i].help);
    }
    printf("  %-27s%s\n", "--help", "this text");
    if (n_row > 0) printf("\nMNIST_DIST_<NAME> in the environment means the same as --<name>.\n");
}

static bool is_choice(const char *choices, const char *value) {
    const size_t n = strlen(value);
    for (const char *p = choices; *p != '\0' && n > 0;) {
        const size_t word = strcspn(p, "|");
        if (word == n && strncmp(p, value, n) == 0) return true;
        p += word + (p[word] == '|');
    }
    return false;
}

/* `from` is how the user gave it: "--lr" or "MNIST_DIST_LR". */
static mnd_status set_value(const option_row *row, const char *from, const char *value) {
    char *end = NULL;
    errno = 0;
    switch (row->type) {
    case OPTION_FLAG:
        if (value == NULL || is_choice("1|true|yes|on", value))
            *(bool *)row->target = true;
        else if (is_choice("0|false|no|off", value))
            *(bool *)row->target = false;
        else
            return mnd_fail(MND_USAGE, "%s: '%s' is neither 1 nor 0", from, value);
        return MND_OK;
    case OPTION_INT: {
        const long long x = strtoll(value, &end, 10);
        if (end == value || *end != '\0' || isspace((unsigned char)value[0]))
            return mnd_fail(MND_USAGE, "%s: '%s' is not a whole number", from, value);
        if (errno == ERANGE || (double)x < row->low || (double)x > row->high)
            return mnd_fail(MND_USAGE, "%s: %s is not between %.0f and %.0f", from, value, row->low,
                            row->high);
        *(int64_t *)row->target = x;
        return MND_OK;
    }
    case OPTION_REAL: {
        const double x = strtod(value, &end);
        if (end == value || *end != '\0' || isspace((unsigned char)value[0]))
            return mnd_fail(MND_USAGE, "%s: '%s' is not a number", from, value);
        if (!isfinite(x) || x < row->low || x > row->high)
            return mnd_fail(MND_USAGE, "%s: %s is not between %g and %g", from, value, row->low,
                            row->high);
        *(double *)row->target = x;
        return MND_OK;
    }
    case OPTION_TEXT:
        if (value[0] == '\0') return mnd_fail(MND_USAGE, "%s: the value is empty", from);
        *(const char **)row->target = value;
        return MND_OK;
    case OPTION_CHOICE:
        if (!is_choice(row->value, value))
            return mnd_fail(MND_USAGE, "%s: '%s' is not one of %s", from, value, row->value);
        *(const char **)row->target = value;
        return MND_OK;
    }
    return mnd_fail(MND_INTERNAL, "%s: option of an unknown type", from);
}

static mnd_status read_environment(const option_row *row, int n_row) {
    for (int i = 0; i < n_row; i++) {
        char name[64] = "MNIST_DIST_";
        size_t n = strlen(name);
        for (const char *p = row_name(&row[i]); *p != '\0' && n < sizeof name - 1; p++)
            name[n++] = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
        name[n] = '\0';
        const char *value = getenv(name);
        if (value == NULL) continue;
        const mnd_status status = set_value(&row[i], name, value);
        if (status != MND_OK) return status;
    }
    return MND_OK;
}

mnd_status options_parse(const command_usage *usage, const option_row *row, int n_row, int argc,
                         char **argv, char ***argument, int *n_argument, bool *helped) {
    *helped = false;
    *n_argument = 0;
    struct option long_option[MAX_ROWS + 2] = {0};
    char letters[2 * MAX_ROWS + 3] = ":h"; /* ':' in front: say which error it was */
    size_t n_letters = 2;
    if (n_row > MAX_ROWS) return mnd_fail(MND_INTERNAL, "too many options");
    for (int i = 0; i < n_row; i++) {
        const bool flag = row[i].type == OPTION_FLAG;
        long_option[i] = (struct option){.name = row_name(&row[i]),
                                         .has_arg = flag ? no_argument : required_argument,
                                         .val = LONG_CODE + i};
        if (row_letter(&row[i]) == '\0') continue;
        letters[n_letters++] = row_letter(&row[i]);
        if (!flag) letters[n_letters++] = ':';
    }
    letters[n_letters] = '\0';
    long_option[n_row] = (struct option){.name = "help", .val = HELP_CODE};

    mnd_status status = read_environment(row, n_row);
    if (status != MND_OK) return status;
    optind = 0; /* glibc: start afresh */
    opterr = 0;
    int code;
    while ((code = getopt_long(argc, argv, letters, long_option, NULL)) != -1) {
        if (code == HELP_CODE || code == 'h') {
            print_help(usage, row, n_row);
            *helped = true;
            return MND_OK;
        }
        if (code == '?' || code == ':') {
            /* A letter may stand in the middle of a word, which getopt has then not left yet. */
            const char letter[] = {'-', (char)optopt, '\0'};
            const char *word = optopt > 0 && optopt < HELP_CODE ? letter : argv[optind - 1];
            return mnd_fail(MND_USAGE, "%s: %s %s; see 'mnist_dist %s --help'", usage->name, word,
                            code == ':' ? "needs a value" : "is not a valid option", usage->name);
        }
        int found = code - LONG_CODE;
        for (int i = 0; i < n_row && code < HELP_CODE; i++)
            if (row_letter(&row[i]) == code) found = i;
        const option_row *r = &row[found];
        char from[64];
        snprintf(from, sizeof from, "--%s", row_name(r));
        status = set_value(r, from, optarg);
        if (status != MND_OK) return status;
    }
    *argument = argv + optind;
    *n_argument = argc - optind;
    if (*n_argument < usage->min_arguments)
        return mnd_fail(MND_USAGE, "%s: needs %s; see 'mnist_dist %s --help'", usage->name,
                        usage->arguments, usage->name);
    if (usage->max_arguments >= 0 && *n_argument > usage->max_arguments)
        return mnd_fail(MND_USAGE, "%s: '%s' is one argument too many; see 'mnist_dist %s --help'",
                        usage->name, (*argument)[usage->max_arguments], usage->name);
    return MND_OK;
}
