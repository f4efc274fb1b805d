#include "environment.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mnist_dist/kernels.h"
#include "mnist_dist/log.h"
#include "nearest.h"
#include "options.h"

enum { MAX_NAMES = 512, LONGEST = 64 };

static const char prefix[] = "MNIST_DIST_";

/* The variables that the program reads. */
typedef struct names {
    char name[MAX_NAMES][LONGEST];
    int n;
} names;

static void add_rows(void *context, const option_row *row, int n_row) {
    names *known = context;
    for (int i = 0; i < n_row && known->n < MAX_NAMES; i++)
        options_variable(&row[i], known->name[known->n++], LONGEST);
}

static void check_name(const names *known, const char *name) {
    nearest found = {.word = name + sizeof prefix - 1};
    for (int i = 0; i < known->n; i++) {
        if (strcmp(known->name[i], name) == 0) return;
        nearest_offer(&found, known->name[i] + sizeof prefix - 1);
    }
    if (found.best != NULL)
        mnd_log(MND_LOG_WARNING, "%s in the environment is unknown and ignored; did you mean %s%s?",
                name, prefix, found.best);
    else
        mnd_log(MND_LOG_WARNING,
                "%s in the environment is unknown and ignored; 'mnist_dist COMMAND --help' lists "
                "the options",
                name);
}

static void check_kernels(const char *value) {
    char all[128] = "", hint[64] = "";
    nearest found = {.word = value};
    for (int i = 0; mnd_kernels_at(i) != NULL; i++) {
        const char *name = mnd_kernels_at(i)->name;
        if (strcmp(name, value) == 0) return;
        nearest_offer(&found, name);
        const size_t n = strlen(all);
        snprintf(all + n, sizeof all - n, "%s%s", i > 0 ? ", " : "", name);
    }
    if (found.best != NULL) snprintf(hint, sizeof hint, "did you mean %s? ", found.best);
    mnd_log(MND_LOG_WARNING,
            "MNIST_DIST_KERNELS: '%s' is not one of %s, which this processor can run; %s"
            "Using %s",
            value, all, hint, mnd_kernels_at(0)->name);
}

void environment_check(void (*visit_all)(void)) {
    static names known = {.name = {"MNIST_DIST_KERNELS", "MNIST_DIST_FAULT"}, .n = 2};
    const char *kernels = getenv("MNIST_DIST_KERNELS");
    if (kernels != NULL && kernels[0] != '\0') check_kernels(kernels);
    bool visited = false;
    for (char **entry = environ; *entry != NULL; entry++) {
        const char *equals = strchr(*entry, '=');
        char name[256];
        if (strncmp(*entry, prefix, sizeof prefix - 1) != 0 || equals == NULL) continue;
        if (!visited) {
            options_visit(add_rows, &known);
            visit_all();
            options_visit(NULL, NULL);
            visited = true;
        }
        snprintf(name, sizeof name, "%.*s", (int)(equals - *entry), *entry);
        check_name(&known, name);
    }
}
