#include "mnist_dist/watchdog.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mnist_dist/log.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/timer.h"

enum { ADDRESSES = 4, MONITORS = 2 };

/* In place of a phase: a rank has judged and ends the job; no other need. */
enum { ENDING = MND_N_PHASES };

static const uint32_t MAGIC = 0x6d6e6477; /* "mndw" */

/* Where and who a process is; exchanged once over MPI. */
typedef struct peer {
    char host[MND_HOST_NAME];
    int64_t pid;
    uint32_t address[ADDRESSES]; /* IPv4, network order */
    int32_t n_address;
    uint16_t port; /* network order */
    uint16_t unused;
} peer;

/* One datagram. Sender and receiver may be of different builds only by mistake: see MAGIC, token.
 */
typedef struct beat {
    uint32_t magic;
    int32_t rank;
    uint64_t token; /* of this run, so that datagrams of another never count */
    int32_t phase;
    uint32_t age_ms; /* time in this phase */
    int64_t step;
} beat;

/* What a monitor knows of a process. */
typedef struct seen {
    double heard; /* when the last beat came */
    beat last;
} seen;

struct mnd_watchdog {
    mnd_comm *comm; /* borrowed; only for mnd_comm_abort */
    int rank, size;
    double timeout, interval;
    uint64_t token;
    int socket, wake; /* wake: an eventfd that ends the thread's pause */
    peer *peer;       /* (size), owned */
    seen *seen;       /* (size), owned; used by the thread only */
    pthread_t thread;
    bool running;
    bool ending; /* the thread's: another has judged */
    atomic_int phase;
    atomic_llong step;
    _Atomic double since;
    atomic_bool stop;
};

static const char *const phase_text[MND_N_PHASES] = {
#define PHASE_TEXT(name, text) text,
    MND_PHASE_TABLE(PHASE_TEXT)
#undef PHASE_TEXT
};

void mnd_watchdog_phase(mnd_watchdog *dog, mnd_phase phase, int64_t step) {
    if (dog == NULL) return;
    atomic_store_explicit(&dog->since, mnd_now(), memory_order_relaxed);
    atomic_store_explicit(&dog->step, step, memory_order_relaxed);
    atomic_store_explicit(&dog->phase, (int)phase, memory_order_relaxed);
}

/* ------------------------------------------------------------------------------------ addresses */

static mnd_status describe(mnd_watchdog *dog, peer *me) {
    mnd_status status = MND_OK;
    struct ifaddrs *list = NULL;
    struct sockaddr_in any = {.sin_family = AF_INET};
    socklen_t length = sizeof any;
    *me = (peer){.pid = getpid()};
    snprintf(me->host, sizeof me->host, "%s", mnd_comm_host(dog->comm));
    dog->socket = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (dog->socket < 0 || bind(dog->socket, (struct sockaddr *)&any, sizeof any) != 0 ||
        getsockname(dog->socket, (struct sockaddr *)&any, &length) != 0)
        MND_FAIL(MND_COMM, "the watchdog cannot open a UDP socket: %s", strerror(errno));
    me->port = any.sin_port;
    if (getifaddrs(&list) != 0)
        MND_FAIL(MND_COMM, "the watchdog cannot list the network interfaces: %s", strerror(errno));
    for (const struct ifaddrs *i = list; i != NULL && me->n_address < ADDRESSES; i = i->ifa_next) {
        if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET) continue;
        if ((i->ifa_flags & IFF_LOOPBACK) != 0 || (i->ifa_flags & IFF_UP) == 0) continue;
        me->address[me->n_address++] = ((struct sockaddr_in *)i->ifa_addr)->sin_addr.s_addr;
    }
    dog->wake = eventfd(0, EFD_CLOEXEC);
    if (dog->wake < 0)
        MND_FAIL(MND_COMM, "the watchdog cannot open an eventfd: %s", strerror(errno));
cleanup:
    if (list != NULL) freeifaddrs(list);
    return status;
}

