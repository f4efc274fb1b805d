/*
 * loader.h - the mini-batches of this process: the shards of its logical ranks, shuffled anew for
 * every epoch, as floats.
 */
#ifndef MNIST_DIST_TRAIN_LOADER_H
#define MNIST_DIST_TRAIN_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "mnist_dist/augment.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/model.h"

/* What a loader loads: the batches of logical ranks [first, first + n) of `logical`. */
typedef struct mnd_loader_plan {
    int64_t images; /* of the training split */
    size_t pixels;  /* of one image */
    int64_t batch;  /* global batch size */
    uint64_t seed;
    int logical, first, n;
    /* Segments of a batch: one per logical rank, with subtrees as in logical.h; or, for an exchange
       that adds in an order of its own (mnd_exchange_fixed_order), one of all rows. */
    bool one_segment;
    double smoothing; /* of the labels: see mnd_batch */
    /* Zero: images as they are. Otherwise `threads` threads distort those of (height, width,
       channels) = `size`. */
    mnd_augment augment;
    int size[3], threads;
} mnd_loader_plan;

typedef struct mnd_loader {
    mnd_loader_plan plan;
    int64_t row, rows;      /* training rows held here: [row, row + rows) */
    uint8_t *image, *label; /* (rows, pixels), (rows); owned */
    uint32_t *order;        /* (rows) each shard's permutation in this epoch; owned */
    int max_rows, max_seg;  /* of any batch here */
    uint32_t epoch;
    mnd_segments seg;         /* of the current batch */
    int *start;               /* (n + 1), owned */
    int *group;               /* (n + 1) where the rows of each logical rank begin, owned */
    int *subtree;             /* (n_subtree + 1), owned */
    uint8_t *labels;          /* (max_rows) of the current batch, owned */
    uint32_t *samples;        /* (max_rows), owned */
    mnd_augmenter *augmenter; /* NULL: images as they are */
} mnd_loader;

/*
 * Allocates what a loader needs and leaves image and label for the caller to fill. Zero `loader`
 * before; free it in any case. MND_NO_MEMORY, or as mnd_augmenter_create. Not collective.
 */
MND_CHECKED mnd_status mnd_loader_plan_for(const mnd_loader_plan *plan, mnd_loader *loader);
/* The same, and reads the shards. */
MND_CHECKED mnd_status mnd_loader_open(const mnd_loader_plan *plan, mnd_dataset *data,
                                       mnd_loader *loader);
void mnd_loader_free(mnd_loader *loader);

/* Steps of an epoch, the last one possibly with a short batch. */
int64_t mnd_loader_steps(const mnd_loader *loader);
/* Shuffles the shards for an epoch, counted from 1. */
void mnd_loader_epoch(mnd_loader *loader, int64_t epoch);
/* The batch of step s = 0, 1, ... of the epoch: its pixels as floats in x (max_rows, pixels), the
   rest in *batch, which points into the loader. */
void mnd_loader_batch(mnd_loader *loader, int64_t s, float *x, mnd_batch *batch);

#endif
