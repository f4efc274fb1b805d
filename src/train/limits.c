#include "limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "mnist_dist/evaluate.h"
#include "mnist_dist/model.h"

enum { PATH = 4096 };

/* The files of one version. */
typedef struct version {
    const char *memory_limit[2], *memory_used, *file_pages[2]; /* the latter in memory.stat */
    const char *quota, *period;                                /* period NULL: in one file */
} version;

static const version version_1 = {{"memory.limit_in_bytes", NULL},
                                  "memory.usage_in_bytes",
                                  {"total_inactive_file ", "total_active_file "},
                                  "cpu.cfs_quota_us",
                                  "cpu.cfs_period_us"};
/* At memory.high a group is slowed down until it hardly moves. */
static const version version_2 = {{"memory.max", "memory.high"},
                                  "memory.current",
                                  {"inactive_file ", "active_file "},
                                  "cpu.max",
                                  NULL};

bool mnd_file_line(const char *path, const char *key, char *out, size_t size) {
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

/* Numbers of the line that begins with `key`; how many there were (0, 1 or 2). */
static int read_numbers(const char *folder, const char *name, const char *key, int64_t value[2]) {
    char path[PATH], line[256];
    const int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (length < 0 || (size_t)length >= sizeof path || !mnd_file_line(path, key, line, sizeof line))
        return 0;
    const int n = sscanf(line, "%" SCNd64 " %" SCNd64, &value[0], &value[1]);
    return n < 0 ? 0 : n;
}

static void read_memory(const char *folder, const version *v, mnd_limits *out) {
    int64_t limit = INT64_MAX, used, value[2];
    for (int i = 0; i < 2 && v->memory_limit[i] != NULL; i++)
        if (read_numbers(folder, v->memory_limit[i], "", value) > 0 && value[0] < limit)
            limit = value[0];
    /* Version 1 writes "no limit" as the largest number of whole pages. */
    if (limit >= INT64_C(1) << 60 || read_numbers(folder, v->memory_used, "", value) == 0) return;
    used = value[0];
    for (int i = 0; i < 2; i++)
        if (read_numbers(folder, "memory.stat", v->file_pages[i], value) > 0) used -= value[0];
    const int64_t left = limit > used ? limit - used : 0;
    if (out->memory >= 0 && left >= out->memory_free) return;
    struct stat info;
    const size_t n = strlen(folder), most = sizeof out->where - 1;
    out->memory = limit;
    out->memory_free = left;
    out->group = stat(folder, &info) == 0 ? (uint64_t)info.st_ino : 0;
    snprintf(out->where, sizeof out->where, "%s", folder + (n > most ? n - most : 0));
}

static void read_cpus(const char *folder, const version *v, mnd_limits *out) {
    int64_t value[2], period[2];
    if (v->period == NULL) { /* "max 100000" or "150000 100000" */
        if (read_numbers(folder, v->quota, "", value) < 2) return;
        period[0] = value[1];
    } else if (read_numbers(folder, v->quota, "", value) == 0 ||
               read_numbers(folder, v->period, "", period) == 0) {
        return;
    }
    if (value[0] <= 0 || period[0] <= 0) return; /* -1: no limit */
    const double cpus = (double)value[0] / (double)period[0];
    if (out->cpus <= 0.0 || cpus < out->cpus) out->cpus = cpus;
}

/* A group and all above it; levels that a container does not show are left out. */
static void climb(const char *base, const char *group, const version *v, bool memory, bool cpu,
                  mnd_limits *out) {
    char folder[PATH];
    while (strncmp(group, "/..", 3) == 0) group += 3; /* outside of a container's view */
    const size_t root = strlen(base);
    const int n = snprintf(folder, sizeof folder, "%s%s", base, group);
    if (n < 0 || (size_t)n >= sizeof folder) return;
    for (;;) {
        if (memory) read_memory(folder, v, out);
        if (cpu) read_cpus(folder, v, out);
        char *slash = strrchr(folder, '/');
        if (slash == NULL || slash < folder + root) return;
        *slash = '\0';
    }
}

/* Whether a list such as "cpu,cpuacct" has the word. */
static bool has_word(const char *list, const char *word) {
    const size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)) != NULL; p += n)
        if ((p == list || p[-1] == ',') && (p[n] == '\0' || p[n] == ',')) return true;
    return false;
}

static bool exists(const char *folder, const char *name) {
    char path[PATH];
    struct stat info;
    const int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && (size_t)n < sizeof path && stat(path, &info) == 0;
}

/* One line of /proc/self/cgroup: "0::/user.slice" of version 2, "4:cpu,cpuacct:/job_7" of 1. */
static void read_line(const char *root, char *line, mnd_limits *out) {
    char base[PATH];
    char *controllers = strchr(line, ':');
    char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (group == NULL) return;
    *controllers++ = '\0';
    *group++ = '\0';
    group[strcspn(group, "\n")] = '\0';
    const bool two = controllers[0] == '\0';
    const bool memory = has_word(controllers, "memory"), cpu = has_word(controllers, "cpu");
    if (!two && !memory && !cpu) return;
    const char *name = two ? "unified" : controllers;
    if (!two && !exists(root, name)) name = memory ? "memory" : "cpu";
    const bool below = !two || !exists(root, "cgroup.controllers");
    const int n = snprintf(base, sizeof base, "%s%s%s", root, below ? "/" : "", below ? name : "");
    if (n < 0 || (size_t)n >= sizeof base) return;
    climb(base, group, two ? &version_2 : &version_1, two || memory, two || cpu, out);
}

void mnd_limits_read(const char *root, const char *membership, mnd_limits *out) {
    char line[PATH];
    *out = (mnd_limits){.memory = -1, .memory_free = -1};
    FILE *f = fopen(membership, "r");
    if (f == NULL) return;
    while (fgets(line, sizeof line, f) != NULL) read_line(root, line, out);
    fclose(f);
}

mnd_memory_need mnd_memory_needed(const char *model, const mnd_dataset_info *data,
                                  int64_t batch_size, int size) {
    const mnd_shape input = {.ndim = 3, .dim = {data->height, data->width, data->channels}};
    const mnd_model_options options = {.max_rows = 0, .max_seg = 1, .threads = 1};
    const int64_t pixels = (int64_t)mnd_shape_size(&input);
    const int64_t images = data->count[MND_TRAIN];
    const int64_t batch = batch_size < images ? batch_size : images;
    const int64_t own = (batch + size - 1) / size;
    const int64_t rows = own > MND_EVALUATE_CHUNK ? own : MND_EVALUATE_CHUNK;
    mnd_memory_need need = {0};
    mnd_model *made = NULL;
    if (mnd_model_create(model, &input, data->classes, &options, &made) != MND_OK) return need;
    const int64_t parameters = (int64_t)mnd_model_n_param(made) * (int64_t)sizeof(float);
    int64_t activations = pixels;
    for (int i = 0; i < mnd_model_n_layer(made); i++) {
        const mnd_layer_info layer = mnd_model_layer(made, i);
        activations += (int64_t)mnd_shape_size(&layer.out);
    }
    mnd_model_destroy(&made);
    /* The images of this process and its gradient: no way around these. */
    need.least = pixels * (data->count[MND_TRAIN] + data->count[MND_TEST]) / size + parameters;
    /* Parameters and two slots; activations and their gradients, which fused layers need less. */
    need.about = need.least + 3 * parameters + 2 * (int64_t)sizeof(float) * activations * rows;
    return need;
}
