#include "transport.h"

#include <errno.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

mnd_status mnd_transport_probe(mnd_comm *comm, int32_t *error) {
    mnd_status status = MND_OK;
    mnd_comm *node = NULL;
    struct {
        uint64_t word, address;
        int64_t pid;
    } mine, *all = NULL;
    *error = 0;
    MND_TRY(mnd_comm_split_node(comm, &node));
    const int rank = mnd_comm_rank(node), size = mnd_comm_size(node);
    mine.word = UINT64_C(0x6d6e697374000000) + (uint64_t)rank;
    mine.address = (uint64_t)(uintptr_t)&mine.word;
    mine.pid = (int64_t)getpid();
    MND_NEW_AGREED(node, all, size, "the processes of the node");
    MND_TRY(mnd_comm_allgather(node, &mine, sizeof mine, all));
    const int next = (rank + 1) % size;
    if (next != rank) {
        uint64_t copy = 0;
        const struct iovec here = {.iov_base = &copy, .iov_len = sizeof copy};
        const struct iovec there = {.iov_base = (void *)(uintptr_t)all[next].address,
                                    .iov_len = sizeof copy};
        if (process_vm_readv((pid_t)all[next].pid, &here, 1, &there, 1, 0) != (ssize_t)sizeof copy)
            *error = errno != 0 ? errno : EIO;
        else if (copy != all[next].word)
            *error = ESRCH; /* another process of that number: the other one's are counted apart */
    }
    status = mnd_comm_barrier(node); /* until then `mine` is read by another process */
cleanup:
    mnd_free(all);
    mnd_comm_finish(&node);
    return status;
}

int32_t mnd_transport_scope(void) {
    int scope = -1;
    FILE *f = fopen("/proc/sys/kernel/yama/ptrace_scope", "r");
    if (f == NULL) return -1;
    if (fscanf(f, "%d", &scope) != 1) scope = -1;
    fclose(f);
    return scope;
}
