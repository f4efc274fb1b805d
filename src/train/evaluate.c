#include "mnist_dist/evaluate.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "mnist_dist/ensemble.h"
#include "mnist_dist/loops.h"
#include "mnist_dist/loss.h"
#include "mnist_dist/memory.h"

/* What one process tells the others of a chunk; the confusion follows in rows of its own. */
typedef struct chunk_result {
    double loss;
    int64_t correct;
} chunk_result;

struct mnd_evaluator {
    mnd_comm *comm; /* borrowed */
    int64_t count;  /* images */
    int classes;
    size_t pixels;
    int64_t chunks, first, last; /* chunks of all; [first, last) are computed here */
    uint8_t *image, *label;      /* of those chunks; owned */
    chunk_result *own;           /* (last - first), owned */
    chunk_result *result;        /* (chunks), owned */
    size_t *bytes;               /* (size) what each process gives, owned */
    int64_t *confusion;          /* (classes, classes), owned */

    /* Of an ensemble; NULL without. Owned. */
    int models;
    double *sum;      /* (own images, classes) of the models' probabilities */
    float *part;      /* (MND_EVALUATE_CHUNK, classes) probabilities */
    uint8_t *hit;     /* (own images) whether a model answers it right */
    uint8_t *hit_all; /* (count) */
    int64_t *missed;  /* (count) */
};

/* Images before a chunk. */
static int64_t rows_before(const mnd_evaluator *e, int64_t chunk) {
    return chunk * MND_EVALUATE_CHUNK < e->count ? chunk * MND_EVALUATE_CHUNK : e->count;
}

mnd_status mnd_evaluator_create(mnd_comm *comm, mnd_dataset *data, mnd_split split,
                                mnd_evaluator **out) {
    return mnd_evaluator_create_rows(comm, data, split, 0, mnd_dataset_about(data)->count[split],
                                     out);
}

mnd_status mnd_evaluator_create_rows(mnd_comm *comm, mnd_dataset *data, mnd_split split,
                                     int64_t first, int64_t count, mnd_evaluator **out) {
    mnd_status status = MND_OK;
    mnd_evaluator *e;
    const mnd_dataset_info *info = mnd_dataset_about(data);
    *out = NULL;
    MND_NEW(e, 1, "the evaluator");
    const int64_t rank = mnd_comm_rank(comm), size = mnd_comm_size(comm);
    e->comm = comm;
    e->count = count;
    e->classes = info->classes;
    e->pixels = (size_t)info->height * (size_t)info->width * (size_t)info->channels;
    e->chunks = (e->count + MND_EVALUATE_CHUNK - 1) / MND_EVALUATE_CHUNK;
    e->first = e->chunks * rank / size;
    e->last = e->chunks * (rank + 1) / size;
    const int64_t row = rows_before(e, e->first), rows = rows_before(e, e->last) - row;
    MND_NEW(e->image, (size_t)rows * e->pixels, "images to evaluate");
    MND_NEW(e->label, rows, "labels to evaluate");
    MND_NEW(e->result, e->chunks, "the evaluator");
    MND_NEW(e->own, e->last - e->first, "the evaluator");
    MND_NEW(e->bytes, size, "the evaluator");
    for (int64_t r = 0; r < size; r++)
        e->bytes[r] =
            (size_t)(e->chunks * (r + 1) / size - e->chunks * r / size) * sizeof *e->result;
    const size_t classes = (size_t)info->classes;
    MND_NEW(e->confusion, classes * classes, "the confusion matrix");
    if (rows > 0) MND_TRY(mnd_dataset_read(data, split, first + row, rows, e->image, e->label));
    *out = e;
    e = NULL;
cleanup:
    mnd_evaluator_destroy(&e);
    return status;
}

void mnd_evaluator_destroy(mnd_evaluator **evaluator) {
    mnd_evaluator *e = *evaluator;
    if (e == NULL) return;
    mnd_free(e->image);
    mnd_free(e->label);
    mnd_free(e->own);
    mnd_free(e->result);
    mnd_free(e->bytes);
    mnd_free(e->confusion);
    mnd_free(e->sum);
    mnd_free(e->part);
    mnd_free(e->hit);
    mnd_free(e->hit_all);
    mnd_free(e->missed);
    mnd_free(e);
    *evaluator = NULL;
}

/* The sums of all chunks, from those of this process. Collective. */
static mnd_status share(mnd_evaluator *e, mnd_evaluation *out) {
    mnd_status status = MND_OK;
    MND_TRY(mnd_comm_allgatherv(e->comm, e->own, e->bytes, e->result));
    MND_TRY(mnd_comm_sum_i64(e->comm, e->confusion, (size_t)e->classes * (size_t)e->classes));
    *out = (mnd_evaluation){.count = e->count, .confusion = e->confusion};
    for (int64_t c = 0; c < e->chunks; c++) {
        out->loss += e->result[c].loss;
        out->correct += e->result[c].correct;
    }
    out->loss /= (double)e->count;
cleanup:
    return status;
}