/* To every address the other may have; on the same host to the loopback. Loss is expected. */
static void send_to(const mnd_watchdog *dog, int to, const beat *b) {
    const peer *p = &dog->peer[to];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = p->port};
    if (strcmp(p->host, dog->peer[dog->rank].host) == 0) {
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        (void)sendto(dog->socket, b, sizeof *b, MSG_DONTWAIT, (struct sockaddr *)&at, sizeof at);
        return;
    }
    for (int i = 0; i < p->n_address; i++) {
        at.sin_addr.s_addr = p->address[i];
        (void)sendto(dog->socket, b, sizeof *b, MSG_DONTWAIT, (struct sockaddr *)&at, sizeof at);
    }
}

static beat own_beat(const mnd_watchdog *dog) {
    const double age = mnd_now() - atomic_load_explicit(&dog->since, memory_order_relaxed);
    return (beat){.magic = MAGIC,
                  .rank = dog->rank,
                  .token = dog->token,
                  .phase = atomic_load_explicit(&dog->phase, memory_order_relaxed),
                  .age_ms = age > 0.0 ? (uint32_t)(age * 1000.0) : 0,
                  .step = atomic_load_explicit(&dog->step, memory_order_relaxed)};
}

static void receive_all(mnd_watchdog *dog) {
    beat b;
    for (ssize_t n; (n = recv(dog->socket, &b, sizeof b, MSG_DONTWAIT)) >= 0;) {
        if (n != sizeof b || b.magic != MAGIC || b.token != dog->token || b.rank < 0 ||
            b.rank >= dog->size || b.phase < 0 || b.phase > ENDING)
            continue;
        if (b.phase == ENDING) {
            dog->ending = true;
            continue;
        }
        dog->seen[b.rank] = (seen){.heard = mnd_now(), .last = b};
    }
}

/* -------------------------------------------------------------------------------------- judging */

static double silence(const mnd_watchdog *dog, int r, double now) {
    return now - dog->seen[r].heard;
}

static double phase_age(const mnd_watchdog *dog, int r, double now) {
    return 1e-3 * (double)dog->seen[r].last.age_ms + silence(dog, r, now);
}

static void name(const mnd_watchdog *dog, int r, double now, const char *what, double seconds) {
    const peer *p = &dog->peer[r];
    const beat *b = &dog->seen[r].last;
    mnd_log(
        MND_LOG_ERROR,
        "watchdog: rank %d on host %s, pid %lld, %s for %.1f s; last seen %s at step %lld, since "
        "%.1f s",
        r, p->host, (long long)p->pid, what, seconds, phase_text[b->phase], (long long)b->step,
        phase_age(dog, r, now));
}

/* Whether the process that started this one is mpirun, under one of its names. */
static bool is_launcher(pid_t pid) {
    static const char *const names[] = {"mpirun", "mpiexec", "orterun", "prterun"};
    char path[64], text[32] = "";
    snprintf(path, sizeof path, "/proc/%ld/comm", (long)pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    const ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n > 0 && text[n - 1] == '\n') text[n - 1] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) return true;
    return false;
}

/*
 * mpirun does not end before its daemons on all hosts have, and one that is frozen or cut off never
 * says so. Hence a process is left behind that ends an mpirun which is still there GRACE_MS after
 * the job; no other process of the job would live so long. Under srun Slurm itself sees to it.
 */
