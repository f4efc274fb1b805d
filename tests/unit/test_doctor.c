/* The doctor's judgement on launches that this machine does not have, from facts made up. */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mnist_dist/doctor.h"

enum { N = 4 };

static const mnd_doctor_request request = {
    .data = "d.h5", .model = "cnn", .batch_size = 128, .checkpoint_dir = "ck", .threads = 1};

/* Four processes on two hosts of four CPUs, two CPUs each: all is well. */
static void healthy(mnd_facts facts[N]) {
    memset(facts, 0, N * sizeof *facts);
    for (int i = 0; i < N; i++) {
        mnd_facts *f = &facts[i];
        snprintf(f->host, sizeof f->host, "node%d", i / 2);
        snprintf(f->cpu, sizeof f->cpu, "CPU");
        snprintf(f->arithmetic, sizeof f->arithmetic, "fma");
        snprintf(f->binary, sizeof f->binary, "abc");
        snprintf(f->launcher, sizeof f->launcher, "Open MPI");
        snprintf(f->library, sizeof f->library, "Open MPI 4.1.4");
        f->size = f->meant = N;
        f->threads = 1;
        f->online = 4;
        f->cpus[0] = UINT64_C(3) << (2 * (i % 2));
        f->memory_free = INT64_C(1) << 30;
        f->memory_need = INT64_C(1) << 20;
        f->group_limit = f->group_free = -1;
        f->ptrace_scope = -1;
        f->folder_seconds = 0.01;
    }
}

/* The finding of a check, which must be there. */
static const mnd_finding *find(const mnd_facts *facts, int n, const char *check) {
    static mnd_finding finding[MND_MAX_FINDINGS];
    const int count = mnd_doctor_judge(facts, n, &request, false, finding);
    assert_in_range(count, 1, MND_MAX_FINDINGS - 1);
    for (int i = 0; i < count; i++) {
        /* Whatever is not healthy comes with the command that mends it. */
        assert_int_equal(finding[i].severity == MND_HEALTHY, finding[i].mend[0] == '\0');
        if (strcmp(finding[i].check, check) == 0) return &finding[i];
    }
    fail_msg("no finding '%s'", check);
    return NULL;
}

static void expect(const mnd_facts *facts, int n, const char *check, mnd_severity severity,
                   const char *text, const char *mend) {
    const mnd_finding *f = find(facts, n, check);
    assert_int_equal(f->severity, severity);
    if (strstr(f->text, text) == NULL) fail_msg("no '%s' in '%s'", text, f->text);
    if (strstr(f->mend, mend) == NULL) fail_msg("no '%s' in '%s'", mend, f->mend);
}

static void all_is_well(void **state) {
    (void)state;
    mnd_facts facts[N];
    mnd_finding finding[MND_MAX_FINDINGS];
    healthy(facts);
    const int n = mnd_doctor_judge(facts, N, &request, false, finding);
    assert_true(n >= 7);
    for (int i = 0; i < n; i++) assert_int_equal(finding[i].severity, MND_HEALTHY);
}

static void singletons(void **state) {
    (void)state;
    mnd_facts facts[N];
    healthy(facts);
    facts[0].size = 1;
    facts[0].meant = 8;
    snprintf(facts[0].launcher, sizeof facts[0].launcher, "slurm");
    expect(facts, 1, "launch", MND_FATAL, "srun started 8 tasks", "srun --mpi=pmix -n 8");
    snprintf(facts[0].launcher, sizeof facts[0].launcher, "Open MPI");
    expect(facts, 1, "launch", MND_FATAL, "another MPI", "mpirun.mpich");
    snprintf(facts[0].launcher, sizeof facts[0].launcher, "batch");
    expect(facts, 1, "launch", MND_WORRYING, "without a launcher", "srun --mpi=pmix");
    snprintf(facts[0].launcher, sizeof facts[0].launcher, "shell");
    expect(facts, 1, "launch", MND_WORRYING, "this shell 8 tasks", "srun --mpi=pmix");
    snprintf(facts[0].launcher, sizeof facts[0].launcher, "stale");
    expect(facts, 1, "launch", MND_WORRYING, "did not start this one", "PMIX_*");
}

static void one_core_for_two(void **state) {
    (void)state;
    mnd_facts facts[N];
    healthy(facts);
    facts[2].cpus[0] = facts[3].cpus[0] = 1;
    expect(facts, N, "binding", MND_WORRYING, "ranks 2 and 3 on host node1", "--bind-to core");
    /* Not bound at all is no trouble by itself. */
    facts[2].cpus[0] = facts[3].cpus[0] = 15;
    expect(facts, N, "binding", MND_HEALTHY, "no two", "");
    /* The same CPU number on two hosts is not the same CPU. */
    healthy(facts);
    facts[0].cpus[0] = facts[2].cpus[0] = 1;
    expect(facts, N, "binding", MND_HEALTHY, "no two", "");
}

