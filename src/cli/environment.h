/* environment.h - warns of MNIST_DIST_* variables that have no effect. */
#ifndef MNIST_DIST_CLI_ENVIRONMENT_H
#define MNIST_DIST_CLI_ENVIRONMENT_H

/*
 * Logs a warning for every variable MNIST_DIST_* that no option of any command and no other part of
 * the program reads, and for a MNIST_DIST_KERNELS that names no kernels; with the nearest known
 * name. `visit_all` calls every command once, while options_visit collects their options.
 */
void environment_check(void (*visit_all)(void));

#endif
