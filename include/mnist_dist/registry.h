/*
 * registry.h - the kinds of layers, optimizers and exchanges: those of the program and those that a
 * caller adds, found by name. The first member of their structs is the name, a const char *.
 */
#ifndef MNIST_DIST_REGISTRY_H
#define MNIST_DIST_REGISTRY_H

#include <stddef.h>

#include "mnist_dist/status.h"

enum { MND_REGISTRY_ADDED = 32 };

typedef struct mnd_registry {
    const char *what; /* "layer" */
    int n_built_in, n_added;
    const void *const *built_in;
    const void *added[MND_REGISTRY_ADDED]; /* borrowed */
} mnd_registry;

/* Row i, built-in ones first; NULL after the last. */
const void *mnd_registry_at(const mnd_registry *r, int i);
/* NULL if there is none of that name. */
const void *mnd_registry_find(const mnd_registry *r, const char *name);
/* MND_USAGE if the name is taken or the registry full. `row` must stay. */
MND_CHECKED mnd_status mnd_registry_add(mnd_registry *r, const void *row);
/* All names with `between` between them, as far as they fit. */
void mnd_registry_names(const mnd_registry *r, const char *between, char *out, size_t size);

#endif
