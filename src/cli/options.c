#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nearest.h"

enum {
    MAX_ROWS = 64,
    /* What getopt_long returns for --help and for the long option of row 0, 1, ...: values that
     * differ from those of all characters, which it returns for letters. */
    HELP_CODE = 1000,
    LONG_CODE
};

/* 'o' for a row named "o,output"; '\0' for one without a letter. */
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

mnd_status options_check_word(const char *from, const char *word) {
    if (strchr(word, '\r') == NULL) return MND_OK;
    return mnd_fail(MND_USAGE,
                    "%s: '%s' has a carriage return, as scripts saved on Windows do; "
                    "sed -i 's/\\r$//' SCRIPT removes them",
                    from, word);
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

static mnd_status set_flag(const option_row *row, const char *from, const char *value) {
    if (value == NULL || is_choice("1|true|yes|on", value))
        *(bool *)row->target = true;
    else if (is_choice("0|false|no|off", value))
        *(bool *)row->target = false;
    else
        return mnd_fail(MND_USAGE, "%s: '%s' is not one of 1, true, yes, on, 0, false, no, off",
                        from, value);
    return MND_OK;
}

static mnd_status set_int(const option_row *row, const char *from, const char *value) {
    char *end = NULL;
    errno = 0;
    const long long x = strtoll(value, &end, 10);
    if (end == value || *end != '\0' || isspace((unsigned char)value[0]))
        return mnd_fail(MND_USAGE, "%s: '%s' is not a whole number", from, value);
    if (errno == ERANGE || (double)x < row->low || (double)x > row->high)
        return mnd_fail(MND_USAGE, "%s: %s is not between %.0f and %.0f", from, value, row->low,
                        row->high);
    *(int64_t *)row->target = x;
    return MND_OK;
}

static mnd_status set_real(const option_row *row, const char *from, const char *value) {
    char *end = NULL;
    const double x = strtod(value, &end);
    if (end == value || *end != '\0' || isspace((unsigned char)value[0]))
        return mnd_fail(MND_USAGE, "%s: '%s' is not a number%s", from, value,
                        *end == ',' ? "; write decimals with a point" : "");
    if (!isfinite(x) || x < row->low || x > row->high)
        return mnd_fail(MND_USAGE, "%s: %s is not between %g and %g", from, value, row->low,
                        row->high);
    *(double *)row->target = x;
    return MND_OK;
}

static mnd_status refuse_choice(const option_row *row, const char *from, const char *value) {
    char words[256];
    nearest found = {.word = value};
    snprintf(words, sizeof words, "%s", row->value);
    for (char *rest = words, *word; (word = strsep(&rest, "|")) != NULL;)
        nearest_offer(&found, word);
    if (found.best == NULL)
        return mnd_fail(MND_USAGE, "%s: '%s' is not one of %s", from, value, row->value);
    return mnd_fail(MND_USAGE, "%s: '%s' is not one of %s; did you mean %s?", from, value,
                    row->value, found.best);
}

/*
 * `from` names the place that the value comes from, for error lines: "--lr" or "MNIST_DIST_LR".
 * `value` is NULL for a flag on the command line.
 */
static mnd_status set_value(const option_row *row, const char *from, const char *value) {
    switch (row->type) {
    case OPTION_FLAG: return set_flag(row, from, value);
    case OPTION_INT: return set_int(row, from, value);
    case OPTION_REAL: return set_real(row, from, value);
    case OPTION_TEXT:
        if (value[0] == '\0') return mnd_fail(MND_USAGE, "%s: the value is empty; give one", from);
        *(const char **)row->target = value;
        return MND_OK;
    case OPTION_CHOICE:
        if (!is_choice(row->value, value)) return refuse_choice(row, from, value);
        *(const char **)row->target = value;
        return MND_OK;
    }
    return mnd_fail(MND_INTERNAL, "%s: option of an unknown type", from);
}

static char environment_char(char c) { return c == '-' ? '_' : (char)toupper((unsigned char)c); }

void options_variable(const option_row *row, char *out, size_t size) {
    const char *option = row_name(row);
    size_t n = (size_t)snprintf(out, size, "MNIST_DIST_");
    for (; *option != '\0' && n < size - 1; option++) out[n++] = environment_char(*option);
    out[n] = '\0';
}

static mnd_status read_environment(const option_row *row, int n_row) {
    for (int i = 0; i < n_row; i++) {
        char name[64];
        options_variable(&row[i], name, sizeof name);
        const char *value = getenv(name);
        if (value == NULL) continue;
        mnd_status status = options_check_word(name, value);
        if (status == MND_OK) status = set_value(&row[i], name, value);
        if (status != MND_OK) return status;
    }
    return MND_OK;
}

/* What getopt_long takes: all letters in one string, all names in one table. */
typedef struct getopt_tables {
    char letters[2 * MAX_ROWS + 3];
    struct option names[MAX_ROWS + 2]; /* the options, --help, and a zeroed row as the end */
} getopt_tables;

static void make_tables(const option_row *row, int n_row, getopt_tables *out) {
    /* The leading ':' makes getopt_long return ':' for a missing value and '?' for other errors. */
    *out = (getopt_tables){.letters = ":h"};
    size_t n_letters = strlen(out->letters);
    for (int i = 0; i < n_row; i++) {
        const bool flag = row[i].type == OPTION_FLAG;
        out->names[i] = (struct option){.name = row_name(&row[i]),
                                        .has_arg = flag ? no_argument : required_argument,
                                        .val = LONG_CODE + i};
        if (row_letter(&row[i]) == '\0') continue;
        out->letters[n_letters++] = row_letter(&row[i]);
        if (!flag) out->letters[n_letters++] = ':';
    }
    out->names[n_row] = (struct option){.name = "help", .val = HELP_CODE};
}

/*
 * "; did you mean --batch-size?" for a word like "--batch_size=64" or "batch_size", "" if no option
 * is near.
 */
static void suggest(const option_row *row, int n_row, const char *word, char *out, size_t size) {
    char name[64];
    const char *start = word + strspn(word, "-");
    snprintf(name, sizeof name, "%.*s", (int)strcspn(start, "="), start);
    nearest found = {.word = name};
    nearest_offer(&found, "help");
    for (int i = 0; i < n_row; i++) nearest_offer(&found, row_name(&row[i]));
    out[0] = '\0';
    if (found.best != NULL) snprintf(out, size, "; did you mean --%s?", found.best);
}

/* The line for an option that getopt_long returned as '?' (unknown) or ':' (without its value). */
static mnd_status refuse_option(const command_usage *usage, const option_row *row, int n_row,
                                int code, char **argv) {
    /*
     * optopt is the letter of the wrong option; for a long option it is its code, or 0 if there is
     * no such option. The wrong long option is argv[optind - 1]. This does not hold for letters: in
     * "-vx", optind is only incremented after the last letter of the word.
     */
    const char letter[] = {'-', (char)optopt, '\0'};
    const char *word = optopt > 0 && optopt < HELP_CODE ? letter : argv[optind - 1];
    if (code == ':')
        return mnd_fail(MND_USAGE, "%s: %s needs a value; see 'mnist_dist %s --help'", usage->name,
                        word, usage->name);
    char hint[96] = "";
    if (word != letter) suggest(row, n_row, word, hint, sizeof hint);
    return mnd_fail(MND_USAGE, "%s: %s is not a valid option%s%s 'mnist_dist %s --help'",
                    usage->name, word, hint, hint[0] != '\0' ? " See" : "; see", usage->name);
}

/* The row that a code returned by getopt_long stands for. */
static const option_row *find_row(const option_row *row, int n_row, int code) {
    if (code >= LONG_CODE) return &row[code - LONG_CODE];
    for (int i = 0; i < n_row; i++)
        if (row_letter(&row[i]) == code) return &row[i];
    return NULL;
}

static mnd_status check_arguments(const command_usage *usage, const option_row *row, int n_row,
                                  char **argument, int n_argument) {
    if (n_argument < usage->min_arguments)
        return mnd_fail(MND_USAGE, "%s: needs %s; see 'mnist_dist %s --help'", usage->name,
                        usage->arguments, usage->name);
    if (usage->max_arguments < 0 || n_argument <= usage->max_arguments) return MND_OK;
    const char *word = argument[usage->max_arguments];
    char hint[96];
    suggest(row, n_row, word, hint, sizeof hint);
    return mnd_fail(MND_USAGE, "%s: '%s' is one argument too many%s%s 'mnist_dist %s --help'",
                    usage->name, word, hint, hint[0] != '\0' ? " See" : "; see", usage->name);
}

static options_visit_fn visitor;
static void *visitor_context;

void options_visit(options_visit_fn visit, void *context) {
    visitor = visit;
    visitor_context = context;
}

mnd_status options_parse(const command_usage *usage, const option_row *row, int n_row, int argc,
                         char **argv, command_line *out) {
    getopt_tables tables;
    *out = (command_line){0};
    if (visitor != NULL) {
        visitor(visitor_context, row, n_row);
        out->helped = true;
        return MND_OK;
    }
    if (n_row > MAX_ROWS) return mnd_fail(MND_INTERNAL, "too many options");
    make_tables(row, n_row, &tables);
    mnd_status status = read_environment(row, n_row);
    for (int i = 1; status == MND_OK && i < argc; i++)
        status = options_check_word(usage->name, argv[i]);
    if (status != MND_OK) return status;
    optind = 0; /* for glibc: start again, also after an earlier call */
    opterr = 0;
    int code;
    while ((code = getopt_long(argc, argv, tables.letters, tables.names, NULL)) != -1) {
        if (code == HELP_CODE || code == 'h') {
            print_help(usage, row, n_row);
            out->helped = true;
            return MND_OK;
        }
        if (code == '?' || code == ':') return refuse_option(usage, row, n_row, code, argv);
        const option_row *r = find_row(row, n_row, code);
        char from[64];
        if (r == NULL) return mnd_fail(MND_INTERNAL, "%s: unexpected option", usage->name);
        snprintf(from, sizeof from, "--%s", row_name(r));
        status = set_value(r, from, optarg);
        if (status != MND_OK) return status;
    }
    out->argument = argv + optind;
    out->n_argument = argc - optind;
    return check_arguments(usage, row, n_row, out->argument, out->n_argument);
}
