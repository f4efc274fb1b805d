/* optimizer.c - the table of optimizers and their settings. */
#include "mnist_dist/optimizer.h"

#include <stdio.h>
#include <string.h>

extern const mnd_optimizer_ops mnd_optimizer_adam, mnd_optimizer_adamw, mnd_optimizer_rmsprop,
    mnd_optimizer_sgd;

/* A new optimizer is one new file and one row here. */
static const mnd_optimizer_ops *const optimizers[] = {&mnd_optimizer_adam, &mnd_optimizer_adamw,
                                                      &mnd_optimizer_rmsprop, &mnd_optimizer_sgd};
enum { N_OPTIMIZERS = sizeof optimizers / sizeof optimizers[0], MAX_REGISTERED = 16 };

static const mnd_optimizer_ops *registered[MAX_REGISTERED];
static int n_registered;

/* Optimizer i of all, or NULL after the last. */
static const mnd_optimizer_ops *optimizer_at(int i) {
    if (i < N_OPTIMIZERS) return optimizers[i];
    return i - N_OPTIMIZERS < n_registered ? registered[i - N_OPTIMIZERS] : NULL;
}

static const mnd_optimizer_ops *find(const char *name) {
    for (int i = 0; optimizer_at(i) != NULL; i++)
        if (strcmp(optimizer_at(i)->name, name) == 0) return optimizer_at(i);
    return NULL;
}

mnd_status mnd_optimizer_register(const mnd_optimizer_ops *ops) {
    if (find(ops->name) != NULL)
        return mnd_fail(MND_USAGE, "there is an optimizer '%s' already", ops->name);
    if (n_registered == MAX_REGISTERED)
        return mnd_fail(MND_USAGE, "optimizer '%s': at most %d can be registered", ops->name,
                        MAX_REGISTERED);
    registered[n_registered++] = ops;
    return MND_OK;
}

void mnd_optimizer_names(const char *between, char *out, size_t size) {
    size_t used = 0;
    for (int i = 0; optimizer_at(i) != NULL && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i > 0 ? between : "",
                                 optimizer_at(i)->name);
}

mnd_status mnd_optimizer_default(const char *name, mnd_optimizer *out) {
    const mnd_optimizer_ops *ops = find(name);
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