/* Rows [row, row + n) of this process: what the models answered is theirs in the ensemble, too. */
static void add_to_mean(mnd_evaluator *e, const float *logits, int64_t row, int n) {
    const size_t classes = (size_t)e->classes;
    for (int i = 0; i < n; i++)
        if (mnd_answer(logits + (size_t)i * classes, e->classes) == e->label[row + i])
            e->hit[row + i] = 1;
    memcpy(e->part, logits, (size_t)n * classes * sizeof *e->part);
    mnd_ensemble_add(e->part, n, e->classes, e->sum + (size_t)row * classes);
}

mnd_status mnd_evaluate(mnd_evaluator *e, mnd_model *model, mnd_evaluation *out) {
    const size_t classes = (size_t)e->classes;
    memset(e->confusion, 0, classes * classes * sizeof *e->confusion);
    int64_t row = 0;
    for (int64_t c = e->first; c < e->last; c++) {
        const int n = (int)(rows_before(e, c + 1) - rows_before(e, c));
        const uint8_t *label = e->label + row;
        mnd_pixels((size_t)n * e->pixels, e->image + (size_t)row * e->pixels,
                   mnd_model_input(model));
        const float *logits = mnd_model_forward(model, n);
        chunk_result *r = &e->own[c - e->first];
        r->correct = 0;
        r->loss = mnd_cross_entropy(logits, label, n, e->classes, 0.0F, NULL, &r->correct);
        for (int i = 0; i < n; i++) {
            const int answer = mnd_answer(logits + (size_t)i * classes, e->classes);
            e->confusion[label[i] * classes + (size_t)answer]++;
        }
        if (e->sum != NULL) add_to_mean(e, logits, row, n);
        row += n;
    }
    e->models++;
    return share(e, out);
}

mnd_status mnd_evaluator_average(mnd_evaluator *e) {
    mnd_status status = MND_OK;
    const int64_t rows = rows_before(e, e->last) - rows_before(e, e->first);
    const size_t classes = (size_t)e->classes;
    MND_NEW(e->sum, (size_t)rows * classes, "the mean of the networks");
    MND_NEW(e->part, MND_EVALUATE_CHUNK * classes, "the mean of the networks");
    MND_NEW(e->hit, rows, "the mean of the networks");
    MND_NEW(e->hit_all, e->count, "the mean of the networks");
    MND_NEW(e->missed, e->count, "the mean of the networks");
    e->models = 0;
cleanup:
    return status;
}

mnd_status mnd_evaluate_mean(mnd_evaluator *e, mnd_evaluation *out) {
    const size_t classes = (size_t)e->classes;
    memset(e->confusion, 0, classes * classes * sizeof *e->confusion);
    int64_t row = 0;
    for (int64_t c = e->first; c < e->last; c++) {
        chunk_result *r = &e->own[c - e->first];
        *r = (chunk_result){0};
        for (int64_t end = row + rows_before(e, c + 1) - rows_before(e, c); row < end; row++) {
            mnd_ensemble_mean(e->sum + (size_t)row * classes, e->models, 1, e->classes, e->part);
            const int answer = mnd_answer(e->part, e->classes), right = e->label[row];
            r->correct += answer == right;
            const float p = e->part[right];
            r->loss -= log((double)(p < FLT_MIN ? FLT_MIN : p)); /* fmax would hide a NaN */
            e->confusion[(size_t)right * classes + (size_t)answer]++;
        }
    }
    return share(e, out);
}

mnd_status mnd_evaluator_misread(mnd_evaluator *e, const int64_t **index, int64_t *n) {
    mnd_status status = MND_OK;
    const int64_t size = mnd_comm_size(e->comm);
    size_t *bytes;
    MND_NEW_AGREED(e->comm, bytes, size, "the evaluator");
    for (int64_t r = 0; r < size; r++)
        bytes[r] = (size_t)(rows_before(e, e->chunks * (r + 1) / size) -
                            rows_before(e, e->chunks * r / size));
    MND_TRY(mnd_comm_allgatherv(e->comm, e->hit, bytes, e->hit_all));
    *n = 0;
    for (int64_t i = 0; i < e->count; i++)
        if (!e->hit_all[i]) e->missed[(*n)++] = i;
    *index = e->missed;
cleanup:
    mnd_free(bytes);
    return status;
}
