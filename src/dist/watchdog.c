#include "mnist_dist/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "datagram.h"
#include "mnist_dist/log.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/timer.h"

enum { MONITORS = 2 };

/* Seconds. The most that other processes get to wake up after this one did; see forgive. */
static const double MOST_GRACE = 30.0;
/* Seconds after which a process that cannot be heard is reported while the run goes on. */
static const double UNHEARD = 30.0;

/* In place of a phase: a rank has judged and ends the job; no other need. */
enum { ENDING = MND_N_PHASES };

static const uint32_t MAGIC = 0x6d6e6477; /* "mndw" */

/* Where and who a process is; exchanged once over MPI. */
typedef struct peer {
    int rank; /* in the whole job, for messages */
    char host[MND_HOST_NAME];
    int64_t pid;
    mnd_endpoint endpoint;
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
    double heard;         /* when the last beat came; before the first, when this thread began */
    bool ever;            /* whether one came */
    struct in6_addr from; /* where the last one came from */
    beat last;
} seen;

/*
 * All times are of mnd_now, moved forward by the time for which this process was stopped since
 * then, so that their distance from now is time for which it ran.
 */
struct mnd_watchdog {
    mnd_comm *comm; /* borrowed; only for mnd_comm_abort */
    int rank, size;
    double timeout, interval;
    uint64_t token;
    mnd_datagram_socket socket;
    int wake;   /* an eventfd that ends the thread's pause */
    peer *peer; /* (size), owned */
    pthread_t thread;
    bool running;

    /* The thread's. */
    seen *seen;            /* (size), owned */
    double begin, now;     /* when the thread began; when its present turn began */
    double grace_end;      /* no judgement before */
    long long grace_step;  /* the step at which that was granted last */
    bool ending;           /* another has judged */
    bool reported_unheard; /* see report_unheard */

    /* The main thread writes, both read. */
    atomic_int phase;
    atomic_llong step;
    _Atomic double since;    /* in this phase */
    _Atomic double together; /* when all processes last took part in something collective */
    atomic_bool stop;
};

static const char *const phase_text[MND_N_PHASES] = {
#define PHASE_TEXT(name, text) text,
    MND_PHASE_TABLE(PHASE_TEXT)
#undef PHASE_TEXT
};

static double lesser(double a, double b) { return a < b ? a : b; }

void mnd_watchdog_phase(mnd_watchdog *dog, mnd_phase phase, int64_t step) {
    if (dog == NULL) return;
    const double now = mnd_now();
    /* What this process waited for needs all others: they were alive, heard or not. */
    if (atomic_load_explicit(&dog->phase, memory_order_relaxed) == MND_PHASE_WAIT)
        atomic_store_explicit(&dog->together, now, memory_order_relaxed);
    atomic_store_explicit(&dog->since, now, memory_order_relaxed);
    if (step != MND_SAME_STEP) atomic_store_explicit(&dog->step, step, memory_order_relaxed);
    atomic_store_explicit(&dog->phase, (int)phase, memory_order_relaxed);
}

/* --------------------------------------------------------------------------------------- beats */

/* To the address that the other's beats come from; until they do, to every one that it has. */
static void send_to(const mnd_watchdog *dog, int to, const beat *b) {
    const mnd_endpoint *e = &dog->peer[to].endpoint;
    const seen *s = &dog->seen[to];
    if (s->ever && dog->now - s->heard < 4.0 * dog->interval)
        mnd_datagram_send(&dog->socket, &s->from, e->port, b, sizeof *b);
    else
        /* Two machines may have the same name, so the loopback is only one more address. */
        mnd_datagram_send_all(&dog->socket, e,
                              strcmp(dog->peer[to].host, dog->peer[dog->rank].host) == 0, b,
                              sizeof *b);
}

/* The time since then, never negative: the main thread may have set it after this turn began. */
static double passed(const mnd_watchdog *dog, double then) {
    return dog->now > then ? dog->now - then : 0.0;
}

static beat own_beat(const mnd_watchdog *dog) {
    const double age = passed(dog, atomic_load_explicit(&dog->since, memory_order_relaxed));
    return (beat){.magic = MAGIC,
                  .rank = dog->rank,
                  .token = dog->token,
                  .phase = atomic_load_explicit(&dog->phase, memory_order_relaxed),
                  .age_ms = (uint32_t)(age * 1000.0),
                  .step = atomic_load_explicit(&dog->step, memory_order_relaxed)};
}

