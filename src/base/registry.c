#include "mnist_dist/registry.h"

#include <stdio.h>
#include <string.h>

static const char *name_of(const void *row) { return *(const char *const *)row; }

const void *mnd_registry_at(const mnd_registry *r, int i) {
    if (i < r->n_built_in) return r->built_in[i];
    return i - r->n_built_in < r->n_added ? r->added[i - r->n_built_in] : NULL;
}

const void *mnd_registry_find(const mnd_registry *r, const char *name) {
    const void *row;
    for (int i = 0; (row = mnd_registry_at(r, i)) != NULL; i++)
        if (strcmp(name_of(row), name) == 0) return row;
    return NULL;
}

mnd_status mnd_registry_add(mnd_registry *r, const void *row) {
    if (mnd_registry_find(r, name_of(row)) != NULL)
        return mnd_fail(MND_USAGE, "there is a kind of %s '%s' already", r->what, name_of(row));
    if (r->n_added == MND_REGISTRY_ADDED)
        return mnd_fail(MND_USAGE, "%s '%s': at most %d can be registered", r->what, name_of(row),
                        MND_REGISTRY_ADDED);
    r->added[r->n_added++] = row;
    return MND_OK;
}

void mnd_registry_names(const mnd_registry *r, const char *between, char *out, size_t size) {
    size_t used = 0;
    if (size > 0) out[0] = '\0';
    for (int i = 0; mnd_registry_at(r, i) != NULL && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i > 0 ? between : "",
                                 name_of(mnd_registry_at(r, i)));
}
