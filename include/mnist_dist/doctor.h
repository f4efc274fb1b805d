/*
 * doctor.h - what is wrong with this launch: facts of every process, gathered once, and a judgement
 * that gives for each trouble the command that mends it.
 */
#ifndef MNIST_DIST_DOCTOR_H
#define MNIST_DIST_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "mnist_dist/comm.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/sha256.h"

#define MND_DOCTOR_CPUS 1024 /* CPUs of a host that are told apart */

/* What one process says of itself. Plain data: it is sent as it is. */
typedef struct mnd_facts {
    char host[MND_HOST_NAME];
    char cpu[64];                /* model name of the processor */
    char arithmetic[96];         /* mnd_arithmetic() */
    char binary[MND_SHA256_HEX]; /* of /proc/self/exe; "" unknown */
    char launcher[16];           /* mnd_launch */
    char library[64];            /* the MPI it is linked with, "none" when MPI was not started */
    int32_t size;                /* processes of its world */
    int32_t meant;               /* processes that the launcher says it started; 0 no word of it */
    int32_t threads;             /* wanted, each process */
    uint64_t cpus[MND_DOCTOR_CPUS / 64]; /* CPUs it may run on */
    int32_t online;                      /* CPUs of the host */
    double cpu_quota;                    /* of its control group, in CPUs; 0 none */
    int64_t memory_free;                 /* bytes of the host, with swap; -1 unknown */
    int64_t group_limit;                 /* bytes that its control group may have; -1 no limit */
    int64_t group_free;                  /* what is left of them; -1 no limit */
    uint64_t group;                      /* equal for processes that share this limit */
    char group_path[128];                /* of the control group */
    int64_t memory_least;                /* bytes that training takes here at least; 0 not known */
    int64_t memory_need;                 /* the same, about: with activations */
    int32_t copy_error; /* errno of a copy from another process of the node; 0 fine or not tried */
    int32_t copies_off; /* Open MPI was told not to make such copies */
    int32_t ptrace_scope; /* kernel.yama.ptrace_scope; -1 none */
    int32_t data_state;   /* mnd_status of opening the data */
    int32_t data_locked;  /* 0 free, 1 locked by a writer, 2 no locks on this file system */
    char data_sha256[MND_SHA256_HEX];
    char data_error[256];
    int32_t folder_state;  /* mnd_status of writing into the checkpoint folder (rank 0) */
    double folder_seconds; /* to write and sync 4 MB there (rank 0) */
    char folder_error[256];
} mnd_facts;

/* What is asked about. Strings are borrowed. */
typedef struct mnd_doctor_request {
    const char *data;  /* HDF5 file, or NULL */
    const char *model; /* for the memory it takes, or NULL */
    int64_t batch_size;
    const char *checkpoint_dir; /* or NULL */
    int threads;
    bool plain;
} mnd_doctor_request;

typedef enum mnd_severity { MND_HEALTHY, MND_WORRYING, MND_FATAL } mnd_severity;

typedef struct mnd_finding {
    mnd_severity severity;
    char check[24]; /* "launch", "binding" ... */
    char text[512]; /* what was found */
    char mend[512]; /* the command that mends it; "" when healthy */
} mnd_finding;

#define MND_MAX_FINDINGS 16

/* Facts of this process. quick leaves out what touches the data and the folder. Not collective. */
void mnd_doctor_examine(mnd_comm *comm, const mnd_doctor_request *request, bool quick,
                        mnd_facts *out);

/* Judges the facts of n processes, ordered by rank; returns the number of findings. Pure. */
int mnd_doctor_judge(const mnd_facts *facts, int n, const mnd_doctor_request *request, bool quick,
                     mnd_finding finding[MND_MAX_FINDINGS]);

/* Both, over all processes: the same findings everywhere. Collective. */
MND_CHECKED mnd_status mnd_doctor(mnd_comm *comm, const mnd_doctor_request *request, bool quick,
                                  mnd_finding finding[MND_MAX_FINDINGS], int *n_finding);

/*
 * What train asks before it starts: the fatal findings of the quick checks as an error, a strange
 * launch that may go on as a warning (else ""). Collective.
 */
MND_CHECKED mnd_status mnd_doctor_admit(mnd_comm *comm, const mnd_doctor_request *request,
                                        char *warning, size_t size);

/*
 * The same of memory and of CPU quotas, once the data is known and before memory is taken: an error
 * where the run cannot fit, a warning where it probably does not. Collective.
 */
MND_CHECKED mnd_status mnd_doctor_admit_limits(mnd_comm *comm, const mnd_doctor_request *request,
                                               const mnd_dataset_info *data, char *warning,
                                               size_t size);

#endif
