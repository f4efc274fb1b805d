/* launch.h - who started this process, told by its environment, without starting MPI. */
#ifndef MNIST_DIST_LAUNCH_H
#define MNIST_DIST_LAUNCH_H

#include <stdbool.h>

typedef struct mnd_launch {
    bool joins;        /* a launcher of MPI started this process: MPI_Init has others to join */
    char launcher[16]; /* "Open MPI", "slurm", "PMI", "batch" (a Slurm job without srun), "shell",
                          "stale", "" none */
    int meant;         /* processes that the launcher says it started; 0 no word of it */
} mnd_launch;

/*
 * "shell": a user started this one process in a shell, a notebook or the like inside a step of
 * srun: SLURM_TASK_PID is another process and its input is a terminal, or SLURM_PTY_PORT or
 * JPY_PARENT_PID says so. "stale": there are variables of an MPI, but none of its servers to join:
 * they are of another process (a shell that mpirun once started, a copied environment). Where there
 * is doubt, the launch counts as one of MPI. Not collective.
 */
void mnd_launch_examine(mnd_launch *out);

#endif
