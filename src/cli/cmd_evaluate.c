/* cmd_evaluate.c - evaluates a checkpoint on the test or training images, on all processes. */
#include <stdio.h>
#include <string.h>

#include "answer.h"
#include "commands.h"
#include "display.h"
#include "mnist_dist/evaluate.h"
#include "mnist_dist/kernels.h"
#include "mnist_dist/memory.h"
#include "options.h"

typedef struct choices {
    const char *path, *data, *split, *products;
    int threads;
    bool json;
} choices;

/*
 * Image size must be that of the training data of the checkpoint. A test set of one's own may lack
 * some of the classes.
 */
static mnd_status check_data(const mnd_checkpoint *ckpt, mnd_dataset *data, const choices *k) {
    const mnd_dataset_info *info = mnd_dataset_about(data);
    if (strcmp(k->split, "test") != 0 && info->count[MND_TRAIN] == 0)
        return mnd_fail(MND_USAGE, "%s: holds no training images for --split %s", k->data,
                        k->split);
    if (ckpt->input[0] == info->height && ckpt->input[1] == info->width &&
        ckpt->input[2] == info->channels && ckpt->classes >= info->classes)
        return mnd_dataset_widen(data, ckpt->classes);
    return mnd_fail(MND_MISMATCH,
                    "%s takes images of %d x %d x %d in %d classes; %s has %d x %d x %d "
                    "in %d",
                    k->path, ckpt->input[0], ckpt->input[1], ckpt->input[2], ckpt->classes, k->data,
                    info->height, info->width, info->channels, info->classes);
}

/*
 * Reads the checkpoint that k->path means; *path gets the file's name. Rank 0 decides: a training
 * run may write a newer checkpoint meanwhile, or another host hold a file of its own. Collective.
 */
static mnd_status read_checkpoint(mnd_comm *comm, const choices *k, char path[4096],
                                  mnd_checkpoint *ckpt) {
    mnd_status status = MND_OK;
    char first[MND_SHA256_HEX] = "";
    path[0] = '\0';
    if (mnd_comm_rank(comm) == 0)
        status = mnd_checkpoint_find(k->path, command_skipped, NULL, path, 4096);
    MND_TRY(mnd_comm_agree(comm, status, NULL));
    MND_TRY(mnd_comm_bcast(comm, path, 4096, 0));
    MND_TRY(mnd_comm_agree(comm, mnd_checkpoint_read(path, ckpt), NULL));
    memcpy(first, ckpt->weights_sha256, sizeof first);
    MND_TRY(mnd_comm_bcast(comm, first, sizeof first, 0));
    if (strcmp(first, ckpt->weights_sha256) != 0)
        status = mnd_fail(MND_MISMATCH,
                          "%s on %s is not the file that rank 0 reads: give every host the same, "
                          "and name the file itself if a run is writing there",
                          path, mnd_comm_host(comm));
    MND_TRY(mnd_comm_agree(comm, status, NULL));
cleanup:
    return status;
}

static void print_result(const mnd_checkpoint *ckpt, const char *path, const char *name,
                         const mnd_dataset_info *info, const mnd_evaluation *result) {
    printf("%s: epoch %lld, %s\n", path, (long long)ckpt->epoch, ckpt->spec);
    printf("%s images %lld, loss %.6f, accuracy %.4f (%lld right)\n", name,
           (long long)result->count, result->loss, (double)result->correct / (double)result->count,
           (long long)result->correct);
    display_confusion(result->confusion, info);
}

