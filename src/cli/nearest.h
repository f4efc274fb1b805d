/* nearest.h - finds the word that a mistyped one was probably meant to be. */
#ifndef MNIST_DIST_CLI_NEAREST_H
#define MNIST_DIST_CLI_NEAREST_H

#include <stddef.h>

/*
 * The best candidate so far. Start with {.word = ...}, offer every candidate, then read `best`:
 * NULL if none is near enough.
 */
typedef struct nearest {
    const char *word; /* what was typed */
    const char *best; /* borrowed from the caller of nearest_offer */
    int distance;
} nearest;

/*
 * Compares by edit distance: insertions, deletions, substitutions, and transpositions of neighbours
 * count one each. Case does not count, nor '-' for '_'. Near enough is a third of the letters; a
 * candidate that begins with the whole word (of 3 letters or more) counts as one edit.
 */
void nearest_offer(nearest *n, const char *candidate);

#endif