static void receive_all(mnd_watchdog *dog) {
    beat b;
    size_t n;
    struct in6_addr from;
    while (mnd_datagram_receive(&dog->socket, &b, sizeof b, &n, &from)) {
        if (n != sizeof b || b.magic != MAGIC || b.token != dog->token || b.rank < 0 ||
            b.rank >= dog->size || b.phase < 0 || b.phase > ENDING)
            continue;
        if (b.phase == ENDING) {
            dog->ending = true;
            continue;
        }
        dog->seen[b.rank] = (seen){.heard = dog->now, .ever = true, .from = from, .last = b};
    }
}

/* -------------------------------------------------------------------------------- time asleep */

static double moved(const mnd_watchdog *dog, double time, double seconds) {
    return lesser(time + seconds, dog->now);
}

static void move(const mnd_watchdog *dog, _Atomic double *time, double seconds) {
    double was = atomic_load(time);
    /* Fails when the main thread has just set it, which then ran again. */
    if (was < dog->now) (void)atomic_compare_exchange_strong(time, &was, moved(dog, was, seconds));
}

/*
 * This process, and probably the whole job, was stopped for so long: by a batch system, the
 * terminal, a frozen container. That time counts for no process. The others may continue some
 * seconds later; they get as long as the pause was, but only once until a step ends, so that a
 * process that stays stopped is noticed.
 */
static void forgive(mnd_watchdog *dog, double asleep) {
    const long long step = atomic_load(&dog->step);
    move(dog, &dog->since, asleep);
    move(dog, &dog->together, asleep);
    dog->begin = moved(dog, dog->begin, asleep);
    for (int r = 0; r < dog->size; r++) dog->seen[r].heard = moved(dog, dog->seen[r].heard, asleep);
    dog->grace_end += asleep;
    if (asleep < dog->timeout / 2.0 || step == dog->grace_step) return;
    dog->grace_step = step;
    dog->grace_end = dog->now + lesser(asleep, MOST_GRACE);
}

/* -------------------------------------------------------------------------------------- judging */

/* How long there has been no sign of life: no beat and no end of a step. */
static double silence(const mnd_watchdog *dog, int r) {
    return lesser(passed(dog, dog->seen[r].heard), passed(dog, dog->together));
}

/*
 * Whether a process counts as silent. Where all work apart, no step tells that those which were
 * never heard live: UDP may be blocked, so they do not count.
 */
static bool is_silent(const mnd_watchdog *dog, int r, double limit) {
    const bool apart = dog->seen[dog->rank].last.phase == MND_PHASE_APART;
    return silence(dog, r) > limit && (dog->seen[r].ever || !apart);
}

static double phase_age(const mnd_watchdog *dog, int r) {
    const double told = 1e-3 * dog->seen[r].last.age_ms + passed(dog, dog->seen[r].heard);
    return r == dog->rank ? told : lesser(told, passed(dog, dog->together));
}

static void name(const mnd_watchdog *dog, int r, const char *what, double seconds) {
    const peer *p = &dog->peer[r];
    const beat *b = &dog->seen[r].last;
    mnd_log(
        MND_LOG_ERROR,
        "watchdog: rank %d on host %s, pid %lld, %s for %.1f s; last seen %s at step %lld, since "
        "%.1f s",
        p->rank, p->host, (long long)p->pid, what, seconds, phase_text[b->phase],
        (long long)b->step, phase_age(dog, r));
}

/* For a process that cannot be heard: perhaps it is not the one that is to blame. */
static void name_unheard(const mnd_watchdog *dog, int r) {
    const peer *p = &dog->peer[r];
    mnd_log(MND_LOG_ERROR,
            "watchdog: rank %d on host %s, pid %lld, was never heard, and no step has ended for "
            "%.1f s: it is stopped, dead or cut off, or UDP between the hosts is blocked (allow "
            "it, so that the watchdog can tell; raise --stall-timeout if a step takes longer)",
            p->rank, p->host, (long long)p->pid, silence(dog, r));
}

static void name_silent(const mnd_watchdog *dog, int r) {
    if (dog->seen[r].ever)
        name(dog, r, "gives no sign of life (stopped, dead or cut off)", silence(dog, r));
    else
        name_unheard(dog, r);
}

