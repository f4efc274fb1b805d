#include "feed.h"

#include <string.h>

#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/rng.h"

/* Most rows of a step that n logical ranks have: each gives at most one a full turn of tickets. */
static int64_t widest(int64_t batch, int64_t logical, int64_t n) {
    const int64_t most = (batch + logical - 1) / logical * n;
    return most < batch ? most : batch;
}

mnd_status mnd_feed_plan(mnd_feed *feed, int64_t images, size_t pixels, int logical, int first,
                         int n_seg, int64_t batch, uint64_t seed) {
    mnd_status status = MND_OK;
    void *p = NULL;
    feed->images = images;
    feed->batch = batch;
    feed->pixels = pixels;
    feed->logical = logical;
    feed->first = first;
    feed->n_seg = n_seg;
    feed->seed = seed;
    feed->row = mnd_shard_first(feed->images, logical, first);
    feed->rows = mnd_shard_first(feed->images, logical, first + n_seg) - feed->row;
    const int64_t most = widest(batch, logical, n_seg);
    feed->max_rows = (int)(most < feed->rows ? most : feed->rows);

    MND_TRY(mnd_alloc(&p, (size_t)feed->rows, feed->pixels, "this rank's shard of the images"));
    feed->image = p;
    MND_TRY(mnd_alloc(&p, (size_t)feed->rows, 1, "this rank's shard of the labels"));
    feed->label = p;
    MND_TRY(mnd_alloc(&p, (size_t)feed->rows, sizeof *feed->order, "the order of the samples"));
    feed->order = p;
    MND_TRY(mnd_alloc(&p, (size_t)n_seg + 1, sizeof *feed->start, "the batch"));
    feed->start = p;
    MND_TRY(mnd_alloc(&p, (size_t)logical + 1, sizeof *feed->all_start, "the batch"));
    feed->all_start = p;
    feed->n_part = mnd_tree_parts(logical, first, first + n_seg, NULL);
    MND_TRY(mnd_alloc(&p, (size_t)feed->n_part + 1, sizeof *feed->part, "the batch"));
    feed->part = p;
    (void)mnd_tree_parts(logical, first, first + n_seg, feed->part);
    for (int i = 0; i <= feed->n_part; i++) feed->part[i] -= first;
    MND_TRY(mnd_alloc(&p, (size_t)feed->max_rows, sizeof *feed->batch_label, "the batch"));
    feed->batch_label = p;
    MND_TRY(mnd_alloc(&p, (size_t)feed->max_rows, sizeof *feed->batch_sample, "the batch"));
    feed->batch_sample = p;
    MND_TRY(mnd_alloc(&p, (size_t)(batch < images ? batch : images), sizeof *feed->batch_image,
                      "the batch"));
    feed->batch_image = p;
    feed->seg = (mnd_rows){
        .n_seg = n_seg, .start = feed->start, .n_part = feed->n_part, .part = feed->part};
cleanup:
    return status;
}

mnd_status mnd_feed_create(mnd_feed *feed, mnd_dataset *data, int logical, int first, int n_seg,
                           int64_t batch, uint64_t seed) {
    const mnd_dataset_info *info = mnd_dataset_about(data);
    const size_t pixels = (size_t)info->height * (size_t)info->width * (size_t)info->channels;
    const mnd_status status =
        mnd_feed_plan(feed, info->count[MND_TRAIN], pixels, logical, first, n_seg, batch, seed);
    if (status != MND_OK) return status;
    return mnd_dataset_read(data, MND_TRAIN, feed->row, feed->rows, feed->image, feed->label);
}

void mnd_feed_free(mnd_feed *feed) {
    mnd_free(feed->image);
    mnd_free(feed->label);
    mnd_free(feed->order);
    mnd_free(feed->start);
    mnd_free(feed->all_start);
    mnd_free(feed->part);
    mnd_free(feed->batch_label);
    mnd_free(feed->batch_sample);
    mnd_free(feed->batch_image);
    *feed = (mnd_feed){0};
}

/* On any of `size` processes. */
static int64_t widest_of(const mnd_feed *feed, int64_t size) {
    return widest(feed->batch, feed->logical, (feed->logical + size - 1) / size);
}

mnd_peers mnd_feed_peers(const mnd_feed *feed, const mnd_comm *comm, int least) {
    const int64_t size = mnd_comm_size(comm);
    if (mnd_comm_nodes(comm) > 1) return (mnd_peers){0};
    const int64_t most = widest_of(feed, size);
    return (mnd_peers){.count = (int)size,
                       .rank = mnd_comm_rank(comm),
                       .logical = feed->logical,
                       .batch = feed->batch,
                       .max_rows = most > least ? (int)most : least};
}

int64_t mnd_feed_steps(const mnd_feed *feed) {
    return (feed->images + feed->batch - 1) / feed->batch;
}

