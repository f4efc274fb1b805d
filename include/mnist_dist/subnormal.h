/* subnormal.h - numbers below the smallest normal one (1.2e-38 of a float) count as zero. */
#ifndef MNIST_DIST_SUBNORMAL_H
#define MNIST_DIST_SUBNORMAL_H

#include <stdbool.h>

/*
 * From now on this thread, and those it starts, take subnormal operands as 0 and give 0 for
 * subnormal results: FTZ and DAZ of MXCSR (Intel, "64 and IA-32 Architectures Software Developer's
 * Manual", volume 1, 10.2.3), FZ of FPCR on AArch64; nothing elsewhere. What a moment of Adam
 * decays to where a pixel is hardly ever lit is subnormal for ever, and many CPUs take a hundred
 * cycles more for each operation on such a number. No weight is that small, but all processes of a
 * run must agree on this to agree on bits: the program calls it before anything else. Returns
 * whether it did.
 */
bool mnd_flush_subnormals(void);

#endif
