/* subnormal.h - treats floats below the smallest normal one (1.2e-38) as zero. */
#ifndef MNIST_DIST_SUBNORMAL_H
#define MNIST_DIST_SUBNORMAL_H

#include <stdbool.h>

/*
 * From now on this thread and the threads that it starts treat subnormal operands as 0 and return 0
 * for subnormal results: FTZ and DAZ of MXCSR (Intel, "64 and IA-32 Architectures Software
 * Developer's Manual", volume 1, 10.2.3), FZ of FPCR on AArch64. On other processors nothing
 * changes. Returns whether the mode was set.
 *
 * Why: the moments of Adam decay to subnormal values for weights whose input pixel is almost always
 * 0, and many CPUs need about a hundred extra cycles for an operation on such a value. No weight is
 * that small. The mode changes bits, so all processes of a run must use it: the program calls this
 * function before anything else.
 */
bool mnd_flush_subnormals(void);

#endif
