/*
 * node.c - an MPI-3 shared-memory window, and a barrier of C11 atomics in it.
 *
 * MPI's unified memory model is asked for once; from then on release and acquire order the stores,
 * and no MPI call is made.
 */
#include "mnist_dist/node.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/statvfs.h>

#include "dist.h"

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "atomics in shared memory must be free of locks");

/* Where a process says how far it is; two cache lines, since CPUs fetch them in pairs. */
typedef struct arrival {
    /*
     * Number of the barrier << 16 | flags, for even and odd barriers: a process may reach the
     * next one while others still read this one's flags, but not to the one after it.
     */
    _Alignas(128) atomic_uint_least64_t token[2];
} arrival;

/* Polls before a waiting process yields its CPU; some ten microseconds. */
enum { SPIN_LIMIT = 2000 };

struct mnd_node {
    mnd_comm *comm; /* the processes of this node, by rank */
    int rank, size;
    MPI_Win window;
    arrival *line; /* (size), in the window */
    char *common;  /* in the window */
    char **own;    /* (size) every process' segment, in the window */
    uint64_t barriers;
    bool crowded; /* fewer CPUs than processes */
};

static size_t page_round(size_t bytes) { return (bytes + 4095) / 4096 * 4096; }

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

uint32_t mnd_node_barrier(mnd_node *node, uint32_t flags) {
    const uint64_t now = ++node->barriers;
    const int side = now & 1;
    const int limit = node->crowded ? 0 : SPIN_LIMIT;
    atomic_store_explicit(&node->line[node->rank].token[side], now << 16 | flags,
                          memory_order_release);
    for (int k = 1; k < node->size; k++) {
        const int r = (node->rank + k) % node->size;
        atomic_uint_least64_t *const theirs = &node->line[r].token[side];
        uint64_t token;
        int polls = 0;
        while ((token = atomic_load_explicit(theirs, memory_order_acquire)) >> 16 < now) {
            if (polls < limit) {
                polls++;
                relax();
            } else {
                sched_yield();
            }
        }
        flags |= (uint32_t)(token & 0xffff);
    }
    return flags;
}

/* Processes without a CPU of their own must not spin: the one that they wait for may want it. */
static mnd_status find_crowded(mnd_node *node) {
    mnd_status status = MND_OK;
    cpu_set_t mine, *all;
    CPU_ZERO(&mine);
    (void)sched_getaffinity(0, sizeof mine, &mine); /* none: not known */
    MND_NEW_AGREED(node->comm, all, node->size, "exchange");
    MND_TRY(mnd_comm_allgather(node->comm, &mine, sizeof mine, all));
    /* From what all processes have, so that all decide the same. */
    bool known = true;
    for (int r = 0; r < node->size; r++) {
        known = known && CPU_COUNT(&all[r]) > 0;
        CPU_OR(&mine, &mine, &all[r]);
    }
    node->crowded = known && CPU_COUNT(&mine) < node->size;
cleanup:
    mnd_free(all);
    return status;
}

/* The processes of the node. Collective over `all`. */
static mnd_status group(mnd_comm *all, mnd_node *node) {
    mnd_status status = MND_OK;
    MND_TRY(mnd_comm_split_node(all, &node->comm));
    node->rank = mnd_comm_rank(node->comm);
    node->size = mnd_comm_size(node->comm);
    MND_NEW_AGREED(all, node->own, node->size, "exchange");
    MND_TRY(mnd_comm_agree(all, find_crowded(node), NULL));
cleanup:
    return status;
}

/*
 * A window larger than /dev/shm can be allocated, but the process dies by SIGBUS when it touches
 * the missing pages: so the free space is checked before.
 */
static mnd_status check_room(const mnd_node *node, int64_t bytes) {
    struct statvfs fs;
    if (node->rank != 0 || statvfs("/dev/shm", &fs) != 0) return MND_OK;
    const double free_bytes = (double)fs.f_bavail * (double)fs.f_frsize;
    if ((double)bytes <= free_bytes) return MND_OK;
    return mnd_fail(MND_NO_MEMORY,
                    "%s: /dev/shm has %.0f MB left, shared gradients need %.0f MB: enlarge it "
                    "(mount -o remount,size=..., docker run --shm-size=...) or take --exchange "
                    "tree",
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
                 "%s shares memory without the unified model: take --exchange tree",
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

/* Every process signs its segment and reads all signatures: is it the same memory for all? */
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

/* The window, and what lies where in it. Collective over `all`. */
static mnd_status allocate(mnd_comm *all, mnd_node *node, size_t common, size_t own) {
    mnd_status status = MND_OK;
    const size_t lines = page_round((size_t)node->size * sizeof(arrival));
    size_t bytes = page_round(own) + 4096; /* to round up to a page */
    if (node->rank == 0) bytes += lines + page_round(common);
    int64_t total = (int64_t)bytes;
    status = mnd_comm_sum_i64(node->comm, &total, 1);
    if (status == MND_OK) status = check_room(node, total);
    MND_TRY(mnd_comm_agree(all, status, NULL));
    MND_TRY(mnd_comm_agree(all, make_window(node, bytes), NULL));
    MND_TRY(mnd_comm_agree(all, check_window(node), NULL));
    node->line = (void *)node->own[0];
    node->common = node->own[0] + lines;
    node->own[0] = node->common + page_round(common);
    if (node->rank == 0) memset(node->line, 0, (size_t)node->size * sizeof *node->line);
    /* No process reads a line before it is zero. */
    MND_TRY(mnd_comm_agree(all, mnd_comm_barrier(node->comm), NULL));
cleanup:
    return status;
}

mnd_status mnd_node_open(mnd_comm *all, size_t common, size_t own, mnd_node **out) {
    mnd_status status = MND_OK;
    mnd_node *node;
    *out = NULL;
    MND_NEW_AGREED(all, node, 1, "exchange");
    node->window = MPI_WIN_NULL;
    MND_TRY(group(all, node));
    MND_TRY(allocate(all, node, common, own));
    *out = node;
    node = NULL;
cleanup:
    mnd_node_close(&node);
    return status;
}

void mnd_node_close(mnd_node **out) {
    mnd_node *node = *out;
    *out = NULL;
    if (node == NULL) return;
    /* A failure here has no consequence that a caller could act on. */
    if (node->window != MPI_WIN_NULL) {
        (void)MPI_Win_unlock_all(node->window);
        (void)MPI_Win_free(&node->window);
    }
    mnd_free(node->own);
    mnd_comm_finish(&node->comm);
    mnd_free(node);
}

mnd_comm *mnd_node_comm(const mnd_node *node) { return node->comm; }
void *mnd_node_common(const mnd_node *node) { return node->common; }
void *mnd_node_own(const mnd_node *node, int r) { return node->own[r]; }
bool mnd_node_crowded(const mnd_node *node) { return node->crowded; }
