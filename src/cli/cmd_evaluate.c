/*
 * cmd_evaluate.c - evaluates a checkpoint, or several together, on the test or training images, on
 * all processes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "checkpoints.h"
#include "commands.h"
#include "display.h"
#include "mnist_dist/evaluate.h"
#include "mnist_dist/kernels.h"
#include "mnist_dist/memory.h"
#include "options.h"

typedef struct choices {
    char **path; /* (n_path) as the user names the checkpoints */
    int n_path;
    const char *data, *split, *products;
    int threads;
    bool json, misread;
} choices;

typedef struct evaluation {
    const choices *k;
    mnd_comm *comm;
    checkpoint_names names;
    mnd_checkpoint first; /* the first checkpoint; the others must fit it */
    mnd_dataset *data;
    const char *images; /* what to call those of the split */
    mnd_evaluator *evaluator;
    answer_network *network; /* (names.n), owned */
    mnd_evaluation result;   /* of the last network, in the end of all together */
    const int64_t *misread;
    int64_t n_misread;
} evaluation;

/*
 * Image size must be that of the training data of the checkpoint. A test set of one's own may lack
 * some of the classes.
 */
static mnd_status open_data(evaluation *e) {
    const choices *k = e->k;
    mnd_status status = mnd_dataset_open_any(k->data, &e->data);
    if (status != MND_OK) return status;
    const mnd_dataset_info *info = mnd_dataset_about(e->data);
    if (strcmp(k->split, "test") != 0 && info->count[MND_TRAIN] == 0)
        return mnd_fail(MND_USAGE, "%s: holds no training images for --split %s", k->data,
                        k->split);
    status = checkpoint_fits_data(&e->first, e->names.path[0], info, k->data);
    return status == MND_OK ? mnd_dataset_widen(e->data, e->first.classes) : status;
}

/*
 * The names of the checkpoints. Rank 0 decides: a training run may write a newer checkpoint
 * meanwhile, or another host hold files of its own. Collective.
 */
static mnd_status find_names(evaluation *e) {
    mnd_status status = MND_OK;
    const bool here = mnd_comm_rank(e->comm) == 0;
    if (here) status = checkpoint_names_find(e->k->path, e->k->n_path, &e->names);
    MND_TRY(mnd_comm_agree(e->comm, status, NULL));
    MND_TRY(mnd_comm_bcast(e->comm, &e->names.n, sizeof e->names.n, 0));
    if (!here) {
        e->names.path = calloc((size_t)e->names.n, sizeof *e->names.path);
        if (e->names.path == NULL)
            status = mnd_fail(MND_NO_MEMORY, "no memory for the names of checkpoints");
    }
    MND_TRY(mnd_comm_agree(e->comm, status, NULL));
    MND_TRY(mnd_comm_bcast(e->comm, e->names.path, (size_t)e->names.n * sizeof *e->names.path, 0));
    MND_NEW_AGREED(e->comm, e->network, e->names.n, "the networks");
cleanup:
    return status;
}

/* Reads a checkpoint; the same one on all ranks. Collective. */
static mnd_status read_checkpoint(mnd_comm *comm, const char *path, mnd_checkpoint *ckpt) {
    const mnd_status status = mnd_comm_agree(comm, mnd_checkpoint_read(path, ckpt), NULL);
    return status == MND_OK ? mnd_checkpoint_agree(comm, path, ckpt) : status;
}

/* Whether the images of --split validation are those that the network was not trained on. */
static mnd_status check_validation(evaluation *e, const mnd_checkpoint *ckpt, const char *path) {
    const mnd_dataset_info *info = mnd_dataset_about(e->data);
    if (ckpt->validation < 1 || ckpt->validation >= info->count[MND_TRAIN])
        return mnd_fail(MND_USAGE,
                        "%s was trained with --validation %lld: %s has no such images, give "
                        "--split test or train",
                        path, (long long)ckpt->validation, e->k->data);
    if (ckpt->validation != e->first.validation)
        return mnd_fail(MND_MISMATCH,
                        "%s was trained with --validation %lld, %s with %lld: they can be "
                        "evaluated together with --split test or train only",
                        path, (long long)ckpt->validation, e->names.path[0],
                        (long long)e->first.validation);
    /* The last images of another file would be any images. */
    char sha256[MND_SHA256_HEX];
    snprintf(sha256, sizeof sha256, "%s", info->data_sha256);
    if (sha256[0] == '\0') {
        const mnd_status status = mnd_dataset_checksum(e->data, NULL, NULL, sha256);
        if (status != MND_OK) return status;
    }
    if (ckpt->data_sha256[0] != '\0' && strcmp(sha256, ckpt->data_sha256) != 0)
        return mnd_fail(MND_MISMATCH,
                        "%s was trained on other data than %s holds, so its validation images are "
                        "not there: give the data of then, or --split test or train",
                        path, e->k->data);
    return MND_OK;
}

