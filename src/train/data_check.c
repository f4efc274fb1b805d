/* data_check.c - whether every host reads the same data, and which data that is. */
#include <stdio.h>
#include <string.h>

#include "run.h"

mnd_status mnd_run_agree(const mnd_run *r, mnd_status mine) {
    char why[1024];
    int64_t failed = mine != MND_OK;
    snprintf(why, sizeof why, "%s", mnd_error());
    const mnd_status status = mnd_comm_sum_i64(r->comm, &failed, 1);
    if (status != MND_OK) return status;
    if (mine != MND_OK && failed < r->size)
        mine = mnd_fail(mine, "rank %d on host %s: %s", mnd_comm_world_rank(r->comm),
                        mnd_comm_host(r->comm), why);
    return mnd_comm_agree(r->comm, mine, NULL);
}

static void alive(void *context) {
    const mnd_run *r = context;
    mnd_watchdog_phase(r->dog, MND_PHASE_DATA, 0);
}

/* Whether this process reads the whole file: one does on each node. Collective. */
static mnd_status chosen(mnd_run *r, bool *reads) {
    mnd_comm *node = NULL;
    *reads = r->rank == 0;
    if (mnd_comm_nodes(r->comm) == 1) return MND_OK;
    const mnd_status status = mnd_comm_split_node(r->comm, &node);
    if (status == MND_OK) *reads = mnd_comm_rank(node) == 0;
    mnd_comm_finish(&node);
    return status;
}

mnd_status mnd_run_check_data(mnd_run *r) {
    mnd_status status = MND_OK;
    bool reads;
    char mine[MND_SHA256_HEX] = "", first[MND_SHA256_HEX];
    MND_TRY(mnd_comm_agree(r->comm, chosen(r, &reads), NULL));
    if (reads)
        status = mnd_dataset_checksum(r->data, alive, r, mine);
    else
        mnd_watchdog_phase(r->dog, MND_PHASE_WAIT, 0);
    /* On one host there is but one file, and no need to say whose. */
    MND_TRY(mnd_comm_nodes(r->comm) > 1 ? mnd_run_agree(r, status)
                                        : mnd_comm_agree(r->comm, status, NULL));
    memcpy(first, mine, sizeof first);
    MND_TRY(mnd_comm_bcast(r->comm, first, sizeof first, 0));
    if (reads && strcmp(mine, first) != 0)
        status = mnd_fail(MND_MISMATCH,
                          "%s on host %s holds other data than the file that rank 0 reads: give "
                          "every host the same file",
                          r->config->data, mnd_comm_host(r->comm));
    MND_TRY(mnd_comm_agree(r->comm, status, NULL));
    memcpy(r->info.data_sha256, first, sizeof r->info.data_sha256);
    mnd_watchdog_phase(r->dog, MND_PHASE_DATA, 0);
cleanup:
    return status;
}
