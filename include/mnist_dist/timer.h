/* timer.h - elapsed time. */
#ifndef MNIST_DIST_TIMER_H
#define MNIST_DIST_TIMER_H

/* Seconds on the monotonic clock. Only differences between two values have a meaning. */
double mnd_now(void);

/* Seconds since the kernel started this process, dynamic linking included; negative if unknown. */
double mnd_process_age(void);

#endif