void mnd_feed_epoch(mnd_feed *feed, int64_t epoch) {
    feed->epoch = (uint32_t)epoch;
    for (int s = 0; s < feed->n_seg; s++) {
        const int l = feed->first + s;
        const int64_t first = mnd_shard_first(feed->images, feed->logical, l) - feed->row;
        mnd_rng rng;
        mnd_rng_start(&rng, feed->seed, MND_RNG_SHUFFLE, (uint32_t)l, feed->epoch);
        mnd_rng_permutation(&rng, (uint32_t)mnd_shard_count(feed->images, feed->logical, l),
                            feed->order + first);
    }
}

/* Images lie in no order, and the CPU cannot guess which comes next. */
enum { AHEAD = 4 };

/* Where in this process' rows the sample with ticket k of logical rank l lies. */
static int64_t sample_at(const mnd_feed *feed, int l, int64_t k) {
    const int64_t shard = mnd_shard_first(feed->images, feed->logical, l) - feed->row;
    return shard + feed->order[shard + k];
}

static const uint8_t *image_at(const mnd_feed *feed, int l, int64_t k) {
    return feed->image + (size_t)sample_at(feed, l, k) * feed->pixels;
}

/* Step s takes these tickets of logical rank l. */
typedef struct tickets {
    int64_t from, to;
} tickets;

static tickets tickets_of(const mnd_feed *feed, int64_t s, int l) {
    const int64_t begin = s * feed->batch;
    const int64_t end = begin + feed->batch < feed->images ? begin + feed->batch : feed->images;
    return (tickets){.from = mnd_tickets_before(begin, feed->logical, l),
                     .to = mnd_tickets_before(end, feed->logical, l)};
}

/* Of one of the two places. */
static size_t stage_bytes(const mnd_feed *feed, int size) {
    return mnd_align_up((size_t)widest_of(feed, size) * feed->pixels);
}

size_t mnd_feed_stage_size(const mnd_feed *feed, int size) { return 2 * stage_bytes(feed, size); }

void mnd_feed_share(mnd_feed *feed, char *const *memory, size_t at, int rank, int size, int first,
                    int last) {
    feed->stage = memory;
    feed->stage_at = at;
    feed->side = 0;
    feed->rank = rank;
    feed->size = size;
    feed->read_first = first;
    feed->read_last = last;
}

/* What peer p staged last. */
static uint8_t *staged(const mnd_feed *feed, int p) {
    const size_t side = (size_t)feed->side * stage_bytes(feed, feed->size);
    return (uint8_t *)feed->stage[p] + feed->stage_at + side;
}

void mnd_feed_stage(mnd_feed *feed, int64_t s, bool sends) {
    feed->side = 1 - feed->side;
    uint8_t *to = staged(feed, feed->rank);
    for (int l = feed->first; l < feed->first + feed->n_seg; l++) {
        const tickets t = tickets_of(feed, s, l);
        for (int64_t k = t.from; k < t.to; k++, to += feed->pixels) {
            if (k + AHEAD < t.to) mnd_prefetch(image_at(feed, l, k + AHEAD), feed->pixels);
            if (sends)
                mnd_send(to, image_at(feed, l, k), feed->pixels);
            else
                memcpy(to, image_at(feed, l, k), feed->pixels);
        }
    }
    if (sends) mnd_sent();
}

/* Where the rows of all peers that are read were staged. */
static void find_staged(mnd_feed *feed) {
    int row = 0;
    for (int p = feed->read_first; p < feed->read_last; p++) {
        const int first = mnd_logical_first(feed->logical, feed->size, p);
        const int last = mnd_logical_first(feed->logical, feed->size, p + 1);
        const int n = feed->all_start[last] - feed->all_start[first];
        const uint8_t *from = staged(feed, p);
        for (int i = 0; i < n; i++, from += feed->pixels) feed->batch_image[row++] = from;
    }
}

void mnd_feed_batch(mnd_feed *feed, int64_t s, mnd_batch *batch) {
    int row = 0;
    for (int i = 0; i < feed->n_seg; i++) {
        const tickets t = tickets_of(feed, s, feed->first + i);
        feed->start[i] = row;
        for (int64_t k = t.from; k < t.to; k++, row++) {
            const int64_t at = sample_at(feed, feed->first + i, k);
            feed->batch_label[row] = feed->label[at];
            feed->batch_sample[row] = (uint32_t)(feed->row + at);
            if (feed->stage == NULL)
                feed->batch_image[row] = feed->image + (size_t)at * feed->pixels;
        }
    }
    feed->start[feed->n_seg] = row;
    for (int l = 0; l < feed->logical; l++) {
        const tickets t = tickets_of(feed, s, l);
        feed->all_start[l + 1] = feed->all_start[l] + (int)(t.to - t.from);
    }
    if (feed->stage != NULL) find_staged(feed);
    const int64_t begin = s * feed->batch, left = feed->images - begin;
    const int64_t samples = left < feed->batch ? left : feed->batch;
    *batch = (mnd_batch){.rows = &feed->seg,
                         .all_start = feed->all_start,
                         .label = feed->batch_label,
                         .sample = feed->batch_sample,
                         .seed = feed->seed,
                         .epoch = feed->epoch,
                         .scale = 1.0F / (float)samples,
                         .image = feed->batch_image};
}
