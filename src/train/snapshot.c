#include "snapshot.h"

#include <stdio.h>
#include <string.h>

#include "mnist_dist/memory.h"
#include "mnist_dist/train.h"

/* "03_dense" */
static void group_name(const mnd_array_info *info, char out[MND_CKPT_NAME]) {
    snprintf(out, MND_CKPT_NAME, "%02d_%s", info->layer, info->kind);
}

mnd_status mnd_snapshot_describe(const mnd_model *model, const mnd_shape *input, int classes,
                                 float *param, mnd_checkpoint *ckpt) {
    mnd_status status = MND_OK;
    ckpt->n_array = mnd_model_n_array(model);
    MND_NEW(ckpt->array, ckpt->n_array, "the checkpoint's arrays");
    snprintf(ckpt->spec, sizeof ckpt->spec, "%s", mnd_model_text(model));
    for (int i = 0; i < 3; i++) ckpt->input[i] = input->dim[i];
    ckpt->classes = classes;
    for (int i = 0; i < ckpt->n_array; i++) {
        const mnd_array_info info = mnd_model_array(model, i);
        mnd_ckpt_array *a = &ckpt->array[i];
        group_name(&info, a->group);
        snprintf(a->name, sizeof a->name, "%s", info.name);
        a->ndim = info.ndim;
        memcpy(a->dim, info.dim, sizeof a->dim);
        a->data = param + info.offset;
    }
cleanup:
    return status;
}

mnd_status mnd_snapshot_load(const mnd_model *model, const mnd_checkpoint *ckpt, float *param) {
    if (ckpt->n_array != mnd_model_n_array(model))
        return mnd_fail(MND_MISMATCH, "the checkpoint has %d arrays, its model '%s' has %d",
                        ckpt->n_array, mnd_model_text(model), mnd_model_n_array(model));
    for (int i = 0; i < ckpt->n_array; i++) {
        const mnd_array_info info = mnd_model_array(model, i);
        char group[MND_CKPT_NAME];
        group_name(&info, group);
        /* The file's order of groups is not the model's: find each by name. */
        const mnd_ckpt_array *a = NULL;
        for (int j = 0; j < ckpt->n_array && a == NULL; j++)
            if (strcmp(ckpt->array[j].group, group) == 0 &&
                strcmp(ckpt->array[j].name, info.name) == 0)
                a = &ckpt->array[j];
        bool same = a != NULL && a->ndim == info.ndim;
        for (int d = 0; same && d < info.ndim; d++) same = a->dim[d] == info.dim[d];
        if (!same)
            return mnd_fail(MND_MISMATCH, "the checkpoint's /model/%s/%s is %s", group, info.name,
                            a == NULL ? "missing" : "not of the size its spec says");
        memcpy(param + info.offset, a->data, info.count * sizeof *param);
    }
    return MND_OK;
}

/* Names of the numbers in `setting`; the first one is not used. */
static const char *const setting_name[MND_CKPT_SETTINGS] = {
    "", "lr", "beta1", "beta2", "rho", "momentum", "epsilon", "weight_decay"};

/* The place of a setting of an optimizer in `setting`, or -1. */
static int place_of(const char *name) {
    for (int i = 2; i < MND_CKPT_SETTINGS; i++)
        if (strcmp(setting_name[i], name) == 0) return i;
    return -1;
}

mnd_status mnd_snapshot_settings(const mnd_optimizer *opt, mnd_checkpoint *ckpt) {
    size_t used = 0;
    memset(ckpt->setting, 0, sizeof ckpt->setting);
    ckpt->more_settings[0] = '\0';
    ckpt->setting[1] = opt->lr;
    for (int k = 0; k < opt->ops->n_setting; k++) {
        const char *name = opt->ops->setting[k].name;
        const double value = opt->setting[k];
        const int i = place_of(name);
        if (i >= 0) ckpt->setting[i] = value;
        if (i >= 0 || value == 0.0) continue;
        const int n = snprintf(ckpt->more_settings + used, MND_CKPT_MORE - used, "%s%s=%.17g",
                               used > 0 ? " " : "", name, value);
        if (n < 0 || (size_t)n >= MND_CKPT_MORE - used)
            return mnd_fail(MND_RANGE, "the settings of optimizer %s do not fit a checkpoint",
                            opt->ops->name);
        used += (size_t)n;
    }
    return MND_OK;
}

bool mnd_snapshot_same_settings(const mnd_optimizer *opt, const mnd_checkpoint *ckpt) {
    mnd_checkpoint now = {0};
    bool same = mnd_snapshot_settings(opt, &now) == MND_OK && opt->lr == ckpt->setting[1] &&
                strcmp(now.more_settings, ckpt->more_settings) == 0;
    /* Earlier versions wrote settings that the optimizer does not have, too. */
    for (int k = 0; k < opt->ops->n_setting; k++) {
        const int i = place_of(opt->ops->setting[k].name);
        if (i >= 0) same = same && now.setting[i] == ckpt->setting[i];
    }
    return same;
}

mnd_status mnd_checkpoint_agree(mnd_comm *comm, const char *path, const mnd_checkpoint *ckpt) {
    char first[MND_SHA256_HEX];
    memcpy(first, ckpt->weights_sha256, sizeof first);
    mnd_status status = mnd_comm_bcast(comm, first, sizeof first, 0);
    if (status == MND_OK && strcmp(first, ckpt->weights_sha256) != 0)
        status = mnd_fail(MND_MISMATCH,
                          "%s on %s is not the file that rank 0 reads: give every host the same, "
                          "and name the file itself if a run is writing there",
                          path, mnd_comm_host(comm));
    return mnd_comm_agree(comm, status, NULL);
}

mnd_status mnd_model_from_checkpoint(const mnd_checkpoint *ckpt, int max_rows, int threads,
                                     bool plain, mnd_model **out, float **param) {
    mnd_status status = MND_OK;
    mnd_model *model = NULL;
    *out = NULL;
    *param = NULL;
    const mnd_shape input = {.ndim = 3, .dim = {ckpt->input[0], ckpt->input[1], ckpt->input[2]}};
    const mnd_model_options options = {
        .max_rows = max_rows, .max_seg = 1, .threads = threads, .plain = plain};
    MND_TRY(mnd_model_create(ckpt->spec, &input, ckpt->classes, &options, &model));
    MND_NEW(*param, mnd_model_n_param(model), "the parameters");
    MND_TRY(mnd_snapshot_load(model, ckpt, *param));
    mnd_model_bind(model, *param, NULL, 0);
    *out = model;
    return MND_OK;
cleanup:
    mnd_free(*param);
    *param = NULL;
    mnd_model_destroy(&model);
    return status;
}