/* The evaluator of the split, and what to call its images. Not collective. */
static mnd_status open_split(evaluation *e) {
    mnd_status status = MND_OK;
    const char *split = e->k->split;
    const int64_t held_out = e->first.validation;
    const int64_t images = mnd_dataset_about(e->data)->count[MND_TRAIN];
    if (strcmp(split, "test") == 0) {
        e->images = "Test";
        status = mnd_evaluator_create(e->comm, e->data, MND_TEST, &e->evaluator);
    } else if (strcmp(split, "train") == 0) {
        e->images = "Training";
        status = mnd_evaluator_create(e->comm, e->data, MND_TRAIN, &e->evaluator);
    } else {
        e->images = "Validation";
        MND_TRY(check_validation(e, &e->first, e->names.path[0]));
        status = mnd_evaluator_create_rows(e->comm, e->data, MND_TRAIN, images - held_out, held_out,
                                           &e->evaluator);
    }
    if (status == MND_OK && (e->names.n > 1 || e->k->misread))
        status = mnd_evaluator_average(e->evaluator);
cleanup:
    return status;
}

/* Evaluates one network. Collective. */
static mnd_status evaluate_one(evaluation *e, int i, const mnd_checkpoint *ckpt) {
    mnd_status status = MND_OK;
    const choices *k = e->k;
    mnd_model *model = NULL;
    float *param = NULL;
    answer_network *network = &e->network[i];
    status = mnd_model_from_checkpoint(ckpt, MND_EVALUATE_CHUNK, k->threads,
                                       strcmp(k->products, "openblas") == 0, &model, &param);
    MND_TRY(mnd_comm_agree(e->comm, status, NULL));
    if (i == 0) MND_TRY(mnd_comm_agree(e->comm, open_split(e), NULL));
    MND_TRY(mnd_evaluate(e->evaluator, model, &e->result));
    *network = (answer_network){.path = e->names.path[i],
                                .epoch = ckpt->epoch,
                                .step = ckpt->step,
                                .correct = e->result.correct,
                                .loss = e->result.loss};
    memcpy(network->spec, ckpt->spec, sizeof network->spec);
cleanup:
    mnd_model_destroy(&model);
    mnd_free(param);
    return status;
}

/* All but the first network, one after another. Collective. */
static mnd_status evaluate_others(evaluation *e) {
    mnd_status status = MND_OK;
    mnd_checkpoint ckpt = {0};
    for (int i = 1; i < e->names.n; i++) {
        const char *path = e->names.path[i];
        mnd_checkpoint_free(&ckpt);
        MND_TRY(read_checkpoint(e->comm, path, &ckpt));
        MND_TRY(checkpoint_fits_first(&ckpt, path, &e->first, e->names.path[0]));
        if (strcmp(e->k->split, "validation") == 0)
            MND_TRY(mnd_comm_agree(e->comm, check_validation(e, &ckpt, path), NULL));
        MND_TRY(evaluate_one(e, i, &ckpt));
    }
    if (e->names.n > 1) MND_TRY(mnd_evaluate_mean(e->evaluator, &e->result));
    e->n_misread = -1;
    if (e->names.n > 1 || e->k->misread)
        MND_TRY(mnd_evaluator_misread(e->evaluator, &e->misread, &e->n_misread));
cleanup:
    mnd_checkpoint_free(&ckpt);
    return status;
}

static void print_figures(const evaluation *e, double loss, int64_t correct) {
    printf("%s images %lld, loss %.6f, accuracy %.4f (%lld right)\n", e->images,
           (long long)e->result.count, loss, (double)correct / (double)e->result.count,
           (long long)correct);
}