/* The evaluator of the split, and what to call its images. Not collective. */
static mnd_status open_split(mnd_comm *comm, mnd_dataset *data, const mnd_checkpoint *ckpt,
                             const choices *k, const char **name, mnd_evaluator **out) {
    const mnd_dataset_info *info = mnd_dataset_about(data);
    const int64_t images = info->count[MND_TRAIN];
    *name = "Test";
    if (strcmp(k->split, "test") == 0) return mnd_evaluator_create(comm, data, MND_TEST, out);
    *name = "Training";
    if (strcmp(k->split, "train") == 0) return mnd_evaluator_create(comm, data, MND_TRAIN, out);
    *name = "Validation";
    if (ckpt->validation < 1 || ckpt->validation >= images)
        return mnd_fail(MND_USAGE,
                        "%s was trained with --validation %lld: %s has no such images, give "
                        "--split test or train",
                        k->path, (long long)ckpt->validation, k->data);
    /* The last images of another file would be any images. */
    char sha256[MND_SHA256_HEX];
    snprintf(sha256, sizeof sha256, "%s", info->data_sha256);
    if (sha256[0] == '\0') {
        const mnd_status status = mnd_dataset_checksum(data, NULL, NULL, sha256);
        if (status != MND_OK) return status;
    }
    if (ckpt->data_sha256[0] != '\0' && strcmp(sha256, ckpt->data_sha256) != 0)
        return mnd_fail(MND_MISMATCH,
                        "%s was trained on other data than %s holds, so its validation images are "
                        "not there: give the data of then, or --split test or train",
                        k->path, k->data);
    return mnd_evaluator_create_rows(comm, data, MND_TRAIN, images - ckpt->validation,
                                     ckpt->validation, out);
}

static mnd_status evaluate(mnd_comm *comm, const choices *k) {
    mnd_status status = MND_OK;
    mnd_checkpoint ckpt = {0};
    mnd_dataset *data = NULL;
    mnd_evaluator *evaluator = NULL;
    mnd_model *model = NULL;
    float *param = NULL;
    mnd_evaluation result;
    char path[4096];
    const bool plain = strcmp(k->products, "openblas") == 0;
    const char *name;
    mnd_blas_set_threads(k->threads);
    MND_TRY(read_checkpoint(comm, k, path, &ckpt));
    MND_TRY(mnd_comm_agree(comm, mnd_dataset_open_any(k->data, &data), NULL));
    MND_TRY(mnd_comm_agree(comm, check_data(&ckpt, data, k), NULL));
    status =
        mnd_model_from_checkpoint(&ckpt, MND_EVALUATE_CHUNK, k->threads, plain, &model, &param);
    MND_TRY(mnd_comm_agree(comm, status, NULL));
    status = open_split(comm, data, &ckpt, k, &name, &evaluator);
    MND_TRY(mnd_comm_agree(comm, status, NULL));
    MND_TRY(mnd_evaluate(evaluator, model, &result));
    if (mnd_comm_rank(comm) == 0) {
        const mnd_dataset_info *info = mnd_dataset_about(data);
        if (k->json)
            status = answer_evaluate(path, &ckpt, k->data, k->split, info, &result);
        else
            print_result(&ckpt, path, name, info, &result);
    }
cleanup:
    mnd_evaluator_destroy(&evaluator);
    mnd_model_destroy(&model);
    mnd_free(param);
    mnd_dataset_close(&data);
    mnd_checkpoint_free(&ckpt);
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
        {"json", OPTION_FLAG, &k.json, "", 0, 0,
         "one JSON object on stdout, with all figures, for scripts"},
    };
    static const command_usage usage = {
        .name = "evaluate",
        .arguments = "CKPT",
        .text =
            "Loss, accuracy, confusion matrix, precision and recall of a checkpoint. Runs under\n"
            "mpirun too; every image counts once. CKPT is a file, or a folder for its newest one.",
        .min_arguments = 1,
        .max_arguments = 1};
    command_line line;
    mnd_comm *comm = NULL;
    mnd_status status = options_parse(&usage, rows, OPTION_COUNT(rows), argc, argv, &line);
    if (line.helped) return EXIT_DONE;
    if (status == MND_OK) {
        k.path = line.argument[0];
        k.threads = (int)threads;
    }
    status = command_join(status, &comm);
    if (status == MND_OK) status = evaluate(comm, &k);
    return command_leave(status, &comm);
}
