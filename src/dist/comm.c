#include "mnist_dist/comm.h"
int mnd_comm_rank(const mnd_comm *comm) {
    (void)comm;
    return 0;
}
