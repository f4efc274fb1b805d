/* extend.h - a layer, an optimizer and an exchange that are not part of the program. */
#ifndef MND_TESTS_EXTEND_H
#define MND_TESTS_EXTEND_H

#include "mnist_dist/exchange_kind.h"
#include "mnist_dist/layer.h"
#include "mnist_dist/optimizer.h"

extern const mnd_layer_ops elu;      /* "elu:alpha" */
extern const mnd_optimizer_ops lion; /* Chen et al., 2023 */
extern const mnd_exchange_ops ring;  /* a ring allreduce */

#endif