static void too_many_threads(void **state) {
    (void)state;
    mnd_facts facts[N];
    healthy(facts);
    facts[2].threads = facts[3].threads = 4;
    expect(facts, N, "threads", MND_WORRYING, "node1: 2 processes with 4 threads each want 8",
           "--threads 1");
    healthy(facts);
    facts[0].cpu_quota = facts[1].cpu_quota = 1.5;
    expect(facts, N, "threads", MND_WORRYING, "they may use 1.5", "mpirun -np 1");
    /* Of a run with default options, on four processes. */
    expect(facts, N, "threads", MND_WORRYING, "they may use 1.5", "--logical-ranks 8 keeps");
}

static void differences(void **state) {
    (void)state;
    mnd_facts facts[N];
    healthy(facts);
    snprintf(facts[3].binary, sizeof facts[3].binary, "abd");
    expect(facts, N, "binaries", MND_FATAL, "rank 3 on host node1", "sha256sum");
    snprintf(facts[2].arithmetic, sizeof facts[2].arithmetic, "OpenBLAS 0.3.21 Zen");
    expect(facts, N, "arithmetic", MND_FATAL, "OpenBLAS 0.3.21 Zen", "OPENBLAS_CORETYPE");
    snprintf(facts[1].cpu, sizeof facts[1].cpu, "older CPU");
    expect(facts, N, "processors", MND_WORRYING, "older CPU", "--constraint");
    snprintf(facts[2].data_sha256, sizeof facts[2].data_sha256, "other");
    expect(facts, N, "data", MND_FATAL, "host node1", "scp node0:d.h5 d.h5");
}

static void files(void **state) {
    (void)state;
    mnd_facts facts[N];
    healthy(facts);
    facts[1].data_state = MND_NOT_FOUND;
    snprintf(facts[1].data_error, sizeof facts[1].data_error, "d.h5: no such file");
    expect(facts, N, "data", MND_FATAL, "rank 1 on host node0: d.h5: no such file", "convert");
    healthy(facts);
    facts[2].data_locked = 1;
    expect(facts, N, "locks", MND_WORRYING, "locked by another process on host node1", "lsof d.h5");
    facts[2].data_locked = 2;
    expect(facts, N, "locks", MND_WORRYING, "no locks", "HDF5_USE_FILE_LOCKING=FALSE");
    healthy(facts);
    facts[0].folder_seconds = 3.0;
    expect(facts, N, "checkpoints", MND_WORRYING, "3.0 s", "--checkpoint-dir");
    facts[0].folder_state = MND_IO;
    snprintf(facts[0].folder_error, sizeof facts[0].folder_error, "cannot write there");
    expect(facts, N, "checkpoints", MND_FATAL, "cannot write there", "chmod u+w ck");
}

static void too_little_memory(void **state) {
    (void)state;
    mnd_facts facts[N];
    healthy(facts);
    facts[2].memory_free = facts[3].memory_free = 100 << 20;
    facts[2].memory_need = facts[3].memory_need = 60 << 20;
    expect(facts, N, "memory", MND_WORRYING, "at least 0 MB", "--ntasks-per-node=1");
    facts[2].memory_least = facts[3].memory_least = 51 << 20;
    expect(facts, N, "memory", MND_FATAL,
           "host node1: 2 processes need about 120 MB (at least 102 MB), 100 MB",
           "--ntasks-per-node=1");
    /* A control group of both, then one of each: then each has the whole limit. */
    healthy(facts);
    for (int i = 2; i < N; i++) {
        facts[i].group_limit = 200 << 20;
        facts[i].group_free = 100 << 20;
        facts[i].group = 7;
        snprintf(facts[i].group_path, sizeof facts[i].group_path, "/job_7");
        facts[i].memory_need = facts[i].memory_least = 60 << 20;
    }
    expect(facts, N, "memory", MND_FATAL, "of the 200 MB that the control group /job_7 allows",
           "sbatch --mem=275M");
    facts[3].group = 8;
    expect(facts, N, "memory", MND_HEALTHY, "enough", "");
}

static void refused_copies(void **state) {
    (void)state;
    mnd_facts facts[N];
    healthy(facts);
    facts[1].copy_error = EPERM;
    expect(facts, N, "transport", MND_WORRYING, "host node0: the kernel refuses copies",
           "OMPI_MCA_btl_vader_single_copy_mechanism=none");
    facts[1].ptrace_scope = 2;
    expect(facts, N, "transport", MND_WORRYING, "ptrace_scope is 2", "ptrace_scope=0");
    facts[1].copies_off = 1;
    expect(facts, N, "transport", MND_HEALTHY, "no other setting", "");
    facts[1].copies_off = 0;
    mnd_facts *f = &facts[1];
    snprintf(f->library, sizeof f->library, "MPICH 4.0");
    expect(facts, N, "transport", MND_HEALTHY, "no other setting", "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_is_well),       cmocka_unit_test(singletons),
        cmocka_unit_test(one_core_for_two),  cmocka_unit_test(too_many_threads),
        cmocka_unit_test(differences),       cmocka_unit_test(files),
        cmocka_unit_test(too_little_memory), cmocka_unit_test(refused_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
