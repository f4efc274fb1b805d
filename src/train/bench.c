/* bench.c - measures what bench.h describes. */
#include "mnist_dist/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loader.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/exchange.h"
#include "mnist_dist/kernels.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/model.h"
#include "mnist_dist/synth.h"
#include "mnist_dist/timer.h"
#include "step.h"

enum {
    MAX_GROUPS = 32, /* numbers of processes */
    WARM_UP = 5,     /* steps before a turn's clock starts, at least */
    DRAWN = 1000,    /* images that are drawn; more are the same again */
    LEAST_FLOATS = 256,
    MOST_FLOATS = 1 << 20,
    SIZES = 7,
    WAYS = 3
};

/* A turn of one process. */
typedef struct record {
    double seconds;
    mnd_time_split time;
} record;

/* The first `ranks` processes. */
typedef struct group {
    int ranks;
    mnd_comm *comm; /* NULL on the others */
} group;

/* A row in the making. */
typedef struct scaling {
    bool weak, textbook; /* textbook: products by OpenBLAS, exchange by MPI_Allreduce */
    const group *who;
    int64_t batch, step; /* global; of the epoch */
    mnd_loader loader;
    char exchange[16];
    record *record; /* rank 0: (repeats, ranks), owned */
} scaling;

typedef struct bench {
    const mnd_bench_config *config;
    mnd_comm *comm;
    int rank, size;
    mnd_dataset *data; /* NULL: drawn digits */
    mnd_shape input;
    int classes;
    int64_t images;
    int n_group, n_scaling;
    group group[MAX_GROUPS];
    scaling scaling[2 * MAX_GROUPS + 1]; /* strong, weak, the textbook */
    char (*host)[MND_HOST_NAME];         /* (size), owned */
    double *loss; /* (logical ranks here), owned: what steps report, unused */
    int64_t *correct;
    mnd_bench_progress_fn progress;
    void *context;
    int done, all;
    mnd_bench *out;
} bench;

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the values. */
static double median(double *value, int n) {
    qsort(value, (size_t)n, sizeof *value, by_value);
    return n % 2 == 1 ? value[n / 2] : 0.5 * (value[n / 2 - 1] + value[n / 2]);
}

/* After what some did while the others sleep: all come together, with the worst status. */
static mnd_status gather_again(bench *b, mnd_status mine) {
    const mnd_status rest = mnd_comm_rest(b->comm);
    if (rest != MND_OK) return rest;
    b->done++;
    if (b->rank == 0 && b->progress != NULL) b->progress(b->context, b->done, b->all);
    return mnd_comm_agree(b->comm, mine, NULL);
}

/* --------------------------------------------------------------------------------------- set-up */

static mnd_status open_data(bench *b) {
    const mnd_bench_config *c = b->config;
    const int64_t most = c->batch_size * b->size;
    b->input = (mnd_shape){.ndim = 3, .dim = {28, 28, 1}};
    b->classes = 10;
    b->images = c->images > 0 ? c->images : 60000;
    if (c->data == NULL) {
        if (c->images == 0 && b->images < most) b->images = most;
    } else {
        const mnd_status status = mnd_dataset_open(c->data, &b->data);
        if (status != MND_OK) return status;
        const mnd_dataset_info *info = mnd_dataset_about(b->data);
        b->input = (mnd_shape){.ndim = 3, .dim = {info->height, info->width, info->channels}};
        b->classes = info->classes;
        if (c->images == 0 || b->images > info->count[MND_TRAIN])
            b->images = info->count[MND_TRAIN];
    }
    if (c->batch_size < b->size)
        return mnd_fail(MND_USAGE,
                        "--batch-size %lld leaves some of %d processes without an image: give at "
                        "least %d",
                        (long long)c->batch_size, b->size, b->size);
    if (most > b->images || most > INT32_MAX / 2)
        return mnd_fail(MND_USAGE,
                        "weak scaling on %d processes takes %lld images a step and there are %lld: "
                        "give a smaller --batch-size or more images (--synthetic)",
                        b->size, (long long)most, (long long)b->images);
    return MND_OK;
}

static mnd_status split(bench *b) {
    for (int p = 1;; p = 2 * p < b->size ? 2 * p : b->size) {
        group *g = &b->group[b->n_group++];
        g->ranks = p;
        const mnd_status status = mnd_comm_split(b->comm, b->rank < p ? 0 : 1, &g->comm);
        if (status != MND_OK) return status;
        if (b->rank >= p) mnd_comm_finish(&g->comm);
        if (p == b->size) return MND_OK;
    }
}