static void end_launcher_later(void) {
    enum { GRACE_MS = 10000, MAX_FD = 4096 };
    const pid_t launcher = getppid();
    if (!is_launcher(launcher)) return;
    const int fd = (int)syscall(SYS_pidfd_open, launcher, 0);
    if (fd < 0) return; /* an old kernel: then it is as without */
    const pid_t child = fork();
    if (child == 0) {
        /* Async-signal-safe calls only. A session of its own keeps it out of mpirun's kill; closed
         * files let mpirun see the end of the output. */
        (void)setsid();
        if (fork() != 0) _exit(0);
        for (int i = 0; i < MAX_FD; i++)
            if (i != fd) (void)close(i);
        struct pollfd end = {.fd = fd, .events = POLLIN};
        /* Not TERM: while it waits like this, Open MPI 4.1 answers that with a segmentation fault.
         */
        if (poll(&end, 1, GRACE_MS) == 0)
            (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
        _exit(0);
    }
    if (child > 0) (void)waitpid(child, NULL, 0);
    close(fd);
}

/*
 * A silent rank is to blame; else one that is long in a phase of its own; else, when all wait
 * for one another, those that lag.
 */
static void judge(mnd_watchdog *dog, double limit) {
    const double now = mnd_now();
    bool late = false;
    if (dog->ending) return;
    for (int r = 0; r < dog->size; r++)
        if (dog->seen[r].last.phase != MND_PHASE_DONE &&
            (silence(dog, r, now) > limit || phase_age(dog, r, now) > limit))
            late = true;
    if (!late) return;
    beat end = own_beat(dog);
    end.phase = ENDING;
    for (int r = 0; r < dog->size; r++)
        if (r != dog->rank) send_to(dog, r, &end);

    /* A silence of a few beats is not chance: whatever made the others wait, this is it. */
    const double quiet = 4.0 * dog->interval < limit ? 4.0 * dog->interval : limit;
    int blamed = 0, waiting = 0;
    int64_t least = INT64_MAX;
    double longest = 0.0;
    for (int r = 0; r < dog->size; r++) {
        const beat *b = &dog->seen[r].last;
        if (b->phase == MND_PHASE_DONE) continue;
        if (silence(dog, r, now) > quiet) {
            name(dog, r, now, "gives no sign of life (stopped, dead or cut off)",
                 silence(dog, r, now));
            blamed++;
        } else if (b->phase == MND_PHASE_WAIT) {
            waiting++;
            if (b->step < least) least = b->step;
            if (phase_age(dog, r, now) > longest) longest = phase_age(dog, r, now);
        }
    }
    for (int r = 0; blamed == 0 && r < dog->size; r++) {
        const beat *b = &dog->seen[r].last;
        if (b->phase == MND_PHASE_DONE || b->phase == MND_PHASE_WAIT) continue;
        if (phase_age(dog, r, now) > limit / 2.0)
            name(dog, r, now, "is stuck", phase_age(dog, r, now));
    }
    for (int r = 0; blamed == 0 && waiting == dog->size && r < dog->size; r++)
        if (dog->seen[r].last.step == least)
            name(dog, r, now, "waits for messages that do not come", phase_age(dog, r, now));
    mnd_log(
        MND_LOG_ERROR,
        "watchdog: %d of %d processes wait for the others, the longest since %.1f s; the job is "
        "ended (--stall-timeout %g)",
        waiting, dog->size, longest, dog->timeout);
    end_launcher_later();
    mnd_comm_abort(dog->comm, 1);
}

static void *watch(void *context) {
    mnd_watchdog *dog = context;
    const int monitors = dog->size < MONITORS ? dog->size : MONITORS;
    const double begin = mnd_now();
    for (int r = 0; r < dog->size; r++)
        dog->seen[r] = (seen){.heard = begin, .last = {.rank = r, .phase = MND_PHASE_SETUP}};
    double woken = begin, due = begin;
    while (!atomic_load(&dog->stop)) {
        const beat mine = own_beat(dog);
        dog->seen[dog->rank] = (seen){.heard = mnd_now(), .last = mine};
        if (mnd_now() >= due) {
            due = mnd_now() + dog->interval;
            const int to = dog->rank < monitors ? dog->size : monitors;
            for (int r = 0; r < to; r++)
                if (r != dog->rank) send_to(dog, r, &mine);
        }
        /* Datagrams may pile up until the next beat: nothing here is urgent but the end. */
        struct pollfd end = {.fd = dog->wake, .events = POLLIN};
        (void)poll(&end, 1, (int)(dog->interval * 1000.0) + 1);
        receive_all(dog);
        /* After this process itself was stopped, or the machine slept, all others look silent. */
        const double now = mnd_now(), gap = now - woken - dog->interval;
        woken = now;
        if (gap > 2.0 * dog->interval)
            for (int r = 0; r < dog->size; r++) dog->seen[r].heard += gap;
        if (dog->rank == 0) {
            judge(dog, dog->timeout);
        } else if (dog->rank == 1) {
            judge(dog, dog->timeout + 4.0 * dog->interval);
        } else {
            const double limit = dog->timeout + 8.0 * dog->interval;
            bool heard = false;
            for (int r = 0; r < monitors; r++)
                heard |= silence(dog, r, now) <= limit || dog->seen[r].last.phase == MND_PHASE_DONE;
            if (!heard && !dog->ending) {
                name(dog, 0, now, "gives no sign of life (stopped, dead or cut off)",
                     silence(dog, 0, now));
                mnd_log(MND_LOG_ERROR,
                        "watchdog: rank %d on host %s hears of no other host any more and gives up",
                        dog->rank, dog->peer[dog->rank].host);
                end_launcher_later();
                mnd_comm_abort(dog->comm, 1);
            }
        }
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------- start */

mnd_status mnd_watchdog_start(mnd_comm *comm, double timeout, mnd_watchdog **out) {
    mnd_status status = MND_OK;
    mnd_watchdog *dog = NULL;
    peer me = {.port = 0};
    *out = NULL;
    if (timeout <= 0.0 || mnd_comm_size(comm) == 1) return MND_OK;
    MND_NEW_AGREED(comm, dog, 1, "the watchdog");
    dog->comm = comm;
    dog->rank = mnd_comm_rank(comm);
    dog->size = mnd_comm_size(comm);
    dog->socket = -1;
    dog->wake = -1;
    dog->timeout = timeout;
    dog->interval = timeout / 10.0 < 1.0 ? timeout / 10.0 : 1.0;
    mnd_watchdog_phase(dog, MND_PHASE_SETUP, 0);
    MND_NEW_AGREED(comm, dog->peer, dog->size, "the watchdog");
    MND_NEW_AGREED(comm, dog->seen, dog->size, "the watchdog");
    MND_TRY(mnd_comm_agree(comm, describe(dog, &me), NULL));
    MND_TRY(mnd_comm_allgather(comm, &me, sizeof me, dog->peer));
    /* Any number that two runs on the same hosts will not share. */
    dog->token = (uint64_t)dog->peer[0].pid << 32 ^ (uint64_t)dog->peer[0].port << 16 ^
                 (uint64_t)(mnd_now() * 1e6);
    MND_TRY(mnd_comm_bcast(comm, &dog->token, sizeof dog->token, 0));
    status = MND_OK;
    if (pthread_create(&dog->thread, NULL, watch, dog) != 0)
        status = mnd_fail(MND_NO_MEMORY, "the watchdog cannot start its thread");
    else
        dog->running = true;
    MND_TRY(mnd_comm_agree(comm, status, NULL));
    *out = dog;
    dog = NULL;
cleanup:
    mnd_watchdog_stop(&dog);
    return status;
}

void mnd_watchdog_stop(mnd_watchdog **watchdog) {
    mnd_watchdog *dog = *watchdog;
    if (dog == NULL) return;
    if (dog->running) {
        mnd_watchdog_phase(dog, MND_PHASE_DONE, atomic_load(&dog->step));
        atomic_store(&dog->stop, true);
        (void)eventfd_write(dog->wake, 1);
        (void)pthread_join(dog->thread, NULL);
        /* Three times, since a datagram may be lost and an early end must not look like a death. */
        const beat last = own_beat(dog);
        for (int i = 0; i < 3; i++)
            for (int r = 0; r < (dog->rank < MONITORS ? dog->size : MONITORS); r++)
                if (r != dog->rank && r < dog->size) send_to(dog, r, &last);
    }
    if (dog->socket >= 0) close(dog->socket);
    if (dog->wake >= 0) close(dog->wake);
    mnd_free(dog->peer);
    mnd_free(dog->seen);
    mnd_free(dog);
    *watchdog = NULL;
}
