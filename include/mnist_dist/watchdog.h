/*
 * watchdog.h - notices that a process of the run is stopped, dead, cut off or stuck, names it, and
 * ends the job instead of letting the others spin until the batch system's time limit.
 *
 * Every process has one thread that sends a datagram (UDP) with its phase to ranks 0 and 1 ten
 * times a time-out, and at least once a second; those two answer. Rank 0 judges; rank 1 does so a
 * moment later, for the case that rank 0 is the one that is gone; a process that hears of neither
 * gives up by itself. The main thread only stores its phase: it never waits for the watchdog.
 *
 * Datagrams go to every address of a host, IPv4 and IPv6, until it is known which one is reached.
 * A step needs all processes: while steps end, no process is dead, also where datagrams never
 * arrive. Time for which a process is stopped (SIGSTOP, a suspended job, a frozen container) counts
 * for no process; but one that stays stopped while the others run is noticed.
 *
 * Groups of processes that work apart (train --members) have a watchdog each, and the job has one
 * more, whose processes are in the phase APART: it knows of no steps, so it only notices those of
 * which no datagram comes any more.
 */
#ifndef MNIST_DIST_WATCHDOG_H
#define MNIST_DIST_WATCHDOG_H

#include <stdint.h>

#include "mnist_dist/comm.h"
#include "mnist_dist/status.h"

/* What a process may be busy with. In WAIT it depends on the others. APART may take any time. */
#define MND_PHASE_TABLE(X)                                                                         \
    X(SETUP, "setting up")                                                                         \
    X(DATA, "reading data")                                                                        \
    X(COMPUTE, "computing")                                                                        \
    X(WAIT, "waiting for the others")                                                              \
    X(EVALUATE, "evaluating")                                                                      \
    X(CHECKPOINT, "writing a checkpoint")                                                          \
    X(APART, "training a member")                                                                  \
    X(DONE, "done")

typedef enum mnd_phase {
#define MND_PHASE_ENUM(name, text) MND_PHASE_##name,
    MND_PHASE_TABLE(MND_PHASE_ENUM)
#undef MND_PHASE_ENUM
        MND_N_PHASES
} mnd_phase;

typedef struct mnd_watchdog mnd_watchdog; /* opaque */

/*
 * Starts the thread. timeout: seconds without a sign of life (a datagram, the end of a step), or in
 * one and the same phase, after which a process counts as stuck; 0 (or a job of one process) makes
 * *out NULL, which the other calls take. When a process is stuck, the watchdog logs one line an
 * affected process, with rank, host and pid, what it last did and since when, and what the others
 * are waiting for, and then ends the job with exit code 1 (mnd_comm_abort). An mpirun that then
 * still waits for a lost host is killed after ten seconds, if it is the parent of the judging
 * process. Collective.
 */
MND_CHECKED mnd_status mnd_watchdog_start(mnd_comm *comm, double timeout, mnd_watchdog **out);

/* What the main thread does from now on, in which step (MND_SAME_STEP: as before). Costs a clock
   reading. Not collective; NULL-safe. */
enum { MND_SAME_STEP = -1 };
void mnd_watchdog_phase(mnd_watchdog *dog, mnd_phase phase, int64_t step);

/* Tells the others that this process is through, and ends the thread. NULL-safe. Not collective. */
void mnd_watchdog_stop(mnd_watchdog **dog);

#endif