/* Whose exchange and products a row uses. */
static const char *exchange_of(const bench *b, const scaling *s) {
    return s->textbook ? "mpi" : b->config->exchange;
}

static void plan_rows(bench *b) {
    for (int weak = 0; weak < 2; weak++)
        for (int g = 0; g < b->n_group; g++) {
            if (weak && b->group[g].ranks == 1) continue; /* the same as strong */
            b->scaling[b->n_scaling++] =
                (scaling){.weak = weak,
                          .who = &b->group[g],
                          .batch = b->config->batch_size * (weak ? b->group[g].ranks : 1)};
        }
    b->scaling[b->n_scaling++] = (scaling){
        .textbook = true, .who = &b->group[b->n_group - 1], .batch = b->config->batch_size};
}

/* Training rows as the shards of a file: digits that a thousand drawn ones repeat. */
static void repeat(mnd_loader *l, const uint8_t *image, const uint8_t *label) {
    const size_t pixels = l->plan.pixels;
    for (int64_t i = 0; i < l->rows; i++) {
        const size_t from = (size_t)((l->row + i) % DRAWN);
        memcpy(l->image + (size_t)i * pixels, image + from * pixels, pixels);
        l->label[i] = label[from];
    }
}

/* Which images of a row are here: those of the logical ranks that a training run would have. */
static mnd_loader_plan plan_loader(const bench *b, const scaling *s) {
    const int logical = mnd_train_logical_ranks(s->who->ranks, b->images);
    const int first = mnd_logical_first(logical, s->who->ranks, b->rank);
    return (mnd_loader_plan){.images = b->images,
                             .pixels = mnd_shape_size(&b->input),
                             .batch = s->batch,
                             .seed = b->config->seed,
                             .logical = logical,
                             .first = first,
                             .n = mnd_logical_first(logical, s->who->ranks, b->rank + 1) - first,
                             .one_segment = !mnd_exchange_fixed_order(exchange_of(b, s))};
}

/* This process' shards for every row it takes part in. */
static mnd_status load(bench *b) {
    mnd_status status = MND_OK;
    uint8_t *image = NULL, *label = NULL;
    const size_t pixels = mnd_shape_size(&b->input);
    if (b->data == NULL) {
        MND_NEW(image, DRAWN * pixels, "drawn digits");
        MND_NEW(label, DRAWN, "drawn digits");
        for (int64_t i = 0; i < DRAWN; i++)
            mnd_synth_digit(b->config->seed, MND_TRAIN, i, image + (size_t)i * pixels, label + i);
    }
    for (int i = 0; i < b->n_scaling; i++) {
        scaling *s = &b->scaling[i];
        if (s->who->comm == NULL) continue;
        const mnd_loader_plan plan = plan_loader(b, s);
        if (image == NULL) {
            MND_TRY(mnd_loader_open(&plan, b->data, &s->loader));
        } else {
            MND_TRY(mnd_loader_plan_for(&plan, &s->loader));
            repeat(&s->loader, image, label);
        }
        mnd_loader_epoch(&s->loader, 1);
        if (b->rank != 0) continue;
        MND_NEW(s->record, (size_t)b->config->repeats * (size_t)s->who->ranks, "the measurements");
    }
cleanup:
    mnd_free(image);
    mnd_free(label);
    return status;
}

/* Rank 0: memory for what is distributed later. */
static mnd_status make_room(bench *b) {
    mnd_status status = MND_OK;
    mnd_bench *out = b->out;
    MND_NEW(b->host, b->size, "host names");
    MND_NEW(b->loss, MND_LOGICAL_RANKS, "losses");
    MND_NEW(b->correct, MND_LOGICAL_RANKS, "answers");
    if (b->rank != 0) return MND_OK;
    MND_NEW(out->row, 2 * (size_t)b->n_group, "the measurements");
    MND_NEW(out->message, b->n_group * SIZES * WAYS, "the measurements");
cleanup:
    return status;
}

/* ------------------------------------------------------------------------------------- training */

static mnd_status take_steps(bench *b, scaling *s, mnd_step *st, int first, int n) {
    const int64_t whole = b->images / s->batch; /* steps of an epoch with a full batch */
    for (int t = first; t < first + n; t++) {
        uint32_t flags;
        mnd_status status = mnd_step_gradient(st, s->step, b->loss, b->correct);
        if (status != MND_OK) return status;
        s->step = (s->step + 1) % whole;
        status = mnd_updater_step(&st->update, b->config->optimizer.lr, t + 1, 0, &flags);
        if (status != MND_OK) return status;
    }
    return MND_OK;
}

