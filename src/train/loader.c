#include "loader.h"

#include "mnist_dist/logical.h"
#include "mnist_dist/loops.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/parallel.h"
#include "mnist_dist/rng.h"

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Most rows of a batch: every logical rank has at most one of `logical` consecutive samples. */
static int64_t most_rows(const mnd_loader_plan *p) {
    return least((p->batch + p->logical - 1) / p->logical * p->n, p->batch);
}

mnd_status mnd_loader_plan_for(const mnd_loader_plan *plan, mnd_loader *loader) {
    mnd_status status = MND_OK;
    const int first = plan->first, end = plan->first + plan->n;
    loader->plan = *plan;
    loader->row = mnd_shard_first(plan->images, plan->logical, first);
    loader->rows = mnd_shard_first(plan->images, plan->logical, end) - loader->row;
    loader->max_rows = (int)least(most_rows(plan), loader->rows);
    loader->max_seg = plan->one_segment ? 1 : plan->n;
    const int n_subtree = plan->one_segment ? 1 : mnd_subtrees(plan->logical, first, end, NULL);

    MND_NEW(loader->image, (size_t)loader->rows * plan->pixels, "this rank's shard of the images");
    MND_NEW(loader->label, loader->rows, "this rank's shard of the labels");
    MND_NEW(loader->order, loader->rows, "the order of the samples");
    MND_NEW(loader->start, (size_t)plan->n + 1, "the batch");
    MND_NEW(loader->group, (size_t)plan->n + 1, "the batch");
    MND_NEW(loader->subtree, (size_t)n_subtree + 1, "the batch");
    MND_NEW(loader->labels, loader->max_rows, "the batch");
    MND_NEW(loader->samples, loader->max_rows, "the batch");
    if (plan->one_segment)
        loader->subtree[1] = 1;
    else
        (void)mnd_subtrees(plan->logical, first, end, loader->subtree);
    for (int i = 0; i <= n_subtree && !plan->one_segment; i++) loader->subtree[i] -= first;
    loader->seg = (mnd_segments){.n_seg = loader->max_seg,
                                 .start = loader->start,
                                 .n_subtree = n_subtree,
                                 .subtree = loader->subtree};
    if (mnd_augment_any(&plan->augment))
        status = mnd_augmenter_create(&plan->augment, plan->size[0], plan->size[1], plan->size[2],
                                      plan->threads, &loader->augmenter);
cleanup:
    return status;
}

mnd_status mnd_loader_open(const mnd_loader_plan *plan, mnd_dataset *data, mnd_loader *loader) {
    const mnd_status status = mnd_loader_plan_for(plan, loader);
    if (status != MND_OK) return status;
    return mnd_dataset_read(data, MND_TRAIN, loader->row, loader->rows, loader->image,
                            loader->label);
}

void mnd_loader_free(mnd_loader *loader) {
    mnd_free(loader->image);
    mnd_free(loader->label);
    mnd_free(loader->order);
    mnd_free(loader->start);
    mnd_free(loader->group);
    mnd_free(loader->subtree);
    mnd_free(loader->labels);
    mnd_free(loader->samples);
    mnd_augmenter_destroy(&loader->augmenter);
    *loader = (mnd_loader){0};
}

int64_t mnd_loader_steps(const mnd_loader *loader) {
    return (loader->plan.images + loader->plan.batch - 1) / loader->plan.batch;
}

/* Where the shard of logical rank l begins among the rows held here. */
static int64_t shard_at(const mnd_loader *loader, int l) {
    return mnd_shard_first(loader->plan.images, loader->plan.logical, l) - loader->row;
}

void mnd_loader_epoch(mnd_loader *loader, int64_t epoch) {
    const mnd_loader_plan *p = &loader->plan;
    loader->epoch = (uint32_t)epoch;
    for (int l = p->first; l < p->first + p->n; l++) {
        mnd_rng rng;
        mnd_rng_start(&rng, p->seed, MND_RNG_SHUFFLE, (uint32_t)l, loader->epoch);
        mnd_rng_permutation(&rng, (uint32_t)mnd_shard_count(p->images, p->logical, l),
                            loader->order + shard_at(loader, l));
    }
}

typedef struct conversion {
    const mnd_loader *loader;
    float *x;
} conversion;

/* Rows [first, end) of the batch: floats from bytes. Shuffled images lie in no order that the
   hardware could foresee: each is prefetched while others are converted. */
static void convert(void *context, int thread, int first, int end) {
    enum { AHEAD = 8 };
    const conversion *c = context;
    const mnd_loader *loader = c->loader;
    const mnd_loader_plan *p = &loader->plan;
    for (int i = first; i < end; i++) {
        if (i + AHEAD < end)
            mnd_prefetch(loader->image +
                             (loader->samples[i + AHEAD] - (size_t)loader->row) * p->pixels,
                         p->pixels);
        const uint8_t *in = loader->image + (loader->samples[i] - (size_t)loader->row) * p->pixels;
        float *x = c->x + (size_t)i * p->pixels;
        if (loader->augmenter == NULL) {
            mnd_pixels(p->pixels, in, x);
            continue;
        }
        mnd_distortion d;
        mnd_augment_draw(&p->augment, p->seed, loader->epoch, loader->samples[i], &d);
        mnd_augmenter_image(loader->augmenter, thread, &d, in, x);
    }
}

void mnd_loader_batch(mnd_loader *loader, int64_t s, float *x, mnd_batch *batch) {
    const mnd_loader_plan *p = &loader->plan;
    const int64_t begin = s * p->batch, end = least(begin + p->batch, p->images);
    int row = 0;
    for (int i = 0; i < p->n; i++) {
        const int64_t shard = shard_at(loader, p->first + i);
        const int64_t last = mnd_samples_before(end, p->logical, p->first + i);
        loader->group[i] = row;
        if (!p->one_segment) loader->start[i] = row;
        for (int64_t k = mnd_samples_before(begin, p->logical, p->first + i); k < last; k++) {
            const int64_t at = shard + loader->order[shard + k];
            loader->labels[row] = loader->label[at];
            loader->samples[row++] = (uint32_t)(loader->row + at);
        }
    }
    loader->group[p->n] = loader->start[loader->seg.n_seg] = row;
    /* Converting is too little work to be shared, distorting is not. */
    mnd_parallel(loader->augmenter != NULL ? p->threads : 1, row, 1, convert,
                 &(conversion){loader, x});
    *batch = (mnd_batch){.seg = &loader->seg,
                         .label = loader->labels,
                         .sample = loader->samples,
                         .seed = p->seed,
                         .epoch = loader->epoch,
                         .scale = 1.0F / (float)(end - begin),
                         .smoothing = (float)loader->plan.smoothing,
                         .group = loader->group,
                         .n_group = p->n};
}
