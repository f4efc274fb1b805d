/*
 * evaluate.h - loss, accuracy and confusion over a split, spread over all processes. The split is
 * cut into chunks of a fixed size; every chunk is computed by one process and all sums are made in
 * chunk order: every image counts once and the result has the same bits on any number of processes.
 */
#ifndef MNIST_DIST_EVALUATE_H
#define MNIST_DIST_EVALUATE_H

#include <stdint.h>

#include "mnist_dist/comm.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/model.h"

#define MND_EVALUATE_CHUNK 250 /* images; a model that evaluates has at least as many max_rows */

typedef struct mnd_evaluation {
    int64_t count, correct;
    double loss;        /* mean */
    int64_t *confusion; /* (classes, classes): [right][answer]; owned */
} mnd_evaluation;

typedef struct mnd_evaluator mnd_evaluator; /* this process' chunks; opaque */

/* Reads this process' chunks of the split. Not collective, but all processes must make one. */
MND_CHECKED mnd_status mnd_evaluator_create(mnd_comm *comm, mnd_dataset *data, mnd_split split,
                                            mnd_evaluator **out);
/* The same for rows [first, first + count) of the split. */
MND_CHECKED mnd_status mnd_evaluator_create_rows(mnd_comm *comm, mnd_dataset *data, mnd_split split,
                                                 int64_t first, int64_t count, mnd_evaluator **out);
/* NULL-safe; sets *evaluator to NULL. */
void mnd_evaluator_destroy(mnd_evaluator **evaluator);

/* Same result on every process. `out->confusion` belongs to the evaluator. Collective. */
MND_CHECKED mnd_status mnd_evaluate(mnd_evaluator *evaluator, mnd_model *model,
                                    mnd_evaluation *out);

/*
 * An ensemble: after mnd_evaluator_average every mnd_evaluate also adds the probabilities of its
 * model to a sum (see ensemble.h), and notes which images it answers right. MND_NO_MEMORY. Not
 * collective, but all processes must call it.
 */
MND_CHECKED mnd_status mnd_evaluator_average(mnd_evaluator *evaluator);
/*
 * What the mean of all models so far answers; as mnd_evaluate. The loss is the mean of -log p of
 * the right class; a p below FLT_MIN counts as FLT_MIN. Collective.
 */
MND_CHECKED mnd_status mnd_evaluate_mean(mnd_evaluator *evaluator, mnd_evaluation *out);
/*
 * The images that every model so far got wrong: their numbers in what the evaluator reads, counted
 * from 0, ascending. The same on every process; *index belongs to the evaluator. Collective.
 */
MND_CHECKED mnd_status mnd_evaluator_misread(mnd_evaluator *evaluator, const int64_t **index,
                                             int64_t *n);

#endif
