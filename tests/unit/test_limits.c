/* src/train/limits.c: control groups of both versions at any depth, as files made up here. */
#include "test.h"

#include "limits.h"
#include "scratch.h"

static const int64_t MB = 1 << 20;

/* Writes a file under the scratch folder, and the folders above it. */
static void put(const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s", scratch(name));
    for (char *p = strchr(path + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
        *p = '\0';
        (void)mkdir(path, 0777);
        *p = '/';
    }
    scratch_text(path, text);
}

static mnd_limits read_limits(const char *root, const char *membership) {
    char mounted[512], own[512];
    mnd_limits limits;
    snprintf(mounted, sizeof mounted, "%s", scratch(root));
    snprintf(own, sizeof own, "%s", scratch("own"));
    put("own", membership);
    mnd_limits_read(mounted, own, &limits);
    return limits;
}

/* Slurm and systemd set limits several levels above the process; the tightest counts. */
static void version_2_at_any_depth(void **state) {
    (void)state;
    put("two/cgroup.controllers", "cpu memory\n");
    put("two/system.slice/job_7/memory.max", "104857600\n");
    put("two/system.slice/job_7/memory.current", "94371840\n");
    put("two/system.slice/job_7/memory.stat",
        "anon 1\ninactive_file 20971520\nactive_file 10485760\n");
    put("two/system.slice/job_7/cpu.max", "150000 100000\n");
    put("two/system.slice/job_7/step_0/memory.max", "max\n");
    put("two/system.slice/job_7/step_0/memory.high", "524288000\n");
    put("two/system.slice/job_7/step_0/memory.current", "83886080\n");
    put("two/system.slice/job_7/step_0/cpu.max", "max 100000\n");
    put("two/system.slice/job_7/step_0/task_1/memory.max", "max\n");
    put("two/system.slice/job_7/step_0/task_1/memory.current", "83886080\n");
    mnd_limits limits = read_limits("two", "0::/system.slice/job_7/step_0/task_1\n");
    assert_int_equal(limits.memory, 100 * MB);
    assert_int_equal(limits.memory_free, 40 * MB); /* 100 - (90 - 30 of page cache) */
    assert_true(limits.cpus == 1.5);
    assert_non_null(strstr(limits.where, "/system.slice/job_7"));
    /* Another task of the job has the same limit, and its use counts with this one's. */
    assert_true(read_limits("two", "0::/system.slice/job_7/step_1\n").group == limits.group);
    assert_int_equal(read_limits("two", "0::/user.slice\n").memory, -1);
    assert_true(read_limits("two", "0::/user.slice\n").cpus == 0.0);
}

/* A container shows its own group as the root; the path may be of the host or begin with "..". */
static void containers(void **state) {
    (void)state;
    put("box/cgroup.controllers", "cpu memory\n");
    put("box/memory.max", "52428800\n");
    put("box/memory.current", "62914560\n");
    put("box/cpu.max", "200000 100000\n");
    static const char *const own[] = {"0::/\n", "0::/docker/0123\n", "0::/../../sibling\n"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        const mnd_limits limits = read_limits("box", own[i]);
        assert_int_equal(limits.memory, 50 * MB);
        assert_int_equal(limits.memory_free, 0);
        assert_true(limits.cpus == 2.0);
    }
}

static void version_1_and_both(void **state) {
    (void)state;
    put("one/memory/slurm/uid_1/job_7/memory.limit_in_bytes", "1073741824\n");
    put("one/memory/slurm/uid_1/job_7/memory.usage_in_bytes", "536870912\n");
    put("one/memory/slurm/uid_1/job_7/memory.stat",
        "cache 9\ninactive_file 1\ntotal_inactive_file 268435456\n");
    put("one/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("one/memory/memory.usage_in_bytes", "536870912\n");
    put("one/cpu,cpuacct/batch/cpu.cfs_quota_us", "50000\n");
    put("one/cpu,cpuacct/batch/cpu.cfs_period_us", "100000\n");
    put("one/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put("one/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    const char *own = "9:cpuset:/\n5:cpu,cpuacct:/batch\n4:memory:/slurm/uid_1/job_7/step_0\n"
                      "0::/init.scope\n";
    mnd_limits limits = read_limits("one", own);
    assert_int_equal(limits.memory, 1024 * MB);
    assert_int_equal(limits.memory_free, 768 * MB);
    assert_true(limits.cpus == 0.5);
    /* Both versions: the second is mounted beside the controllers of the first. */
    put("one/unified/init.scope/memory.max", "10485760\n");
    put("one/unified/init.scope/memory.current", "1048576\n");
    limits = read_limits("one", own);
    assert_int_equal(limits.memory_free, 9 * MB);
    assert_true(limits.cpus == 0.5);
}

static void what_cannot_be_read_is_no_limit(void **state) {
    (void)state;
    mnd_limits limits;
    mnd_limits_read("/nonexistent", "/nonexistent/own", &limits);
    assert_int_equal(limits.memory, -1);
    static const char *const own[] = {"", "0\n", "::\n", "4:memory\n", "4:memory:\n", "0::..\n"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        assert_int_equal(read_limits("none", own[i]).memory, -1);
}

static void needs(void **state) {
    (void)state;
    mnd_dataset_info data = {
        .count = {60000, 10000}, .height = 28, .width = 28, .channels = 1, .classes = 10};
    const mnd_memory_need one = mnd_memory_needed("mlp512", &data, 128, 1);
    /* The images, and 669,706 parameters. */
    assert_int_equal(one.least, INT64_C(70000) * 784 + INT64_C(669706) * 4);
    assert_true(one.about > one.least + INT64_C(3) * 669706 * 4);
    assert_true(mnd_memory_needed("mlp512", &data, 128, 8).least < one.least / 4);
    /* A batch has no more images than there are. */
    data.count[0] = 100;
    assert_true(mnd_memory_needed("mlp512", &data, 1 << 30, 1).about < one.about);
    assert_int_equal(mnd_memory_needed("nonsense", &data, 128, 1).about, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_2_at_any_depth),
        cmocka_unit_test(containers),
        cmocka_unit_test(version_1_and_both),
        cmocka_unit_test(what_cannot_be_read_is_no_limit),
        cmocka_unit_test(needs),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
