#include "mnist_dist/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "limits.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/folder.h"
#include "mnist_dist/kernels.h"
#include "mnist_dist/launch.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/timer.h"
#include "mnist_dist/train.h"
#include "transport.h"

/* -------------------------------------------------------------------------------------- examine */

/* Who started this process, and how many of its kind. */
static void examine_launch(mnd_facts *f) {
    mnd_launch launch;
    mnd_launch_examine(&launch);
    memcpy(f->launcher, launch.launcher, sizeof f->launcher);
    f->meant = launch.meant;
}

static void examine_machine(mnd_facts *f) {
    char text[256];
    cpu_set_t set;
    if (mnd_file_line("/proc/cpuinfo", "model name\t: ", text, sizeof text))
        snprintf(f->cpu, sizeof f->cpu, "%.63s", text);
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int c = 0; c < MND_DOCTOR_CPUS && c < CPU_SETSIZE; c++)
            if (CPU_ISSET((size_t)c, &set)) f->cpus[c / 64] |= UINT64_C(1) << (c % 64);
    f->online = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    long long value;
    f->memory_free = -1;
    if (mnd_file_line("/proc/meminfo", "MemAvailable:", text, sizeof text) &&
        sscanf(text, "%lld", &value) == 1)
        f->memory_free = value * 1024;
    if (f->memory_free >= 0 && mnd_file_line("/proc/meminfo", "SwapFree:", text, sizeof text) &&
        sscanf(text, "%lld", &value) == 1)
        f->memory_free += value * 1024;
    mnd_limits limits;
    mnd_limits_read("/sys/fs/cgroup", "/proc/self/cgroup", &limits);
    f->cpu_quota = limits.cpus;
    f->group_limit = limits.memory;
    f->group_free = limits.memory_free;
    f->group = limits.group;
    memcpy(f->group_path, limits.where, sizeof f->group_path);
}

static void examine_need(const mnd_doctor_request *q, const mnd_dataset_info *info, int size,
                         mnd_facts *f) {
    const mnd_memory_need need = mnd_memory_needed(q->model, info, q->batch_size, size);
    f->memory_least = need.least;
    f->memory_need = need.about;
}

static void examine_data(mnd_comm *comm, const mnd_doctor_request *q, mnd_facts *f) {
    mnd_dataset *data = NULL;
    mnd_status status = mnd_dataset_open(q->data, &data);
    f->data_state = (int32_t)status;
    if (status != MND_OK) {
        snprintf(f->data_error, sizeof f->data_error, "%.255s", mnd_error());
        return;
    }
    const mnd_dataset_info *info = mnd_dataset_about(data);
    memcpy(f->data_sha256, info->data_sha256, sizeof f->data_sha256);
    const int fd = open(q->data, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (flock(fd, LOCK_SH | LOCK_NB) != 0) f->data_locked = errno == EWOULDBLOCK ? 1 : 2;
        close(fd);
    }
    if (q->model != NULL) examine_need(q, info, mnd_comm_size(comm), f);
    mnd_dataset_close(&data);
}

