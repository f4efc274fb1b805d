/* members_plan.c - how many members of an ensemble are trained at the same time. */
#include "mnist_dist/train.h"

/* The part of a member's time that does not become shorter with more processes. */
static const double SERIAL = 0.1;

static double round_time(int processes, int groups, int most) {
    const int smallest = processes / groups < most ? processes / groups : most;
    return SERIAL + (1.0 - SERIAL) / smallest;
}

int mnd_members_groups(int processes, int members, int most) {
    double best[MND_MAX_MEMBERS + 1] = {0.0}; /* of the rounds for so many members */
    int choice = 1;
    for (int left = 1; left <= members; left++)
        for (int groups = 1; groups <= left && groups <= processes; groups++) {
            const double time = round_time(processes, groups, most) + best[left - groups];
            if (groups > 1 && time > best[left]) continue;
            best[left] = time;
            choice = groups;
        }
    return choice;
}
