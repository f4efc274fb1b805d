/*
 * vector.h - loops that the compiler vectorises for every kind of CPU. A function marked
 * MND_EACH_WIDTH is compiled once per vector width; the loader picks the widest that the CPU has.
 * Its bits are the same at any width: the project is compiled without contraction into fused
 * multiply-adds and without reassociation, so a vector lane computes what a scalar would.
 */
#ifndef MNIST_DIST_VECTOR_H
#define MNIST_DIST_VECTOR_H

/* clang before 17 gives the function another name, so that calls from other files do not link. */
#if defined(__x86_64__) && defined(__gnu_linux__) && (!defined(__clang__) || __clang_major__ >= 17)
#define MND_EACH_WIDTH __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define MND_EACH_WIDTH
#endif

#endif
