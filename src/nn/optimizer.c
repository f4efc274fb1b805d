/* optimizer.c - the table of optimizers and their settings. */
#include "mnist_dist/optimizer.h"

#include <stdio.h>
#include <string.h>

#include "mnist_dist/registry.h"

extern const mnd_optimizer_ops mnd_optimizer_adam, mnd_optimizer_adamw, mnd_optimizer_rmsprop,
    mnd_optimizer_sgd;

/* A new optimizer is one new file and one row here. */
static const void *const optimizers[] = {&mnd_optimizer_adam, &mnd_optimizer_adamw,
                                         &mnd_optimizer_rmsprop, &mnd_optimizer_sgd};
static mnd_registry registry = {.what = "optimizer",
                                .n_built_in = sizeof optimizers / sizeof optimizers[0],
                                .built_in = optimizers};

mnd_status mnd_optimizer_register(const mnd_optimizer_ops *ops) {
    return mnd_registry_add(&registry, ops);
}

void mnd_optimizer_names(const char *between, char *out, size_t size) {
    mnd_registry_names(&registry, between, out, size);
}

mnd_status mnd_optimizer_default(const char *name, mnd_optimizer *out) {
    const mnd_optimizer_ops *ops = mnd_registry_find(&registry, name);
    if (ops == NULL) {
        char names[256];
        mnd_optimizer_names(", ", names, sizeof names);
        return mnd_fail(MND_USAGE, "optimizer '%s' is not one of %s", name, names);
    }
    *out = (mnd_optimizer){.ops = ops, .lr = ops->lr};
    for (int i = 0; i < ops->n_setting; i++) out->setting[i] = ops->setting[i].value;
    return MND_OK;
}

/* The index of a setting, or -1. */
static int setting_of(const mnd_optimizer *opt, const char *name) {
    for (int i = 0; i < opt->ops->n_setting; i++)
        if (strcmp(opt->ops->setting[i].name, name) == 0) return i;
    return -1;
}

mnd_status mnd_optimizer_set(mnd_optimizer *opt, const char *name, double value) {
    const int i = setting_of(opt, name);
    if (i < 0) return mnd_fail(MND_USAGE, "optimizer %s has no %s", opt->ops->name, name);
    opt->setting[i] = value;
    return MND_OK;
}

double mnd_optimizer_get(const mnd_optimizer *opt, const char *name) {
    const int i = setting_of(opt, name);
    return i >= 0 ? opt->setting[i] : 0.0;
}
