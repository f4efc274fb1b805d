#include "mnist_dist/model.h"
size_t mnd_shape_size(const mnd_shape *shape) { return (size_t)shape->dim[0]; }
