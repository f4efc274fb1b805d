/* members.h - an ensemble while it is trained: members.c runs it, members_test.c evaluates it. */
#ifndef MNIST_DIST_TRAIN_MEMBERS_H
#define MNIST_DIST_TRAIN_MEMBERS_H

#include "mnist_dist/outcome.h"
#include "mnist_dist/train.h"
#include "mnist_dist/watchdog.h"

typedef struct mnd_members {
    const mnd_train_config *config;
    const mnd_train_observer *observer;
    mnd_comm *comm;
    int rank, size;
    mnd_watchdog *dog; /* of the job; each group has one of its own besides */
    int *order;   /* (members) as they are trained: finished ones first. Counted from 0; owned */
    int finished; /* how many of them were finished at this start */
    int most;     /* processes of a group */
    bool begun;   /* this run may write: all is prepared */
    char **part;  /* (members) metrics files, or NULL; rank 0, owned */

    /* On the first process of a group, during a round. */
    mnd_outcomes *outcomes; /* of the groups */
    int member;             /* counted from 1; 0 on other processes */
    double polled;          /* when the outcomes were polled, by mnd_now */
    double gathered;        /* rank 0: when config->metrics was written */
    int metrics_lock;       /* rank 0: keeps other runs from it; -1: none */
} mnd_members;

/* Evaluates all members and their mean. Collective. */
MND_CHECKED mnd_status mnd_members_test(mnd_members *e, mnd_member_result *member,
                                        mnd_ensemble_result *result);

#endif
