/* src/dist/launch.c: launches of MPI, shells inside of Slurm's steps, and variables left over. */
#include "test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mnist_dist/launch.h"

/* Launch variables are all that these tests need in the environment. */
static int forget(void **state) {
    (void)state;
    return clearenv();
}

/* Sets "NAME=VALUE" words and examines. */
static mnd_launch with(const char *words) {
    char text[1024];
    mnd_launch launch;
    assert_int_equal(clearenv(), 0);
    snprintf(text, sizeof text, "%s", words);
    for (char *rest, *word = strtok_r(text, " ", &rest); word != NULL;
         word = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(word, '=');
        *value++ = '\0';
        assert_int_equal(setenv(word, value, 1), 0);
    }
    mnd_launch_examine(&launch);
    return launch;
}

static void expect(const char *words, bool joins, const char *launcher, int meant) {
    const mnd_launch launch = with(words);
    if (launch.joins != joins || strcmp(launch.launcher, launcher) != 0 || launch.meant != meant)
        fail_msg("'%s': joins %d, '%s', %d", words, launch.joins, launch.launcher, launch.meant);
}

/* A port of this host: of a server if `open`, else one that nothing listens at. */
static int port_of(int fd) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    assert_int_equal(bind(fd, (struct sockaddr *)&at, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    return ntohs(at.sin_port);
}

static void launches_of_mpi(void **state) {
    (void)state;
    char words[512];
    expect("", false, "", 0);
    expect("OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=1 PMIX_RANK=1 "
           "PMIX_SERVER_URI2=1.0;tcp4://127.0.0.1:9 PMIX_SERVER_TMPDIR=/",
           true, "Open MPI", 4);
    expect("OMPI_COMM_WORLD_SIZE=4 OMPI_MCA_orte_hnp_uri=1.0;tcp://192.0.2.1:9", true, "Open MPI",
           4);
    snprintf(words, sizeof words, "PMI_RANK=0 PMI_SIZE=4 PMI_FD=%d", STDERR_FILENO);
    expect(words, true, "PMI", 4);
    expect("PMI_RANK=0 PMI_SIZE=4 PMI_PORT=node:9", true, "PMI", 4);
    expect("MV2_COMM_WORLD_SIZE=4", true, "", 0);
    expect("SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=2 SLURM_STEP_ID=0 PMIX_RANK=2 "
           "PMIX_SERVER_URI2=1.0;tcp4://127.0.0.1:9",
           true, "slurm", 4);
    expect("SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=2 SLURM_STEP_ID=0", false, "slurm", 4);
    expect("SLURM_NTASKS=4 SLURM_PROCID=0", false, "batch", 4);
}

static void one_process_by_hand(void **state) {
    (void)state;
    char words[512];
    /* srun -n 4 --pty bash, with PMIx as the default of srun: there is a server, but for bash. */
    expect("SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0 SLURM_STEP_ID=0 SLURM_PTY_PORT=40001 PMIX_RANK=0 "
           "PMIX_SERVER_URI2=1.0;tcp4://127.0.0.1:9",
           false, "shell", 4);
    expect("SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0 SLURM_STEP_ID=4294967290", false, "shell", 4);
    snprintf(words, sizeof words,
             "SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0 JPY_PARENT_PID=7 SLURM_TASK_PID=%ld",
             (long)getppid());
    expect(words, false, "shell", 4);
    /* srun in such a shell: variables are handed on, but the task is this process. */
    snprintf(words, sizeof words,
             "SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0 SLURM_PTY_PORT=40001 JPY_PARENT_PID=7 "
             "SLURM_TASK_PID=%ld PMIX_RANK=0 PMIX_SERVER_URI2=1.0;tcp4://127.0.0.1:9",
             (long)getpid());
    expect(words, true, "slurm", 4);
    /* mpirun in such a shell. */
    expect("SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0 SLURM_PTY_PORT=40001 OMPI_COMM_WORLD_SIZE=2 "
           "PMIX_RANK=0 PMIX_SERVER_URI2=1.0;tcp4://127.0.0.1:9",
           true, "Open MPI", 2);
}

static void variables_left_over(void **state) {
    (void)state;
    char words[512];
    expect("OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=1", false, "stale", 4);
    expect("PMI_SIZE=4 PMI_RANK=0", false, "stale", 4);
    expect("PMIX_RANK=0", false, "stale", 0);
    const int fd = socket(AF_INET, SOCK_STREAM, 0), closed = dup(fd);
    assert_true(fd >= 0 && closed >= 0);
    close(closed);
    snprintf(words, sizeof words, "PMI_RANK=0 PMI_SIZE=4 PMI_FD=%d", closed);
    expect(words, false, "stale", 4);
    /* A server of PMIx that is gone: no folder, and nothing listens. With either it is alive. */
    static const char form[] = "OMPI_COMM_WORLD_SIZE=4 PMIX_RANK=1 PMIX_SERVER_TMPDIR=%s "
                               "PMIX_SERVER_URI21=1.0;tcp4://127.0.0.1:%d";
    const int port = port_of(fd);
    snprintf(words, sizeof words, form, "/nonexistent", port);
    expect(words, false, "stale", 4);
    snprintf(words, sizeof words, form, "/", port);
    expect(words, true, "Open MPI", 4);
    assert_int_equal(listen(fd, 1), 0);
    snprintf(words, sizeof words, form, "/nonexistent", port);
    expect(words, true, "Open MPI", 4);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(launches_of_mpi, forget),
        cmocka_unit_test_teardown(one_process_by_hand, forget),
        cmocka_unit_test_teardown(variables_left_over, forget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
