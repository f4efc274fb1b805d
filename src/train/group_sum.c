#include "group_sum.h"

#include "mnist_dist/logical.h"

mnd_status mnd_group_sum_open(mnd_comm *comm, mnd_watchdog *dog, int logical,
                              const mnd_model *model, mnd_group_sum *sum) {
    mnd_status status = MND_OK;
    const size_t most = (size_t)mnd_model_sum_values(model);
    sum->comm = comm;
    sum->dog = dog;
    sum->logical = logical;
    MND_NEW(sum->bytes, mnd_comm_size(comm), "sums over the batch");
    MND_NEW(sum->all, (size_t)logical * most, "sums over the batch");
    MND_NEW(sum->column, logical, "sums over the batch");
cleanup:
    return status;
}

void mnd_group_sum_free(mnd_group_sum *sum) {
    mnd_free(sum->bytes);
    mnd_free(sum->all);
    mnd_free(sum->column);
    *sum = (mnd_group_sum){0};
}

void mnd_group_sum_add(void *context, int n_value, double *value) {
    mnd_group_sum *const sum = context;
    const int size = mnd_comm_size(sum->comm);
    if (sum->status != MND_OK) return;
    for (int q = 0; q < size; q++)
        sum->bytes[q] = (size_t)(mnd_logical_first(sum->logical, size, q + 1) -
                                 mnd_logical_first(sum->logical, size, q)) *
                        (size_t)n_value * sizeof *value;
    mnd_watchdog_phase(sum->dog, MND_PHASE_WAIT, MND_SAME_STEP);
    sum->status = mnd_comm_allgatherv(sum->comm, value, sum->bytes, sum->all);
    mnd_watchdog_phase(sum->dog, MND_PHASE_COMPUTE, MND_SAME_STEP);
    for (int v = 0; v < n_value; v++) {
        for (int l = 0; l < sum->logical; l++)
            sum->column[l] = sum->all[(size_t)l * (size_t)n_value + (size_t)v];
        value[v] = mnd_tree_sum(sum->column, sum->logical);
    }
}
