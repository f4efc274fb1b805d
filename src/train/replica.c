#include "replica.h"

#include <stdio.h>
#include <string.h>

#include "mnist_dist/memory.h"
#include "mnist_dist/optimizer.h"
#include "mnist_dist/sha256.h"

/* A range of the parameters or of a slot that a process holds; count 0 for none. */
typedef struct range {
    uint64_t first, count;
    char sha256[MND_SHA256_HEX];
} range;

enum { RANGES = 2 + MND_MAX_SLOTS }; /* parameters, then slots and an average */

typedef struct holdings {
    char host[MND_HOST_NAME];
    range range[RANGES];
} holdings;

static bool same_range(const range *a, const range *b) {
    return a->count > 0 && a->first == b->first && a->count == b->count;
}

/* How many processes hold the same range as `r`, and how many of them the same bits. */
static void count_votes(const holdings *all, int size, int r, int p, int *holders, int *votes) {
    *holders = *votes = 0;
    for (int q = 0; q < size; q++) {
        if (!same_range(&all[r].range[p], &all[q].range[p])) continue;
        ++*holders;
        *votes += strcmp(all[r].range[p].sha256, all[q].range[p].sha256) == 0;
    }
}

static mnd_status compare(const holdings *all, int size, int64_t step) {
    char blamed[512] = "";
    size_t used = 0;
    for (int p = 0; p < RANGES; p++)
        for (int r = 0; r < size; r++) {
            int holders, votes;
            count_votes(all, size, r, p, &holders, &votes);
            if (holders < 2 || 2 * votes > holders || used > 400) continue;
            const int n = snprintf(blamed + used, sizeof blamed - used,
                                   "%s%s of rank %d on host %s", used > 0 ? ", " : "",
                                   p == 0 ? "parameters" : "optimizer state", r, all[r].host);
            if (n > 0) used = strlen(blamed);
        }
    if (used == 0) return MND_OK;
    return mnd_fail(
        MND_MISMATCH,
        "replicas differ at step %lld: %s differ from the others; a bit was flipped in "
        "memory or on the way; the last good checkpoint stays: start again with --resume "
        "auto",
        (long long)step, blamed);
}

mnd_status mnd_replica_check(mnd_comm *comm, mnd_exchange *exchange, size_t n_param, int n_slot,
                             int64_t step) {
    mnd_status status = MND_OK;
    holdings *all = NULL;
    const int size = mnd_comm_size(comm);
    if (size == 1) return MND_OK;
    holdings mine;
    memset(&mine, 0, sizeof mine);
    snprintf(mine.host, sizeof mine.host, "%s", mnd_comm_host(comm));
    MND_NEW_AGREED(comm, all, size, "the replica check");
    if (mnd_exchange_writes_param(exchange)) {
        mine.range[0].count = n_param;
        status = mnd_sha256_buffer(mnd_exchange_param(exchange), n_param * sizeof(float),
                                   mine.range[0].sha256);
    }
    size_t first, count;
    mnd_exchange_slice(exchange, &first, &count);
    for (int s = 0; s < n_slot && status == MND_OK; s++) {
        range *k = &mine.range[1 + s];
        k->first = first;
        k->count = count;
        status = mnd_sha256_buffer(mnd_exchange_slot(exchange, s) + first, count * sizeof(float),
                                   k->sha256);
    }
    MND_TRY(mnd_comm_agree(comm, status, NULL));
    MND_TRY(mnd_comm_allgather(comm, &mine, sizeof mine, all));
    MND_TRY(mnd_comm_agree(comm, compare(all, size, step), NULL));
cleanup:
    mnd_free(all);
    return status;
}
