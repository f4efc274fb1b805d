#include "mnist_dist/evaluate.h"

#include <string.h>

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
};

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
    const int64_t row = e->first * MND_EVALUATE_CHUNK;
    const int64_t end =
        e->last * MND_EVALUATE_CHUNK < e->count ? e->last * MND_EVALUATE_CHUNK : e->count;
    const int64_t rows = end > row ? end - row : 0;
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
    mnd_free(e);
    *evaluator = NULL;
}

mnd_status mnd_evaluate(mnd_evaluator *e, mnd_model *model, mnd_evaluation *out) {
    mnd_status status = MND_OK;
    const size_t classes = (size_t)e->classes;
    memset(e->confusion, 0, classes * classes * sizeof *e->confusion);
    const uint8_t *image = e->image, *label = e->label;
    for (int64_t c = e->first; c < e->last; c++) {
        const int64_t left = e->count - c * MND_EVALUATE_CHUNK;
        const int n = (int)(left < MND_EVALUATE_CHUNK ? left : MND_EVALUATE_CHUNK);
        mnd_pixels((size_t)n * e->pixels, image, mnd_model_input(model));
        const float *logits = mnd_model_forward(model, n);
        chunk_result *r = &e->own[c - e->first];
        r->correct = 0;
        r->loss = mnd_cross_entropy(logits, label, n, e->classes, 0.0F, NULL, &r->correct);
        for (int i = 0; i < n; i++) {
            const int answer = mnd_answer(logits + (size_t)i * classes, e->classes);
            e->confusion[label[i] * classes + (size_t)answer]++;
        }
        image += (size_t)n * e->pixels;
        label += n;
    }
    MND_TRY(mnd_comm_allgatherv(e->comm, e->own, e->bytes, e->result));
    MND_TRY(mnd_comm_sum_i64(e->comm, e->confusion, classes * classes));
    *out = (mnd_evaluation){.count = e->count, .confusion = e->confusion};
    for (int64_t c = 0; c < e->chunks; c++) {
        out->loss += e->result[c].loss;
        out->correct += e->result[c].correct;
    }
    out->loss /= (double)e->count;
cleanup:
    return status;
}