/*
 * One turn of one row, on its processes. Model and exchange are made afresh each time: every turn
 * then has its memory somewhere else, and only one row's shared memory exists at a time.
 */
static mnd_status take_turn(bench *b, scaling *s, record *mine) {
    mnd_status status = MND_OK;
    const mnd_bench_config *c = b->config;
    mnd_comm *comm = s->who->comm;
    mnd_model *model = NULL;
    mnd_exchange *exchange = NULL;
    mnd_step st;
    mnd_group_sum groups = {0};
    const bool plain = c->plain || s->textbook;
    const mnd_model_options options = {.max_rows = s->loader.max_rows,
                                       .max_seg = s->loader.max_seg,
                                       .max_group = s->loader.plan.n,
                                       .training = true,
                                       .plain = plain,
                                       .threads = c->threads};
    status = mnd_model_create(c->model, &b->input, b->classes, &options, &model);
    if (status == MND_OK)
        status = mnd_group_sum_open(comm, NULL, s->loader.plan.logical, model, &groups);
    MND_TRY(mnd_comm_agree(comm, status, NULL));
    const mnd_exchange_options wanted = {.name = exchange_of(b, s),
                                         .logical = s->loader.plan.logical,
                                         .n_param = mnd_model_n_param(model),
                                         .n_slot = c->optimizer.ops->n_slot};
    MND_TRY(mnd_exchange_create(comm, &wanted, &exchange));
    mnd_step_open(&st, &s->loader, model,
                  &(mnd_updater){.model = model,
                                 .exchange = exchange,
                                 .optimizer = &c->optimizer,
                                 .threads = c->threads},
                  &groups);
    if (mnd_exchange_writes_param(exchange)) mnd_model_initialize(model, MND_INIT_GLOROT, c->seed);
    MND_TRY(mnd_exchange_publish(exchange));
    mnd_blas_set_threads(plain ? c->threads : 1);
    const int warm_up = c->steps / 10 > WARM_UP ? c->steps / 10 : WARM_UP;
    MND_TRY(take_steps(b, s, &st, 0, warm_up));
    mnd_step_reset(&st);
    MND_TRY(mnd_comm_barrier(comm));
    const double begin = mnd_now();
    MND_TRY(take_steps(b, s, &st, warm_up, c->steps));
    *mine = (record){.seconds = mnd_now() - begin, .time = mnd_step_time(&st)};
    snprintf(s->exchange, sizeof s->exchange, "%s", mnd_exchange_name(exchange));
    if (b->rank == 0) {
        if (mnd_exchange_note(exchange)[0] != '\0')
            snprintf(b->out->note, sizeof b->out->note, "%s", mnd_exchange_note(exchange));
        snprintf(b->out->model, sizeof b->out->model, "%s", mnd_model_text(model));
        b->out->n_param = mnd_model_n_param(model);
    }
cleanup:
    mnd_exchange_destroy(&exchange);
    mnd_model_destroy(&model);
    mnd_group_sum_free(&groups);
    return status;
}

static mnd_status take_turns(bench *b) {
    mnd_status status = MND_OK;
    record *all;
    MND_NEW_AGREED(b->comm, all, b->size, "the measurements");
    for (int t = 0; t < b->config->repeats; t++)
        for (int k = 0; k < b->n_scaling; k++) {
            /* There and back, so that none always comes after the same other one. */
            scaling *s = &b->scaling[t % 2 == 0 ? k : b->n_scaling - 1 - k];
            if (s->who->comm != NULL) {
                record mine = {0};
                status = take_turn(b, s, &mine);
                if (status == MND_OK)
                    status = mnd_comm_allgather(s->who->comm, &mine, sizeof mine, all);
                if (status == MND_OK && b->rank == 0)
                    memcpy(s->record + (size_t)t * (size_t)s->who->ranks, all,
                           (size_t)s->who->ranks * sizeof mine);
            }
            MND_TRY(gather_again(b, status));
        }
cleanup:
    mnd_free(all);
    return status;
}

/* --------------------------------------------------------------------------------- the exchange */

typedef struct side {
    const char *way;
    mnd_exchange *exchange;
    double *seconds; /* (repeats * messages) */
} side;

static mnd_status one_message(mnd_comm *comm, side *s, const float *mine, size_t n,
                              double *seconds) {
    mnd_status status = MND_OK;
    uint32_t flags;
    size_t stride;
    /* Fresh, as from a backward pass. */
    memcpy(mnd_exchange_grad(s->exchange, &stride), mine, n * sizeof *mine);
    MND_TRY(mnd_comm_barrier(comm));
    const double begin = mnd_now();
    MND_TRY(mnd_exchange_step(s->exchange, &mnd_update_keep_sum, 0, &flags));
    *seconds = mnd_now() - begin;
cleanup:
    return status;
}

