/* parallel.h - one loop over the threads of a process. */
#ifndef MNIST_DIST_PARALLEL_H
#define MNIST_DIST_PARALLEL_H

enum { MND_MAX_THREADS = 256 };

/* Does items [first, last) as thread `thread`. */
typedef void mnd_range_fn(void *context, int thread, int first, int last);

/*
 * Splits [0, n) into one contiguous range per thread, at multiples of `grain`, and runs them at the
 * same time; with one thread it is a plain call. Called by one thread of the process only. The
 * threads are started by the first call and stay. The value of an item must not depend on the
 * split.
 */
void mnd_parallel(int threads, int n, int grain, mnd_range_fn *run, void *context);

#endif
