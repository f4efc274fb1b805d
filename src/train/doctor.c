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

#include "mnist_dist/dataset.h"
#include "mnist_dist/folder.h"
#include "mnist_dist/kernels.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/model.h"
#include "mnist_dist/timer.h"
#include "mnist_dist/train.h"

/* -------------------------------------------------------------------------------------- examine */

/* The first whole line of a file that begins with `key`, after the key; false without one. */
static bool file_line(const char *path, const char *key, char *out, size_t size) {
    char line[512];
    bool found = false;
    FILE *f = fopen(path, "r");
    if (f == NULL) return false;
    while (!found && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(out, size, "%s", line + strlen(key));
            found = true;
        }
    fclose(f);
    return found;
}

static int number_of(const char *name) {
    const char *text = getenv(name);
    const int n = text != NULL ? atoi(text) : 0;
    return n > 0 ? n : 0;
}

/* Who started this process, and how many of its kind. */
static void examine_launch(mnd_facts *f) {
    f->meant = number_of("OMPI_COMM_WORLD_SIZE");
    if (f->meant > 0) {
        snprintf(f->launcher, sizeof f->launcher, "Open MPI");
        return;
    }
    /* Inside a step of srun every task has its number; a batch script by itself is no step. */
    if (getenv("SLURM_STEP_NUM_TASKS") != NULL && getenv("SLURM_PROCID") != NULL) {
        snprintf(f->launcher, sizeof f->launcher, "slurm");
        f->meant = number_of("SLURM_STEP_NUM_TASKS");
        return;
    }
    f->meant = number_of("PMI_SIZE");
    if (f->meant > 0)
        snprintf(f->launcher, sizeof f->launcher, "PMI");
    else if ((f->meant = number_of("SLURM_NTASKS")) > 0)
        snprintf(f->launcher, sizeof f->launcher, "batch");
}

static void examine_machine(mnd_facts *f) {
    char text[256];
    cpu_set_t set;
    if (file_line("/proc/cpuinfo", "model name\t: ", text, sizeof text))
        snprintf(f->cpu, sizeof f->cpu, "%.63s", text);
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int c = 0; c < MND_DOCTOR_CPUS && c < CPU_SETSIZE; c++)
            if (CPU_ISSET((size_t)c, &set)) f->cpus[c / 64] |= UINT64_C(1) << (c % 64);
    f->online = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    double quota = 0.0, period = 0.0;
    if (file_line("/sys/fs/cgroup/cpu.max", "", text, sizeof text) &&
        sscanf(text, "%lf %lf", &quota, &period) == 2 && period > 0.0)
        f->cpu_quota = quota / period;
    long long value;
    f->memory_free = -1;
    if (file_line("/proc/meminfo", "MemAvailable:", text, sizeof text) &&
        sscanf(text, "%lld", &value) == 1)
        f->memory_free = value * 1024;
    long long used;
    char now[64];
    if (file_line("/sys/fs/cgroup/memory.max", "", text, sizeof text) &&
        sscanf(text, "%lld", &value) == 1 &&
        file_line("/sys/fs/cgroup/memory.current", "", now, sizeof now) &&
        sscanf(now, "%lld", &used) == 1 && (f->memory_free < 0 || value - used < f->memory_free))
        f->memory_free = value - used;
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
    const mnd_shape input = {.ndim = 3, .dim = {info->height, info->width, info->channels}};
    const int64_t size = mnd_comm_size(comm);
    const int64_t rows = (q->batch_size + size - 1) / size;
    const mnd_model_options options = {.max_rows = 0, .max_seg = 1, .threads = 1};
    mnd_model *model = NULL;
    if (q->model != NULL &&
        mnd_model_create(q->model, &input, info->classes, &options, &model) == MND_OK) {
        /* Twice the activations of all layers, parameters four times (gradient, two slots), shard.
         */
        int64_t activations = (int64_t)mnd_shape_size(&input);
        for (int i = 0; i < mnd_model_n_layer(model); i++) {
            const mnd_layer_info layer = mnd_model_layer(model, i);
            activations += (int64_t)mnd_shape_size(&layer.out);
        }
        f->memory_need = 2 * 4 * activations * (rows > 250 ? rows : 250) +
                         4 * 4 * (int64_t)mnd_model_n_param(model) +
                         (int64_t)mnd_shape_size(&input) *
                             (info->count[MND_TRAIN] + info->count[MND_TEST]) / size;
    }
    mnd_model_destroy(&model);
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