/* The ways that can be taken here, with their memory. Collective. */
static mnd_status open_sides(bench *b, const group *g, size_t n, side *sides, int *n_side) {
    mnd_status status = MND_OK;
    const bool nodes = mnd_comm_nodes(g->comm) > 1;
    const char *const way[WAYS] = {"mpi", "tree", nodes ? "hierarchical" : "shared"};
    *n_side = 0;
    for (int i = 0; i < WAYS; i++) {
        side *s = &sides[*n_side];
        const mnd_exchange_options wanted = {.name = way[i], .logical = g->ranks, .n_param = n};
        *s = (side){.way = way[i]};
        status = mnd_exchange_create(g->comm, &wanted, &s->exchange);
        if (status == MND_NO_MEMORY) {
            /* Shared memory is small in containers: the others are still worth measuring. */
            if (b->rank == 0) snprintf(b->out->note, sizeof b->out->note, "%s", mnd_error());
            continue;
        }
        MND_TRY(status);
        ++*n_side;
        MND_NEW_AGREED(g->comm, s->seconds, b->config->repeats * b->config->messages,
                       "the measurements");
    }
cleanup:
    return status;
}

static void close_sides(side *sides, int n_side) {
    for (int i = 0; i < n_side; i++) {
        mnd_exchange_destroy(&sides[i].exchange);
        mnd_free(sides[i].seconds);
    }
}

/* All ways at one size on one group; alternating. */
static mnd_status measure_size(bench *b, const group *g, size_t n) {
    mnd_status status = MND_OK;
    side sides[WAYS] = {0};
    int n_side = 0;
    float *mine;
    const int repeats = b->config->repeats, messages = b->config->messages;
    MND_NEW_AGREED(g->comm, mine, n, "the exchange");
    for (size_t i = 0; i < n; i++) mine[i] = 1.0F;
    MND_TRY(open_sides(b, g, n, sides, &n_side));
    for (int t = -1; t < repeats; t++) /* the first turn warms up */
        for (int k = 0; k < n_side; k++) {
            side *s = &sides[(k + t + 1) % n_side];
            for (int i = 0; i < messages; i++)
                MND_TRY(
                    one_message(g->comm, s, mine, n, &s->seconds[(t < 0 ? 0 : t) * messages + i]));
        }
    for (int k = 0; k < n_side; k++) {
        side *s = &sides[k];
        MND_TRY(mnd_comm_max_f64(g->comm, s->seconds, (size_t)(repeats * messages)));
        if (b->rank != 0) continue;
        mnd_bench_message *m = &b->out->message[b->out->n_message++];
        *m = (mnd_bench_message){.ranks = g->ranks,
                                 .nodes = mnd_comm_nodes(g->comm),
                                 .bytes = n * sizeof(float),
                                 .seconds = median(s->seconds, repeats * messages)};
        snprintf(m->way, sizeof m->way, "%s", s->way);
    }
cleanup:
    close_sides(sides, n_side);
    mnd_free(mine);
    return status;
}

static mnd_status measure_messages(bench *b) {
    mnd_status status = MND_OK;
    for (int g = 0; g < b->n_group; g++) {
        if (b->group[g].ranks == 1) continue;
        for (size_t n = LEAST_FLOATS; n <= MOST_FLOATS; n *= 4) {
            if (b->group[g].comm != NULL) status = measure_size(b, &b->group[g], n);
            MND_TRY(gather_again(b, status));
        }
    }
cleanup:
    return status;
}

/* ---------------------------------------------------------------------------------- the results */

static double rate_of(const bench *b, const scaling *s, int t) {
    double longest = 0.0;
    for (int r = 0; r < s->who->ranks; r++) {
        const double seconds = s->record[t * s->who->ranks + r].seconds;
        if (seconds > longest) longest = seconds;
    }
    return (double)s->batch * b->config->steps / longest;
}

/* The time split of the turn with the median rate; of two in the middle, the slower. */
static void split_time(const bench *b, const scaling *s, const double *sorted, mnd_bench_row *row) {
    const int repeats = b->config->repeats, ranks = s->who->ranks;
    int turn = 0;
    while (row->rate[turn] != sorted[(repeats - 1) / 2]) turn++;
    row->seconds = (double)s->batch / row->rate[turn];
    const double share = 1.0 / ((double)ranks * b->config->steps);
    for (int r = 0; r < ranks; r++)
        mnd_time_add(&row->time, &s->record[turn * ranks + r].time, share);
}

