#include "augment_rows.h"

#include <stddef.h>

#include "mnist_dist/vector.h"

#include "augment_rows.inc"
