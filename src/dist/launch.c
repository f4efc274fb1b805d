#include "mnist_dist/launch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_set(const char *name) { return getenv(name) != NULL; }

static int number_of(const char *name) {
    const char *text = getenv(name);
    const int n = text != NULL ? atoi(text) : 0;
    return n > 0 ? n : 0;
}

/* The value of the first variable whose name begins so, or NULL. */
static const char *value_of_prefix(const char *prefix) {
    for (char **e = environ; e != NULL && *e != NULL; e++)
        if (strncmp(*e, prefix, strlen(prefix)) == 0) return strchr(*e, '=');
    return NULL;
}

/* --- servers to join -------------------------------------------------------------------------- */

/* Whether nothing listens at "...;tcp4://127.0.0.1:51471". False where that cannot be told. */
static bool refuses(const char *uri) {
    char address[64];
    unsigned port;
    const char *tcp = strstr(uri, "tcp4://");
    struct sockaddr_in to = {.sin_family = AF_INET};
    if (tcp == NULL || sscanf(tcp, "tcp4://%63[0-9.]:%u", address, &port) != 2 || port > 65535 ||
        inet_pton(AF_INET, address, &to.sin_addr) != 1)
        return false;
    to.sin_port = htons((uint16_t)port);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return false;
    int error = connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 ? 0 : errno;
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    socklen_t n = sizeof error;
    if (error == EINPROGRESS && poll(&wait, 1, 1000) == 1)
        (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n);
    const bool refused = error == ECONNREFUSED;
    close(fd);
    return refused;
}

/* PMIx: the server's address is known, and its folder exists or it answers. */
static bool has_pmix(void) {
    struct stat info;
    const char *uri = value_of_prefix("PMIX_SERVER_URI"), *folder = getenv("PMIX_SERVER_TMPDIR");
    if (uri == NULL) return false;
    if (folder == NULL || stat(folder, &info) == 0) return true;
    return !refuses(uri);
}

/* PMI of MPICH, of Slurm and of those derived from them: an open descriptor, or an address. */
static bool has_pmi(void) {
    static const char *const address[] = {"PMI_PORT",    "PMI_CONTROL_PORT", "PMI2_",
                                          "PALS_RANKID", "ALPS_APP_ID",      "PMI_CONTROL_FD"};
    for (size_t i = 0; i < sizeof address / sizeof address[0]; i++)
        if (value_of_prefix(address[i]) != NULL) return true;
    const char *fd = getenv("PMI_FD");
    return fd != NULL && fcntl(atoi(fd), F_GETFD) >= 0;
}

/* --- steps of Slurm --------------------------------------------------------------------------- */

/* Batch script, interactive and external step have numbers from here on. */
static const unsigned long long SPECIAL_STEPS = 4294967280ULL;

static bool has_terminal(long pid) {
    char path[64], target[64];
    snprintf(path, sizeof path, "/proc/%ld/fd/0", pid);
    const ssize_t n = readlink(path, target, sizeof target - 1);
    if (n <= 0) return false;
    target[n] = '\0';
    return strncmp(target, "/dev/pts/", 9) == 0;
}

/* In a step: whether a user started this process, not srun. */
static bool is_by_hand(void) {
    const char *step = getenv("SLURM_STEP_ID"), *task = getenv("SLURM_TASK_PID");
    if (step != NULL && strtoull(step, NULL, 10) >= SPECIAL_STEPS) return true;
    /* Variables of a notebook or a terminal are handed on to what srun starts from there; but of
       that the task is this process itself. */
    const bool interactive = is_set("SLURM_PTY_PORT") || is_set("JPY_PARENT_PID");
    if (task == NULL) return interactive;
    const long pid = strtol(task, NULL, 10);
    if (pid <= 0 || pid == (long)getpid()) return false;
    if (has_terminal(pid) || isatty(STDIN_FILENO)) return true;
    return interactive && (is_set("JPY_PARENT_PID") || kill((pid_t)pid, 0) != 0);
}

/* ---------------------------------------------------------------------------------------------- */

/*
 * Seen with Open MPI 4.1 and mpirun: OMPI_COMM_WORLD_SIZE and PMIX_RANK; MPICH 4.0 and its mpirun,
 * or srun --mpi=pmi2: PMI_RANK, PMI_SIZE and PMI_FD; srun --mpi=pmix: PMIX_RANK. The others are of
 * MVAPICH and Hydra's PMI by port. A bare SLURM_PROCID is no sign: without a PMI, MPI_Init would
 * only make singletons.
 */
void mnd_launch_examine(mnd_launch *out) {
    /* A batch script is no step, but its tasks are. */
    const bool step = is_set("SLURM_STEP_NUM_TASKS") && is_set("SLURM_PROCID");
    const bool open_mpi = is_set("OMPI_COMM_WORLD_SIZE"), pmix = is_set("PMIX_RANK");
    const bool pmi = is_set("PMI_RANK") || is_set("PMI_SIZE") || is_set("PMI_FD");
    const bool by_hand = step && !open_mpi && !is_set("PMI_FD") && is_by_hand();
    /* Open MPI before 4 has no PMIx; its daemon has an address as well. */
    const bool server = (pmix && has_pmix()) ||
                        (open_mpi && !pmix && is_set("OMPI_MCA_orte_hnp_uri")) || has_pmi() ||
                        is_set("MV2_COMM_WORLD_SIZE");
    *out = (mnd_launch){.joins = server && !by_hand};
    const char *launcher = "";
    if (by_hand) {
        launcher = "shell";
        out->meant = number_of("SLURM_STEP_NUM_TASKS");
    } else if (!server && (open_mpi || pmix || pmi)) {
        launcher = "stale";
        out->meant = number_of(open_mpi ? "OMPI_COMM_WORLD_SIZE" : "PMI_SIZE");
    } else if ((out->meant = number_of("OMPI_COMM_WORLD_SIZE")) > 0) {
        launcher = "Open MPI";
    } else if (step) {
        launcher = "slurm";
        out->meant = number_of("SLURM_STEP_NUM_TASKS");
    } else if ((out->meant = number_of("PMI_SIZE")) > 0) {
        launcher = "PMI";
    } else if ((out->meant = number_of("SLURM_NTASKS")) > 0) {
        launcher = "batch";
    }
    snprintf(out->launcher, sizeof out->launcher, "%s", launcher);
}