/* Writes 4 MB into the folder, as a checkpoint would, and takes them away again. */
static void examine_folder(const mnd_doctor_request *q, mnd_facts *f) {
    static const char zeros[1 << 16];
    char folder[4096], path[4200];
    const double begin = mnd_now();
    const char *what = "create a file";
    /* A run creates the folder and its parents; here nothing is to be left. */
    if (mnd_folder_existing(q->checkpoint_dir, folder, sizeof folder) != MND_OK) {
        f->folder_state = MND_IO;
        snprintf(f->folder_error, sizeof f->folder_error, "the path is too long");
        return;
    }
    snprintf(path, sizeof path, "%s/.doctor.tmp.%ld", folder, (long)getpid());
    const int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    bool good = fd >= 0;
    for (int i = 0; good && i < 64; i++) {
        what = "write";
        good = write(fd, zeros, sizeof zeros) == (ssize_t)sizeof zeros;
    }
    if (good) {
        what = "sync";
        good = fsync(fd) == 0;
    }
    if (!good) {
        f->folder_state = MND_IO;
        snprintf(f->folder_error, sizeof f->folder_error, "cannot %s there: %s", what,
                 strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
        unlink(path);
    }
    f->folder_seconds = mnd_now() - begin;
}

void mnd_doctor_examine(mnd_comm *comm, const mnd_doctor_request *q, bool quick, mnd_facts *f) {
    memset(f, 0, sizeof *f);
    snprintf(f->host, sizeof f->host, "%s", mnd_comm_host(comm));
    snprintf(f->arithmetic, sizeof f->arithmetic, "%s", mnd_arithmetic(q->plain));
    snprintf(f->library, sizeof f->library, "%s", mnd_comm_library(comm));
    f->size = mnd_comm_size(comm);
    f->threads = q->threads;
    f->ptrace_scope = mnd_transport_scope();
    const char *copies = getenv("OMPI_MCA_btl_vader_single_copy_mechanism");
    f->copies_off = copies != NULL && strcmp(copies, "none") == 0;
    if (mnd_sha256_file("/proc/self/exe", f->binary) != MND_OK) f->binary[0] = '\0';
    examine_launch(f);
    examine_machine(f);
    if (quick) return;
    if (q->data != NULL) examine_data(comm, q, f);
    if (q->checkpoint_dir != NULL && mnd_comm_rank(comm) == 0) examine_folder(q, f);
}

/* ---------------------------------------------------------------------------------------- judge */

typedef struct report {
    mnd_finding *finding;
    int n;
    mnd_finding *last;
} report;

static mnd_finding *add(report *r, mnd_severity severity, const char *check) {
    r->last = &r->finding[r->n];
    if (r->n < MND_MAX_FINDINGS - 1) r->n++;
    *r->last = (mnd_finding){.severity = severity};
    snprintf(r->last->check, sizeof r->last->check, "%s", check);
    return r->last;
}

/* What was found, as printf writes it, and the command that mends the last finding. */
#define SAY(field, ...) snprintf((field), sizeof(field), __VA_ARGS__)
#define FOUND(severity, check, ...) SAY(add(r, severity, check)->text, __VA_ARGS__)
#define MEND(...) SAY(r->last->mend, __VA_ARGS__)

/* One process, where a launcher speaks of several. */
static void judge_alone(report *r, const mnd_facts *f) {
    if (strcmp(f->launcher, "slurm") == 0) {
        FOUND(MND_FATAL, "launch",
              "srun started %d tasks, but each is a world of its own: they would all train the "
              "same model and write over one another (MPI library: %s)",
              f->meant, f->library);
        MEND("srun --mpi=pmix -n %d mnist_dist ... (Open MPI; with MPICH --mpi=pmi2); 'srun "
             "--mpi=list' shows what this Slurm can do",
             f->meant);
    } else if (strcmp(f->launcher, "batch") == 0 || strcmp(f->launcher, "shell") == 0) {
        FOUND(MND_WORRYING, "launch",
              "Slurm gave this %s %d tasks, but the program runs once, without a launcher",
              strcmp(f->launcher, "batch") == 0 ? "job" : "shell", f->meant);
        MEND("srun --mpi=pmix mnist_dist ...   or   mpirun mnist_dist ...");
    } else if (strcmp(f->launcher, "stale") == 0) {
        FOUND(MND_WORRYING, "launch",
              "the environment has variables of an MPI launch of %d processes that did not start "
              "this one: it runs alone",
              f->meant);
        MEND("mpirun -np %d mnist_dist ...   or, for one process, a new shell without the "
             "variables OMPI_*, PMIX_* and PMI_*",
             f->meant);
    } else {
        FOUND(MND_FATAL, "launch",
              "%s started %d processes, but each is a world of its own: the program is linked "
              "with another MPI (%s)",
              f->launcher, f->meant, f->library);
        MEND("use the mpirun of the MPI it was built with: mpirun.openmpi or mpirun.mpich");
    }
}

static void judge_launch(report *r, const mnd_facts *f, int n) {
    if (f->meant > 1 && n == 1 && f->size == 1)
        judge_alone(r, f);
    else
        FOUND(MND_HEALTHY, "launch", "%d process%s, MPI: %s", n, n == 1 ? "" : "es", f->library);
}

static int count_cpus(const uint64_t *cpus) {
    int n = 0;
    for (int i = 0; i < MND_DOCTOR_CPUS / 64; i++) n += __builtin_popcountll(cpus[i]);
    return n;
}

/* Binding: two processes pinned to the same CPU; and threads against the CPUs of each host. */
static void judge_cpus(report *r, const mnd_facts *facts, int n) {
    for (int a = 0; a < n; a++)
        for (int b = a + 1; b < n; b++) {
            const int threads =
                facts[a].threads > facts[b].threads ? facts[a].threads : facts[b].threads;
            if (strcmp(facts[a].host, facts[b].host) != 0 ||
                memcmp(facts[a].cpus, facts[b].cpus, sizeof facts[a].cpus) != 0 ||
                count_cpus(facts[a].cpus) >= 2 * threads ||
                count_cpus(facts[a].cpus) >= facts[a].online) /* not bound at all */
                continue;
            FOUND(MND_WORRYING, "binding",
                  "ranks %d and %d on host %s are bound to the same %d CPU%s", a, b, facts[a].host,
                  count_cpus(facts[a].cpus), count_cpus(facts[a].cpus) == 1 ? "" : "s");
            MEND("mpirun --map-by slot:PE=%d --bind-to core ...   (or --bind-to none when there "
                 "are more processes than cores; srun --cpu-bind=cores)",
                 threads);
            return;
        }
    FOUND(MND_HEALTHY, "binding", "no two processes are bound to the same CPU");
}

/* The processes of a host, seen from rank a. */
typedef struct host_cpus {
    int ranks, wanted; /* processes, and their threads */
    int cpus;          /* that they may run on */
    double allowed;    /* the same, or less by the quota of the control group */
    bool first;        /* no rank before a is on this host */
} host_cpus;

static host_cpus cpus_of_host(const mnd_facts *facts, int n, int a) {
    uint64_t all[MND_DOCTOR_CPUS / 64] = {0};
    host_cpus h = {.first = true};
    for (int b = 0; b < n; b++) {
        if (strcmp(facts[a].host, facts[b].host) != 0) continue;
        if (b < a) h.first = false;
        h.ranks++;
        h.wanted += facts[b].threads;
        for (int i = 0; i < MND_DOCTOR_CPUS / 64; i++) all[i] |= facts[b].cpus[i];
    }
    h.cpus = count_cpus(all);
    h.allowed = h.cpus;
    if (facts[a].cpu_quota > 0.0 && facts[a].cpu_quota < h.allowed) h.allowed = facts[a].cpu_quota;
    return h;
}

/* Of the hosts of ranks `from` and above. */
static void judge_threads(report *r, const mnd_facts *facts, int n, int from) {
    for (int a = from; a < n; a++) {
        const host_cpus h = cpus_of_host(facts, n, a);
        if (!h.first || h.allowed <= 0.0 || (double)h.wanted <= h.allowed) continue;
        FOUND(MND_WORRYING, "threads",
              "host %s: %d processes with %d threads each want %d CPUs; they may use %g%s",
              facts[a].host, h.ranks, facts[a].threads, h.wanted, h.allowed,
              h.allowed < h.cpus ? " (the limit of their control group)" : "");
        MEND("mpirun -np %d ... --threads 1   (--logical-ranks %d keeps the result the same)%s",
             (int)h.allowed > 0 ? (int)h.allowed : 1, mnd_train_logical_ranks(n, INT64_MAX),
             h.allowed < h.cpus ? ", or a higher limit: sbatch --cpus-per-task, docker run --cpus"
                                : "");
        return;
    }
    FOUND(MND_HEALTHY, "threads", "processes times threads fit the CPUs");
}

/* The first rank whose text differs from rank 0's, or -1. */
static int odd_one(const mnd_facts *facts, int n, size_t offset) {
    for (int i = 1; i < n; i++)
        if (strcmp((const char *)facts + offset, (const char *)&facts[i] + offset) != 0) return i;
    return -1;
}

static void judge_same(report *r, const mnd_facts *facts, int n) {
    int odd = odd_one(facts, n, offsetof(mnd_facts, binary));
    if (odd >= 0) {
        FOUND(MND_FATAL, "binaries",
              "rank %d on host %s runs another binary than rank 0 on host %s", odd, facts[odd].host,
              facts[0].host);
        MEND("sha256sum \"$(command -v mnist_dist)\" on both; then copy one of them, or start it "
             "by a path on a shared file system");
    } else {
        FOUND(MND_HEALTHY, "binaries", "all processes run the same binary");
    }
    odd = odd_one(facts, n, offsetof(mnd_facts, arithmetic));
    if (odd >= 0) {
        FOUND(MND_FATAL, "arithmetic",
              "rank %d on host %s computes with '%s', rank 0 with '%s': the replicas would drift "
              "apart",
              odd, facts[odd].host, facts[odd].arithmetic, facts[0].arithmetic);
        MEND("OPENBLAS_CORETYPE=Haswell MNIST_DIST_KERNELS=openblas for all processes (mpirun -x "
             "passes variables on), or only hosts of one kind");
    } else {
        FOUND(MND_HEALTHY, "arithmetic", "all processes round alike (%s)", facts[0].arithmetic);
    }
    odd = odd_one(facts, n, offsetof(mnd_facts, cpu));
    if (odd >= 0) {
        FOUND(MND_WORRYING, "processors",
              "host %s has '%s', host %s has '%s': each step waits for the slower", facts[0].host,
              facts[0].cpu, facts[odd].host, facts[odd].cpu);
        MEND("ask for nodes of one kind, for instance sbatch --constraint=...");
    }
}

static void judge_data(report *r, const mnd_facts *facts, int n, const mnd_doctor_request *q) {
    int bad = -1;
    for (int i = n - 1; i >= 0; i--)
        if (facts[i].data_state != MND_OK) bad = i;
    if (bad >= 0) {
        FOUND(MND_FATAL, "data", "rank %d on host %s: %s", bad, facts[bad].host,
              facts[bad].data_error);
        MEND("data/fetch.sh mnist && mnist_dist convert data/mnist -o %s   (on a file system that "
             "every host sees)",
             q->data);
        return;
    }
    const int odd = odd_one(facts, n, offsetof(mnd_facts, data_sha256));
    if (odd >= 0) {
        FOUND(MND_FATAL, "data", "%s on host %s is not the file that host %s has", q->data,
              facts[odd].host, facts[0].host);
        MEND("scp %s:%s %s   on host %s, or use a shared file system", facts[0].host, q->data,
             q->data, facts[odd].host);
    } else {
        FOUND(MND_HEALTHY, "data", "%s can be read and is the same everywhere", q->data);
    }
    for (int i = 0; i < n; i++) {
        if (facts[i].data_locked == 0) continue;
        if (facts[i].data_locked == 1) {
            FOUND(MND_WORRYING, "locks",
                  "%s is locked by another process on host %s, which may be writing it", q->data,
                  facts[i].host);
            MEND("lsof %s   shows which; wait for it or stop it", q->data);
        } else {
            FOUND(MND_WORRYING, "locks",
                  "the file system of %s knows no locks: mnist_dist does not need them, h5py does",
                  q->data);
            MEND("export HDF5_USE_FILE_LOCKING=FALSE   for other programs");
        }
        break;
    }
}

/* What the ranks of one host, or of one control group, need together. */
typedef struct memory_sum {
    int64_t least, about;
    int ranks;
} memory_sum;

static memory_sum memory_of(const mnd_facts *facts, int n, int a, bool of_group) {
    memory_sum sum = {0};
    for (int b = 0; b < n; b++) {
        if (strcmp(facts[a].host, facts[b].host) != 0 ||
            (of_group && facts[a].group != facts[b].group))
            continue;
        sum.least += facts[b].memory_least;
        sum.about += facts[b].memory_need;
        sum.ranks++;
    }
    return sum;
}

static long long megabytes(int64_t bytes) { return (long long)(bytes >> 20); }

/* Whether the memory is too little, of the host or of rank a's control group; then says so. */
static bool lacks_memory(report *r, const mnd_facts *facts, int n, int a, bool of_group) {
    const mnd_facts *f = &facts[a];
    const memory_sum need = memory_of(facts, n, a, of_group);
    const int64_t left = of_group ? f->group_free : f->memory_free;
    if (left < 0 || need.about <= left) return false;
    const int64_t sensible = (need.about + (of_group ? f->group_limit - left : 0)) / 4 * 5;
    const mnd_severity severity = need.least > left ? MND_FATAL : MND_WORRYING;
    if (of_group)
        FOUND(severity, "memory",
              "host %s: %d process%s about %lld MB (at least %lld MB); of the %lld MB that "
              "the control group %s allows, %lld MB are free: the kernel would kill %s (code "
              "137)",
              f->host, need.ranks, need.ranks == 1 ? " needs" : "es need", megabytes(need.about),
              megabytes(need.least), megabytes(f->group_limit), f->group_path, megabytes(left),
              need.ranks == 1 ? "it" : "them");
    else
        FOUND(severity, "memory",
              "host %s: %d process%s about %lld MB (at least %lld MB), %lld MB are free", f->host,
              need.ranks, need.ranks == 1 ? " needs" : "es need", megabytes(need.about),
              megabytes(need.least), megabytes(left));
    MEND(
        "more memory (sbatch --mem=%lldM%s), fewer processes a node (sbatch --ntasks-per-node=%d), "
        "more nodes, or a smaller --batch-size",
        megabytes(sensible), of_group ? "; docker run --memory; systemd-run -p MemoryMax=" : "",
        need.ranks > 1 ? need.ranks / 2 : 1);
    return true;
}

static void judge_memory(report *r, const mnd_facts *facts, int n) {
    for (int a = 0; a < n; a++)
        if (lacks_memory(r, facts, n, a, true) || lacks_memory(r, facts, n, a, false)) return;
    FOUND(MND_HEALTHY, "memory", "enough: about %lld MB a process",
          megabytes(facts[0].memory_need));
}

/* Open MPI up to version 4 takes the direct copy without a test, and complains at each message. */
static void judge_transport(report *r, const mnd_facts *facts, int n) {
    const mnd_facts *f = facts;
    while (f < facts + n && (f->copy_error == 0 || f->copies_off)) f++;
    if (f == facts + n || strncmp(f->library, "Open MPI", 8) != 0) {
        FOUND(MND_HEALTHY, "transport", "messages within a node need no other setting");
        return;
    }
    char scope[64] = "";
    if (f->ptrace_scope > 0)
        snprintf(scope, sizeof scope, "; kernel.yama.ptrace_scope is %d", (int)f->ptrace_scope);
    FOUND(MND_WORRYING, "transport",
          "host %s: the kernel refuses copies between processes (process_vm_readv: %s%s): Open MPI "
          "then prints 'Read -1, expected ..., errno = %d' for each long message",
          f->host, strerror(f->copy_error), scope, (int)f->copy_error);
    MEND("export OMPI_MCA_btl_vader_single_copy_mechanism=none   (Open MPI 5: OMPI_MCA_smsc=^cma), "
         "or allow it: docker run --cap-add=SYS_PTRACE%s",
         f->ptrace_scope > 0 ? ", sysctl kernel.yama.ptrace_scope=0" : "");
}

/* More than this to write and sync 4 MB, and checkpoints hold the run up. */
static const double SLOW_FOLDER = 1.0;

static void judge_folder(report *r, const mnd_facts *f, const mnd_doctor_request *q) {
    if (f->folder_state != MND_OK) {
        FOUND(MND_FATAL, "checkpoints", "%s: %s", q->checkpoint_dir, f->folder_error);
        MEND("mkdir -p %s && chmod u+w %s && df -h %s   or another --checkpoint-dir",
             q->checkpoint_dir, q->checkpoint_dir, q->checkpoint_dir);
    } else if (f->folder_seconds > SLOW_FOLDER) {
        FOUND(MND_WORRYING, "checkpoints", "%s: writing and syncing 4 MB took %.1f s",
              q->checkpoint_dir, f->folder_seconds);
        MEND("--checkpoint-dir on a faster file system, or no --checkpoint-every");
    } else {
        FOUND(MND_HEALTHY, "checkpoints", "%s can be written, %.0f MB/s", q->checkpoint_dir,
              4.0 / (f->folder_seconds > 1e-6 ? f->folder_seconds : 1e-6));
    }
}

int mnd_doctor_judge(const mnd_facts *facts, int n, const mnd_doctor_request *q, bool quick,
                     mnd_finding finding[MND_MAX_FINDINGS]) {
    report r = {.finding = finding};
    judge_launch(&r, facts, n);
    judge_cpus(&r, facts, n);
    judge_threads(&r, facts, n, 0);
    judge_same(&r, facts, n);
    if (quick) return r.n;
    if (n > 1) judge_transport(&r, facts, n);
    if (q->data != NULL) judge_data(&r, facts, n, q);
    if (q->data != NULL && q->model != NULL) judge_memory(&r, facts, n);
    if (q->checkpoint_dir != NULL) judge_folder(&r, &facts[0], q);
    return r.n;
}

/* The facts of all processes, in *all (mnd_free). Collective. */
static mnd_status gather(mnd_comm *comm, const mnd_facts *mine, mnd_facts **all) {
    mnd_status status = MND_OK;
    MND_NEW_AGREED(comm, *all, mnd_comm_size(comm), "the doctor");
    status = mnd_comm_allgather(comm, mine, sizeof *mine, *all);
cleanup:
    return status;
}

mnd_status mnd_doctor(mnd_comm *comm, const mnd_doctor_request *request, bool quick,
                      mnd_finding finding[MND_MAX_FINDINGS], int *n_finding) {
    mnd_status status = MND_OK;
    mnd_facts mine, *all = NULL;
    *n_finding = 0;
    mnd_doctor_examine(comm, request, quick, &mine);
    if (!quick) MND_TRY(mnd_comm_agree(comm, mnd_transport_probe(comm, &mine.copy_error), NULL));
    MND_TRY(gather(comm, &mine, &all));
    *n_finding = mnd_doctor_judge(all, mnd_comm_size(comm), request, quick, finding);
cleanup:
    mnd_free(all);
    return status;
}

/* A fatal finding is an error; a warning is added to those before. */
static mnd_status pass_on(const mnd_finding *f, mnd_status code, char *warning, size_t size) {
    if (f->severity == MND_FATAL) return mnd_fail(code, "%s; mend it with: %s", f->text, f->mend);
    const size_t used = strlen(warning);
    if (f->severity == MND_WORRYING)
        snprintf(warning + used, size - used, "%s%s; mend it with: %s", used > 0 ? ". And: " : "",
                 f->text, f->mend);
    return MND_OK;
}

mnd_status mnd_doctor_admit(mnd_comm *comm, const mnd_doctor_request *request, char *warning,
                            size_t size) {
    mnd_finding finding[MND_MAX_FINDINGS];
    int n;
    warning[0] = '\0';
    mnd_status status = mnd_doctor(comm, request, true, finding, &n);
    for (int i = 0; i < n && status == MND_OK; i++)
        if (finding[i].severity == MND_FATAL || strcmp(finding[i].check, "launch") == 0)
            status = pass_on(&finding[i], MND_MISMATCH, warning, size);
    return status;
}

mnd_status mnd_doctor_admit_limits(mnd_comm *comm, const mnd_doctor_request *request,
                                   const mnd_dataset_info *data, char *warning, size_t size) {
    mnd_status status = MND_OK;
    mnd_finding finding[MND_MAX_FINDINGS];
    report r = {.finding = finding};
    mnd_facts mine = {.size = mnd_comm_size(comm), .threads = request->threads}, *all = NULL;
    warning[0] = '\0';
    snprintf(mine.host, sizeof mine.host, "%s", mnd_comm_host(comm));
    examine_machine(&mine);
    examine_need(request, data, mine.size, &mine);
    MND_TRY(gather(comm, &mine, &all));
    /* Some more threads than CPUs are usual on small machines; a quota punishes waiting as well. */
    for (int a = 0; a < mine.size; a++) {
        const host_cpus h = cpus_of_host(all, mine.size, a);
        if (h.first && h.allowed < h.cpus && h.wanted >= 2.0 * h.allowed) {
            judge_threads(&r, all, mine.size, a);
            MND_TRY(pass_on(r.last, MND_MISMATCH, warning, size));
            break;
        }
    }
    judge_memory(&r, all, mine.size);
    MND_TRY(pass_on(r.last, MND_NO_MEMORY, warning, size));
cleanup:
    mnd_free(all);
    return status;
}
