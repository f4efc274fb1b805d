/* parallel.h - one loop over the threads of a rank. */
#ifndef MNIST_DIST_NN_PARALLEL_H
#define MNIST_DIST_NN_PARALLEL_H

/* Most threads of a loop. */
enum { MND_MAX_THREADS = 256 };

/* Does items [first, last) as thread `thread`. */
typedef void (*mnd_range_fn)(void *context, int thread, int first, int last);

/*
 * Splits [0, n) into one contiguous range a thread, cut at multiples of `grain`, and runs them at
 * once. With one thread it is a plain call. Called by one thread of the process only; the others
 * are started at the first call and stay. What is computed for an item must not depend on the cut.
 */
void mnd_parallel(int threads, int n, int grain, mnd_range_fn run, void *context);

#endif