static void print_result(const evaluation *e) {
    for (int i = 0; i < e->names.n; i++) {
        const answer_network *k = &e->network[i];
        printf("%s: epoch %lld, %s\n", k->path, (long long)k->epoch, k->spec);
        print_figures(e, k->loss, k->correct);
    }
    if (e->names.n > 1) {
        printf("\nEnsemble of %d, the mean of their probabilities\n", e->names.n);
        print_figures(e, e->result.loss, e->result.correct);
        printf("%lld images are misread by every network\n", (long long)e->n_misread);
    }
    display_confusion(e->result.confusion, mnd_dataset_about(e->data));
    if (!e->k->misread) return;
    printf("\nMisread%s:", e->names.n > 1 ? " by every network" : "");
    for (int64_t i = 0; i < e->n_misread; i++) printf(" %lld", (long long)e->misread[i]);
    putchar('\n');
}

static mnd_status print_json(const evaluation *e) {
    return answer_evaluate(&(answer_evaluation){.network = e->network,
                                                .n = e->names.n,
                                                .data = e->k->data,
                                                .split = e->k->split,
                                                .info = mnd_dataset_about(e->data),
                                                .result = &e->result,
                                                .misread = e->misread,
                                                .n_misread = e->n_misread,
                                                .list_misread = e->k->misread});
}

static mnd_status evaluate(mnd_comm *comm, const choices *k) {
    mnd_status status = MND_OK;
    evaluation e = {.k = k, .comm = comm};
    mnd_blas_set_threads(k->threads);
    MND_TRY(find_names(&e));
    MND_TRY(read_checkpoint(comm, e.names.path[0], &e.first));
    MND_TRY(mnd_comm_agree(comm, open_data(&e), NULL));
    MND_TRY(evaluate_one(&e, 0, &e.first));
    MND_TRY(evaluate_others(&e));
    if (mnd_comm_rank(comm) == 0) {
        if (k->json)
            status = print_json(&e);
        else
            print_result(&e);
    }
cleanup:
    mnd_evaluator_destroy(&e.evaluator);
    mnd_dataset_close(&e.data);
    mnd_checkpoint_free(&e.first);
    mnd_free(e.network);
    checkpoint_names_free(&e.names);
    return status;
}

int cmd_evaluate(int argc, char **argv) {
    choices k = {.data = "data/mnist.h5", .split = "test", .products = "native"};
    int64_t threads = 1;
    const option_row rows[] = {
        {"data", OPTION_TEXT, &k.data, "FILE", 0, 0,
         "HDF5 data file, also one with test images only (data/mnist.h5)"},
        {"split", OPTION_CHOICE, &k.split, "test|train|validation", 0, 0,
         "which images; validation: the training images held out by --validation (test)"},
        {"threads", OPTION_INT, &threads, "T", 1, 256, "threads of each process (1)"},
        {"products", OPTION_CHOICE, &k.products, "native|openblas", 0, 0,
         "own kernels, or the plain reference by OpenBLAS (native)"},
        {"misread", OPTION_FLAG, &k.misread, "", 0, 0,
         "list the images that every one of the networks gets wrong, counted from 0"},
        {"json", OPTION_FLAG, &k.json, "", 0, 0,
         "one JSON object on stdout, with all figures, for scripts"},
    };
    static const command_usage usage = {
        .name = "evaluate",
        .arguments = "CKPT...",
        .text =
            "Loss, accuracy, confusion matrix, precision and recall of a checkpoint. Runs under\n"
            "mpirun too; every image counts once. CKPT is a file, or a folder for its newest one.\n"
            "Several, or the folder of an ensemble (train --members), are evaluated one by one "
            "and\n"
            "together: the mean of their probabilities.",
        .min_arguments = 1,
        .max_arguments = -1};
    command_line line;
    mnd_comm *comm = NULL;
    mnd_status status = options_parse(&usage, rows, OPTION_COUNT(rows), argc, argv, &line);
    if (line.helped) return EXIT_DONE;
    if (status == MND_OK) {
        k.path = line.argument;
        k.n_path = line.n_argument;
        k.threads = (int)threads;
    }
    status = command_join(status, &comm);
    if (status == MND_OK) status = evaluate(comm, &k);
    return command_leave(status, &comm);
}
