#include "node.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "dist.h"

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "atomics in shared memory must be free of locks");

static size_t page_round(size_t bytes) { return (bytes + 4095) / 4096 * 4096; }

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

uint32_t mnd_node_meet(mnd_node *node, uint32_t flags) {
    const uint64_t now = ++node->meetings;
    const int side = now & 1;
    atomic_store_explicit(&node->line[node->rank].token[side], now << 16 | flags,
                          memory_order_release);
    for (int k = 1; k < node->size; k++) {
        const int r = (node->rank + k) % node->size;
        atomic_uint_least64_t *const theirs = &node->line[r].token[side];
        uint64_t token;
        int look = 0;
        while ((token = atomic_load_explicit(theirs, memory_order_acquire)) >> 16 < now) {
            if (look < node->patience) {
                look++;
                relax();
            } else {
                sched_yield();
            }
        }
        flags |= (uint32_t)(token & 0xffff);
    }
    return flags;
}

/* Ranks without a CPU of their own must not spin: whom they wait for may want this very CPU. */
static mnd_status set_patience(mnd_node *node) {
    mnd_status status = MND_OK;
    cpu_set_t mine, *all = NULL;
    CPU_ZERO(&mine);
    const int known = sched_getaffinity(0, sizeof mine, &mine) == 0;
    all = calloc((size_t)node->size, sizeof *all);
    status = all != NULL ? MND_OK : mnd_fail(MND_NO_MEMORY, "exchange: no memory");
    MND_TRY(mnd_comm_agree(node->comm, status, NULL));
    MND_TRY(mnd_comm_allgather(node->comm, &mine, sizeof mine, all));
    for (int r = 0; r < node->size; r++) CPU_OR(&mine, &mine, &all[r]);
    node->patience = known && CPU_COUNT(&mine) < node->size ? 0 : 2000;
cleanup:
    free(all);
    return status;
}

mnd_status mnd_node_open(mnd_comm *all, mnd_node *node) {
    *node = (mnd_node){.window = MPI_WIN_NULL};
    mnd_status status = mnd_comm_split_node(all, &node->comm);
    if (status == MND_OK) {
        node->rank = mnd_comm_rank(node->comm);
        node->size = mnd_comm_size(node->comm);
        node->own = calloc((size_t)node->size, sizeof *node->own);
        if (node->own == NULL) status = mnd_fail(MND_NO_MEMORY, "exchange: no memory");
    }
    status = mnd_comm_agree(all, status, NULL);
    if (status == MND_OK) status = mnd_comm_agree(all, set_patience(node), NULL);
    return status;
}

/*
 * A window larger than /dev/shm is given out all the same, and the process dies by SIGBUS when it
 * touches the missing pages: so ask before.
 */
static mnd_status check_room(const mnd_node *node, int64_t bytes) {
    struct statvfs fs;
    if (node->rank != 0 || statvfs("/dev/shm", &fs) != 0) return MND_OK;
    const double free_bytes = (double)fs.f_bavail * (double)fs.f_frsize;
    if ((double)bytes <= free_bytes) return MND_OK;
    return mnd_fail(MND_NO_MEMORY,
                    "%s: /dev/shm has %.0f MB left, shared gradients need %.0f MB: enlarge it "
                    "(mount -o remount,size=..., docker run --shm-size=...) or take --exchange "
                    "allreduce",
                    mnd_comm_host(node->comm), free_bytes / 1e6, (double)bytes / 1e6);
}

static mnd_status make_window(mnd_node *node, size_t bytes) {
    mnd_status status = MND_OK;
    MPI_Info info = MPI_INFO_NULL;
    void *base = NULL;
    MND_MPI(MPI_Info_create(&info));
    /* Each segment on pages of its own. */
    MND_MPI(MPI_Info_set(info, "alloc_shared_noncontig", "true"));
    MND_MPI(MPI_Win_allocate_shared((MPI_Aint)bytes, 1, info, mnd_comm_handle(node->comm), &base,
                                    &node->window));
    MND_MPI(MPI_Win_set_errhandler(node->window, MPI_ERRORS_RETURN));
    int *model = NULL, found = 0;
    MND_MPI(MPI_Win_get_attr(node->window, MPI_WIN_MODEL, &model, &found));
    if (!found || *model != MPI_WIN_UNIFIED)
        MND_FAIL(MND_UNSUPPORTED,
                 "%s shares memory without the unified model: take --exchange "
                 "allreduce",
                 mnd_comm_library(node->comm));
    MND_MPI(MPI_Win_lock_all(MPI_MODE_NOCHECK, node->window));
    for (int r = 0; r < node->size; r++) {
        MPI_Aint size = 0;
        int unit = 0;
        MND_MPI(MPI_Win_shared_query(node->window, r, &size, &unit, &base));
        /* Mappings begin on pages, so that all processes round to the same byte. */
        node->own[r] = (char *)base + ((4096 - (uintptr_t)base % 4096) % 4096);
    }
cleanup:
    if (info != MPI_INFO_NULL) (void)MPI_Info_free(&info);
    return status;
}

/* Everybody signs its segment and reads all signatures: is this one and the same memory? */
static mnd_status check_window(mnd_node *node) {
    mnd_status status = MND_OK;
    volatile int *mine = (volatile int *)(void *)node->own[node->rank];
    *mine = node->rank + 1;
    MND_MPI(MPI_Win_sync(node->window));
    MND_TRY(mnd_comm_barrier(node->comm));
    MND_MPI(MPI_Win_sync(node->window));
    int good = 1;
    for (int r = 0; r < node->size; r++) good &= *(volatile int *)(void *)node->own[r] == r + 1;
    MND_TRY(mnd_comm_barrier(node->comm));
    *mine = 0;
    if (!good) MND_FAIL(MND_COMM, "the shared-memory window is not the same memory on all ranks");
cleanup:
    return status;
}

mnd_status mnd_node_allocate(mnd_comm *all, mnd_node *node, size_t common_bytes, size_t own_bytes) {
    const size_t lines = page_round((size_t)node->size * sizeof(mnd_node_line));
    size_t bytes = page_round(own_bytes) + 4096; /* room to round up to a page */
    if (node->rank == 0) bytes += lines + page_round(common_bytes);
    int64_t total = (int64_t)bytes;
    mnd_status status = mnd_comm_sum_i64(node->comm, &total, 1);
    if (status == MND_OK) status = check_room(node, total);
    status = mnd_comm_agree(all, status, NULL);
    if (status == MND_OK) status = mnd_comm_agree(all, make_window(node, bytes), NULL);
    if (status != MND_OK) return status;
    status = mnd_comm_agree(all, check_window(node), NULL);
    if (status != MND_OK) return status;
    node->line = (void *)node->own[0];
    node->common = node->own[0] + lines;
    node->own[0] = node->common + page_round(common_bytes);
    if (node->rank == 0) memset(node->line, 0, (size_t)node->size * sizeof *node->line);
    /* Nobody looks at a line before it is zero. */
    return mnd_comm_agree(all, mnd_comm_barrier(node->comm), NULL);
}

void mnd_node_close(mnd_node *node) {
    if (node->comm == NULL) return;
    /* A failure to let go has no consequence that anybody could act upon. */
    if (node->window != MPI_WIN_NULL) {
        (void)MPI_Win_unlock_all(node->window);
        (void)MPI_Win_free(&node->window);
    }
    free(node->own);
    mnd_comm_finish(&node->comm);
    *node = (mnd_node){.window = MPI_WIN_NULL};
}
