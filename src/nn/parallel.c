#include "parallel.h"

#include <omp.h>

void mnd_parallel(int threads, int n, int grain, mnd_range_fn run, void *context) {
    if (threads <= 1 || n <= grain) {
        if (n > 0) run(context, 0, 0, n);
        return;
    }
    const int blocks = (n + grain - 1) / grain;
#pragma omp parallel num_threads(threads)
    {
        const int t = omp_get_thread_num(), team = omp_get_num_threads();
        const int first = (int)((long)blocks * t / team) * grain;
        int last = (int)((long)blocks * (t + 1) / team) * grain;
        if (last > n) last = n;
        if (first < last) run(context, t, first, last);
    }
}