static mnd_status summarise(const bench *b, const scaling *s, mnd_bench_row *row) {
    mnd_status status = MND_OK;
    const int repeats = b->config->repeats, ranks = s->who->ranks;
    double *value = NULL;
    MND_NEW(row->rate, repeats, "the results");
    MND_NEW(value, repeats, "the results");
    row->weak = s->weak;
    row->ranks = ranks;
    row->nodes = mnd_comm_nodes(s->who->comm);
    row->batch = s->batch;
    memcpy(row->exchange, s->exchange, sizeof row->exchange);
    for (int t = 0; t < repeats; t++) value[t] = row->rate[t] = rate_of(b, s, t);
    row->images_per_second = median(value, repeats);
    split_time(b, s, value, row);
    for (int t = 0; t < repeats; t++)
        value[t] = row->rate[t] / (ranks * rate_of(b, &b->scaling[0], t));
    row->efficiency = median(value, repeats);
    for (int r = 0; r < ranks; r++) {
        for (int t = 0; t < repeats; t++) {
            const mnd_time_split *time = &s->record[t * ranks + r].time;
            value[t] = (time->data + time->compute) / b->config->steps;
        }
        const double busy = median(value, repeats);
        row->busy_mean += busy / ranks;
        if (busy <= row->busy) continue;
        row->busy = busy;
        row->slowest = r;
    }
    memcpy(row->host, b->host[row->slowest], sizeof row->host);
cleanup:
    mnd_free(value);
    return status;
}

/* A row for one process also heads the weak ones. */
static mnd_status report(const bench *b) {
    mnd_status status = MND_OK;
    mnd_bench *out = b->out;
    out->ranks = b->size;
    out->nodes = mnd_comm_nodes(b->comm);
    out->threads = b->config->threads;
    out->steps = b->config->steps;
    out->repeats = b->config->repeats;
    out->batch_size = b->config->batch_size;
    out->images = b->images;
    for (int i = 0; i < b->n_group; i++)
        MND_TRY(summarise(b, &b->scaling[i], &out->row[out->n_row++]));
    mnd_bench_row *head = &out->row[out->n_row++];
    MND_TRY(summarise(b, &b->scaling[0], head));
    head->weak = true;
    for (int i = b->n_group; i < b->n_scaling - 1; i++)
        MND_TRY(summarise(b, &b->scaling[i], &out->row[out->n_row++]));
    MND_TRY(summarise(b, &b->scaling[b->n_scaling - 1], &out->textbook));
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (out->note[0] == '\0' && cpus > 0 && (double)b->size > (double)cpus * out->nodes)
        snprintf(out->note, sizeof out->note,
                 "%d ranks on %ld CPUs: they take turns, so this says little of more CPUs", b->size,
                 cpus * out->nodes);
    MND_TRY(mnd_bench_predict(out));
cleanup:
    return status;
}

mnd_status mnd_bench_run(const mnd_bench_config *config, mnd_comm *comm,
                         mnd_bench_progress_fn progress, void *context, mnd_bench *out) {
    mnd_status status = MND_OK;
    bench b = {.config = config,
               .comm = comm,
               .rank = mnd_comm_rank(comm),
               .size = mnd_comm_size(comm),
               .progress = progress,
               .context = context,
               .out = out};
    MND_TRY(mnd_comm_agree(comm, open_data(&b), NULL));
    MND_TRY(split(&b));
    plan_rows(&b);
    b.all = config->repeats * b.n_scaling + (b.n_group - 1) * SIZES;
    status = load(&b);
    if (status == MND_OK) status = make_room(&b);
    MND_TRY(mnd_comm_agree(comm, status, NULL));
    char host[MND_HOST_NAME] = "";
    snprintf(host, sizeof host, "%s", mnd_comm_host(comm));
    MND_TRY(mnd_comm_allgather(comm, host, sizeof host, b.host));
    MND_TRY(take_turns(&b));
    MND_TRY(measure_messages(&b));
    MND_TRY(mnd_comm_agree(comm, b.rank == 0 ? report(&b) : MND_OK, NULL));
cleanup:
    for (int i = 0; i < b.n_scaling; i++) {
        mnd_loader_free(&b.scaling[i].loader);
        mnd_free(b.scaling[i].record);
    }
    for (int g = 0; g < b.n_group; g++) mnd_comm_finish(&b.group[g].comm);
    mnd_free(b.host);
    mnd_free(b.loss);
    mnd_free(b.correct);
    mnd_dataset_close(&b.data);
    return status;
}