/* Says once that a process cannot be heard although steps end: the watchdog does without it. */
static void report_unheard(mnd_watchdog *dog) {
    int n = 0, first = 0;
    const double limit = lesser(dog->timeout, UNHEARD);
    if (dog->reported_unheard || passed(dog, dog->begin) < limit) return;
    for (int r = dog->size - 1; r >= 0; r--)
        if (!dog->seen[r].ever && r != dog->rank) {
            first = r;
            n++;
        }
    if (n == 0 || silence(dog, first) > limit / 2.0) return;
    dog->reported_unheard = true;
    mnd_log(MND_LOG_WARNING,
            "the watchdog hears nothing of %d of %d processes, the first of them rank %d on host "
            "%s, although steps end; probably UDP between the hosts is blocked. The run goes on; "
            "but if one of them stops, it can only be said that no step ends. Allow UDP between "
            "the hosts (any port), or switch the watchdog off with --stall-timeout 0",
            n, dog->size, dog->peer[first].rank, dog->peer[first].host);
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

/* Names those that are to blame, and returns how many there are. *waiting: how many wait. */
static int blame(const mnd_watchdog *dog, double limit, int *waiting, double *longest) {
    /* A silence of a few beats is not chance: whatever made the others wait, this is it. */
    const double quiet = lesser(4.0 * dog->interval, limit);
    int blamed = 0;
    int64_t least = INT64_MAX;
    for (int r = 0; r < dog->size; r++) {
        const beat *b = &dog->seen[r].last;
        if (b->phase == MND_PHASE_DONE) continue;
        if (is_silent(dog, r, quiet)) {
            if (!dog->seen[r].ever) continue;
            name_silent(dog, r);
            blamed++;
        } else if (b->phase == MND_PHASE_WAIT) {
            (*waiting)++;
            if (b->step < least) least = b->step;
            if (phase_age(dog, r) > *longest) *longest = phase_age(dog, r);
        }
    }
    if (blamed > 0) return blamed;
    for (int r = 0; r < dog->size; r++) {
        const beat *b = &dog->seen[r].last;
        if (!dog->seen[r].ever || b->phase == MND_PHASE_DONE || b->phase == MND_PHASE_WAIT ||
            b->phase == MND_PHASE_APART)
            continue;
        if (phase_age(dog, r) <= limit / 2.0) continue;
        name(dog, r, "is stuck", phase_age(dog, r));
        blamed++;
    }
    for (int r = 0; *waiting == dog->size && r < dog->size; r++)
        if (dog->seen[r].last.step == least) {
            name(dog, r, "waits for messages that do not come", phase_age(dog, r));
            blamed++;
        }
    return blamed;
}

/*
 * A silent rank is to blame; else one that is long in a phase of its own; else, when all wait
 * for one another, those that lag; else those of which nothing is known.
 */
static void judge(mnd_watchdog *dog, double limit) {
    bool late = false;
    int running = 0, long_waits = 0, waiting = 0;
    double longest = 0.0;
    for (int r = 0; r < dog->size; r++) {
        const int phase = dog->seen[r].last.phase;
        if (phase == MND_PHASE_DONE) continue;
        const bool old = phase_age(dog, r) > limit && phase != MND_PHASE_APART;
        /* A wait alone says nothing: another rank may go from one long phase to the next. */
        if (is_silent(dog, r, limit) || (old && phase != MND_PHASE_WAIT)) late = true;
        long_waits += old && phase == MND_PHASE_WAIT;
        running++;
    }
    if (!late && (running == 0 || long_waits < running)) return;
    beat end = own_beat(dog);
    end.phase = ENDING;
    for (int r = 0; r < dog->size; r++)
        if (r != dog->rank) send_to(dog, r, &end);
    if (blame(dog, limit, &waiting, &longest) == 0)
        for (int r = 0; r < dog->size; r++)
            if (!dog->seen[r].ever) name_unheard(dog, r);
    mnd_log(
        MND_LOG_ERROR,
        "watchdog: %d of %d processes wait for the others, the longest since %.1f s; the job is "
        "ended (--stall-timeout %g)",
        waiting, dog->size, longest, dog->timeout);
    end_launcher_later();
    mnd_comm_abort(dog->comm, 1);
}

/* What a process does that is not a monitor: it gives up when it hears of none. */
static void judge_monitors(mnd_watchdog *dog, double limit) {
    for (int r = 0; r < MONITORS; r++)
        if (!is_silent(dog, r, limit) || dog->seen[r].last.phase == MND_PHASE_DONE) return;
    name_silent(dog, 0);
    mnd_log(MND_LOG_ERROR,
            "watchdog: rank %d on host %s hears of no other host any more and gives up",
            dog->peer[dog->rank].rank, dog->peer[dog->rank].host);
    end_launcher_later();
    mnd_comm_abort(dog->comm, 1);
}

static void send_beats(mnd_watchdog *dog, const beat *b) {
    const int to = dog->rank < MONITORS ? dog->size : MONITORS;
    for (int r = 0; r < to; r++)
        if (r != dog->rank) send_to(dog, r, b);
}

static void *watch(void *context) {
    mnd_watchdog *dog = context;
    double due = dog->begin;
    while (!atomic_load(&dog->stop)) {
        /*
         * One reading of the clock for a turn: wherever in it the process is stopped, what this
         * turn reckons is right for the time before, and the next one notices the pause.
         */
        const double before = dog->now;
        dog->now = mnd_now();
        const double asleep = dog->now - before - dog->interval;
        if (asleep > 2.0 * dog->interval) forgive(dog, asleep);
        receive_all(dog);
        const beat mine = own_beat(dog);
        dog->seen[dog->rank] = (seen){.heard = dog->now, .ever = true, .last = mine};
        if (dog->now >= due) {
            due = dog->now + dog->interval;
            send_beats(dog, &mine);
        }
        if (!dog->ending && dog->now >= dog->grace_end) {
            if (dog->rank == 0) {
                judge(dog, dog->timeout);
                report_unheard(dog);
            } else if (dog->rank < MONITORS) {
                judge(dog, dog->timeout + 4.0 * dog->interval);
            } else {
                judge_monitors(dog, dog->timeout + 8.0 * dog->interval);
            }
        }
        /* Datagrams may pile up until the next beat: nothing here is urgent but the end. */
        struct pollfd end = {.fd = dog->wake, .events = POLLIN};
        (void)poll(&end, 1, (int)(dog->interval * 1000.0) + 1);
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------- start */

static mnd_status open_channels(mnd_watchdog *dog, peer *me) {
    const mnd_status status = mnd_datagram_open(&dog->socket, &me->endpoint);
    if (status != MND_OK) return status;
    dog->wake = eventfd(0, EFD_CLOEXEC);
    if (dog->wake < 0)
        return mnd_fail(MND_COMM, "the watchdog cannot open an eventfd: %s", strerror(errno));
    return MND_OK;
}

mnd_status mnd_watchdog_start(mnd_comm *comm, double timeout, mnd_watchdog **out) {
    mnd_status status = MND_OK;
    mnd_watchdog *dog = NULL;
    peer me = {.rank = mnd_comm_world_rank(comm), .pid = getpid()};
    *out = NULL;
    if (timeout <= 0.0 || mnd_comm_world_size(comm) == 1) return MND_OK;
    MND_NEW_AGREED(comm, dog, 1, "the watchdog");
    dog->comm = comm;
    dog->rank = mnd_comm_rank(comm);
    dog->size = mnd_comm_size(comm);
    dog->socket.fd = -1;
    dog->wake = -1;
    dog->timeout = timeout;
    dog->interval = timeout / 10.0 < 1.0 ? timeout / 10.0 : 1.0;
    dog->grace_step = -1;
    mnd_watchdog_phase(dog, MND_PHASE_SETUP, 0);
    MND_NEW_AGREED(comm, dog->peer, dog->size, "the watchdog");
    MND_NEW_AGREED(comm, dog->seen, dog->size, "the watchdog");
    snprintf(me.host, sizeof me.host, "%s", mnd_comm_host(comm));
    MND_TRY(mnd_comm_agree(comm, open_channels(dog, &me), NULL));
    MND_TRY(mnd_comm_allgather(comm, &me, sizeof me, dog->peer));
    /* Any number that two runs on the same hosts will not share. */
    dog->token = (uint64_t)dog->peer[0].pid << 32 ^ (uint64_t)dog->peer[0].endpoint.port << 16 ^
                 (uint64_t)(mnd_now() * 1e6);
    MND_TRY(mnd_comm_bcast(comm, &dog->token, sizeof dog->token, 0));
    status = MND_OK;
    dog->begin = dog->now = mnd_now();
    atomic_store(&dog->together, dog->begin);
    for (int r = 0; r < dog->size; r++)
        dog->seen[r] = (seen){.heard = dog->begin, .last = {.rank = r, .phase = MND_PHASE_SETUP}};
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
        for (int i = 0; i < 3; i++) send_beats(dog, &last);
    }
    if (dog->socket.fd >= 0) close(dog->socket.fd);
    if (dog->wake >= 0) close(dog->wake);
    mnd_free(dog->peer);
    mnd_free(dog->seen);
    mnd_free(dog);
    *watchdog = NULL;
}
