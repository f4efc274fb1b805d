/*
 * feed.h - the mini-batches of this process: the shards of its logical ranks, in each epoch's
 * order.
 */
#ifndef MNIST_DIST_TRAIN_FEED_H
#define MNIST_DIST_TRAIN_FEED_H

#include <stdint.h>

#include "mnist_dist/comm.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/model.h"

typedef struct mnd_feed {
    int64_t images;            /* of the training split */
    int64_t batch;             /* global */
    size_t pixels;             /* of one image */
    int logical, first, n_seg; /* logical ranks [first, first + n_seg) of `logical` */
    uint64_t seed;
    int64_t row, rows;      /* training rows held here: [row, row + rows) */
    uint8_t *image, *label; /* (rows, pixels), (rows); owned */
    uint32_t *order;        /* (rows): each shard's permutation of this epoch; owned */
    int max_rows;           /* most rows of a step here */
    int *start;             /* (n_seg + 1) of the current step; owned */
    int *part, n_part;      /* (n_part + 1) in segments; owned */
    mnd_rows seg;
    int *all_start; /* (logical + 1) of the current step, of all processes; owned */
    /* See mnd_feed_share; stage is NULL before. */
    char *const *stage;
    size_t stage_at;
    int side; /* which of two places was staged last */
    int rank, size, read_first, read_last;
    uint8_t *batch_label;        /* (max_rows), owned */
    uint32_t *batch_sample;      /* (max_rows), owned */
    const uint8_t **batch_image; /* (rows of the current step that are read), owned */
    uint32_t epoch;
} mnd_feed;

/* Reads the shards. Not collective. Zero `feed` before; free it in any case. */
MND_CHECKED mnd_status mnd_feed_create(mnd_feed *feed, mnd_dataset *data, int logical, int first,
                                       int n_seg, int64_t batch, uint64_t seed);
/*
 * The same without the images: the caller fills image and label with training rows [row, row +
 * rows) of `images` images.
 */
MND_CHECKED mnd_status mnd_feed_plan(mnd_feed *feed, int64_t images, size_t pixels, int logical,
                                     int first, int n_seg, int64_t batch, uint64_t seed);
void mnd_feed_free(mnd_feed *feed);

/*
 * What a model needs to know of the processes of `comm`, which share the feed's logical ranks: none
 * unless all of them are on one node. None has room for fewer than `least` rows.
 */
mnd_peers mnd_feed_peers(const mnd_feed *feed, const mnd_comm *comm, int least);

int64_t mnd_feed_steps(const mnd_feed *feed); /* in an epoch */
/* Shuffles for an epoch, counted from 1. */
void mnd_feed_epoch(mnd_feed *feed, int64_t epoch);
/*
 * Step s = 0, 1, ... of the epoch: fills *batch, pointing into the feed. Its images are the own
 * ones, at most max_rows, or those of all peers that are read.
 */
void mnd_feed_batch(mnd_feed *feed, int64_t s, mnd_batch *batch);

/* Bytes that each of `size` processes on a node must lend for what follows. */
size_t mnd_feed_stage_size(const mnd_feed *feed, int size);
/*
 * From now on mnd_feed_batch takes the rows of peers [first, last) of `size`, of which this process
 * is number `rank`, from where mnd_feed_stage of each has left them: at memory[p] + at.
 */
void mnd_feed_share(mnd_feed *feed, char *const *memory, size_t at, int rank, int size, int first,
                    int last);
/*
 * Leaves the pixels of the own rows of step s for the peers. All must have done it before anyone
 * calls mnd_feed_batch for that step. There are two places in turn: while one step's images are in
 * use, the next one's may be staged. `sends`: by mnd_send.
 */
void mnd_feed_stage(mnd_feed *feed, int64_t s, bool sends);
#endif