static void judge_launch(report *r, const mnd_facts *f, int n) {
    const bool batch = strcmp(f->launcher, "batch") == 0;
    if (f->meant > 1 && n == 1 && f->size == 1) {
        if (strcmp(f->launcher, "slurm") == 0) {
            FOUND(MND_FATAL, "launch",
                  "srun started %d tasks, but each is a world of its own: they would all train "
                  "the same model and write over one another (MPI library: %s)",
                  f->meant, f->library);
            MEND("srun --mpi=pmix -n %d mnist_dist ... (Open MPI; with MPICH --mpi=pmi2); "
                 "'srun --mpi=list' shows what this Slurm can do",
                 f->meant);
        } else if (batch) {
            FOUND(MND_WORRYING, "launch",
                  "Slurm gave this job %d tasks, but the program runs once, without a launcher",
                  f->meant);
            MEND("srun --mpi=pmix mnist_dist ...   or   mpirun mnist_dist ...");
        } else {
            FOUND(MND_FATAL, "launch",
                  "%s started %d processes, but each is a world of its own: the program is "
                  "linked with another MPI (%s)",
                  f->launcher, f->meant, f->library);
            MEND("use the mpirun of the MPI it was built with: mpirun.openmpi or mpirun.mpich");
        }
        return;
    }
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

static void judge_threads(report *r, const mnd_facts *facts, int n) {
    for (int a = 0; a < n; a++) {
        uint64_t all[MND_DOCTOR_CPUS / 64] = {0};
        int wanted = 0, ranks = 0;
        bool first = true;
        for (int b = 0; b < n; b++) {
            if (strcmp(facts[a].host, facts[b].host) != 0) continue;
            if (b < a) first = false;
            ranks++;
            wanted += facts[b].threads;
            for (int i = 0; i < MND_DOCTOR_CPUS / 64; i++) all[i] |= facts[b].cpus[i];
        }
        if (!first) continue;
        double cpus = count_cpus(all);
        if (facts[a].cpu_quota > 0.0 && facts[a].cpu_quota < cpus) cpus = facts[a].cpu_quota;
        if (cpus <= 0.0 || (double)wanted <= cpus) continue;
        FOUND(MND_WORRYING, "threads",
              "host %s: %d processes with %d threads each want %d CPUs; they may use %g",
              facts[a].host, ranks, facts[a].threads, wanted, cpus);
        MEND("mpirun -np %d ... --threads 1   (--logical-ranks %d keeps the result the same)",
             (int)cpus > 0 ? (int)cpus : 1, mnd_train_logical_ranks(n, INT64_MAX));
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

static void judge_memory(report *r, const mnd_facts *facts, int n) {
    for (int a = 0; a < n; a++) {
        int64_t need = 0;
        int ranks = 0;
        for (int b = 0; b < n; b++)
            if (strcmp(facts[a].host, facts[b].host) == 0) {
                need += facts[b].memory_need;
                ranks++;
            }
        if (facts[a].memory_free < 0 || need <= facts[a].memory_free) continue;
        FOUND(MND_FATAL, "memory", "host %s: %d processes need about %lld MB, %lld MB are free",
              facts[a].host, ranks, (long long)(need >> 20),
              (long long)(facts[a].memory_free >> 20));
        MEND("fewer processes a node (sbatch --ntasks-per-node=%d), more memory (--mem=%lldM), or "
             "a smaller --batch-size",
             ranks > 1 ? ranks / 2 : 1, (long long)(need >> 20) * 5 / 4);
        return;
    }
    FOUND(MND_HEALTHY, "memory", "enough: about %lld MB a process",
          (long long)(facts[0].memory_need >> 20));
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
    judge_threads(&r, facts, n);
    judge_same(&r, facts, n);
    if (quick) return r.n;
    if (q->data != NULL) judge_data(&r, facts, n, q);
    if (q->data != NULL && q->model != NULL) judge_memory(&r, facts, n);
    if (q->checkpoint_dir != NULL) judge_folder(&r, &facts[0], q);
    return r.n;
}

mnd_status mnd_doctor(mnd_comm *comm, const mnd_doctor_request *request, bool quick,
                      mnd_finding finding[MND_MAX_FINDINGS], int *n_finding) {
    mnd_status status = MND_OK;
    mnd_facts mine, *all;
    *n_finding = 0;
    const int size = mnd_comm_size(comm);
    mnd_doctor_examine(comm, request, quick, &mine);
    MND_NEW_AGREED(comm, all, size, "the doctor");
    MND_TRY(mnd_comm_allgather(comm, &mine, sizeof mine, all));
    *n_finding = mnd_doctor_judge(all, size, request, quick, finding);
cleanup:
    mnd_free(all);
    return status;
}

mnd_status mnd_doctor_admit(mnd_comm *comm, const mnd_doctor_request *request) {
    mnd_finding finding[MND_MAX_FINDINGS];
    int n;
    mnd_status status = mnd_doctor(comm, request, true, finding, &n);
    for (int i = 0; i < n && status == MND_OK; i++)
        if (finding[i].severity == MND_FATAL)
            status =
                mnd_fail(MND_MISMATCH, "%s; mend it with: %s", finding[i].text, finding[i].mend);
    return status;
}
