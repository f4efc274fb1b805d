/* timer.h - elapsed time. */
#ifndef MNIST_DIST_TIMER_H
#define MNIST_DIST_TIMER_H

/* Seconds on the monotonic clock: differences mean something, the value itself does not. */
double mnd_now(void);

/* Seconds since this process was started by the kernel (start-up cost included); < 0 unknown. */
double mnd_process_age(void);

#endif
