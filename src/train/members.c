/*
 * members.c - an ensemble: rounds in which groups of processes train a member each. Within a group
 * a member is a run like any other (mnd_train); here is what connects the groups.
 */
#include "members.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mnist_dist/doctor.h"
#include "mnist_dist/folder.h"
#include "mnist_dist/kernels.h"
#include "mnist_dist/log.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/metrics.h"
#include "mnist_dist/timer.h"
#include "signals.h"
#include "stopping.h"

/* Seconds between two polls of the other groups, and between two copies of the metrics. */
static const double POLL = 0.05, GATHER = 5.0;

static void warn(const mnd_members *e, const char *text) {
    if (e->observer->warning != NULL) e->observer->warning(e->observer->context, text);
}

/* ------------------------------------------------------------------------------ before the rounds
 */

static double lock_timeout(const mnd_members *e) { return e->config->resume == NULL ? 0.5 : 5.0; }

/* Who goes on does so in spite of a lock: it may be what is left of a job that lost a node, see
   save.c. */
static mnd_status only_warn(const mnd_members *e, mnd_status status) {
    if (status != MND_IO || e->config->resume == NULL) return status;
    warn(e, mnd_error());
    return MND_OK;
}

static mnd_status check(const mnd_train_config *c) {
    if (c->members < 1 || c->members > MND_MAX_MEMBERS)
        return mnd_fail(MND_USAGE, "--members %d: give 1 to %d", c->members, MND_MAX_MEMBERS);
    if (c->checkpoint_dir == NULL)
        return mnd_fail(MND_USAGE,
                        "--members %d needs --checkpoint-dir: the ensemble is evaluated "
                        "from the members' checkpoints",
                        c->members);
    if (c->resume != NULL && strcmp(c->resume, "auto") != 0 && strcmp(c->resume, "required") != 0)
        return mnd_fail(MND_USAGE,
                        "--members goes on with --resume auto or required only; to take one member "
                        "back, train it alone: --seed S --checkpoint-dir %s/member-NN --resume %s",
                        c->checkpoint_dir, c->resume);
    return MND_OK;
}

/* What becomes of a member of an earlier ensemble that had more. Rank 0. */
static mnd_status leave_out(const mnd_members *e, int member) {
    mnd_status status = MND_OK;
    char path[4096], moved[4096], text[9000];
    MND_TRY(mnd_checkpoint_member_dir(e->config->checkpoint_dir, member, path, sizeof path));
    if (e->config->resume != NULL) {
        snprintf(text, sizeof text,
                 "%s stays as it is: it is not one of these %d members, but evaluate and predict "
                 "take all that are in %s",
                 path, e->config->members, e->config->checkpoint_dir);
    } else {
        MND_TRY(mnd_checkpoint_set_aside(path, -1, moved, sizeof moved));
        snprintf(text, sizeof text,
                 "a new ensemble: the checkpoints of member %d of an earlier one were moved to %s",
                 member, moved);
    }
    warn(e, text);
cleanup:
    return status;
}

/*
 * Sets aside what would be taken for a part of this ensemble: checkpoints of a single run in the
 * folder, and, for a new one, members of an earlier one that had more. Rank 0.
 */
static mnd_status set_aside(const mnd_members *e) {
    mnd_status status = MND_OK;
    const char *dir = e->config->checkpoint_dir;
    int *member = NULL, n = 0;
    char moved[4096], text[9000];
    if (mnd_checkpoint_any(dir)) {
        MND_TRY(mnd_checkpoint_set_aside(dir, -1, moved, sizeof moved));
        snprintf(text, sizeof text, "an ensemble: the checkpoints of a single run were moved to %s",
                 moved);
        warn(e, text);
    }
    MND_TRY(mnd_checkpoint_members(dir, &member, &n));
    for (int i = 0; i < n; i++) /* the others' runs do so */
        if (member[i] > e->config->members) MND_TRY(leave_out(e, member[i]));
cleanup:
    free(member);
    return status;
}

/* Copies the members' metrics; last: see mnd_metrics_gather. Rank 0. */
static mnd_status gather(mnd_members *e, const char *last) {
    if (e->part == NULL) return MND_OK;
    e->gathered = mnd_now();
    return mnd_metrics_gather(e->config->metrics, (const char *const *)e->part, e->config->members,
                              last, &e->metrics_lock);
}

/*
 * Sets aside a metrics file that is of another run, and writes the first copy: a path that cannot
 * be written is not to show after hours. Rank 0.
 */
static mnd_status begin_metrics(mnd_members *e, bool begun) {
    mnd_status status = MND_OK;
    char moved[4096] = "", text[9000];
    const char *path = e->config->metrics;
    if (path == NULL) return MND_OK;
    status = mnd_metrics_check_free(path, lock_timeout(e));
    MND_TRY(only_warn(e, status));
    if (!begun || !mnd_metrics_is_gathered(path))
        MND_TRY(mnd_metrics_set_aside(path, "", moved, sizeof moved));
    if (moved[0] != '\0') {
        snprintf(text, sizeof text, "the metrics of another run were moved to %s", moved);
        warn(e, text);
    }
    /* The folders of a new ensemble may hold metrics of an earlier one. */
    status = begun ? gather(e, NULL) : mnd_metrics_gather(path, NULL, 0, NULL, &e->metrics_lock);
cleanup:
    return status;
}

/* What a member's newest checkpoint says: whether its run has begun, and is finished. Rank 0. */
static mnd_status look_at(mnd_members *e, int member, bool *begun, bool *finished) {
    mnd_status status = MND_OK;
    const mnd_train_config *c = e->config;
    mnd_checkpoint ckpt = {0};
    char dir[4096];
    MND_TRY(mnd_checkpoint_member_dir(c->checkpoint_dir, member, dir, sizeof dir));
    status = mnd_checkpoint_read_latest(dir, NULL, NULL, &ckpt, NULL, 0);
    if (status == MND_NOT_FOUND) {
        status = MND_OK;
    } else if (status == MND_OK) {
        *begun = true;
        *finished = ckpt.step_in_epoch == 0 &&
                    (ckpt.epoch >= c->epochs ||
                     mnd_finished(c, ckpt.history, ckpt.n_history) != MND_FINISH_NOT);
        if (c->logical_ranks == 0 && ckpt.logical_ranks < e->most) e->most = ckpt.logical_ranks;
    }
cleanup:
    mnd_checkpoint_free(&ckpt);
    return status;
}

/* The order of the members; finished ones first, since these take next to no time. Rank 0. */
static mnd_status put_in_order(mnd_members *e) {
    mnd_status status = MND_OK;
    const mnd_train_config *c = e->config;
    bool *finished, begun = false;
    MND_NEW(finished, c->members, "the members");
    for (int m = 0; m < c->members && c->resume != NULL; m++)
        MND_TRY(look_at(e, m + 1, &begun, &finished[m]));
    if (!begun && c->resume != NULL && strcmp(c->resume, "required") == 0)
        MND_FAIL(MND_NOT_FOUND,
                 "--resume required: no member has a valid checkpoint in %s: give the "
                 "--checkpoint-dir of the ensemble that is to go on, or --resume auto to begin a "
                 "new one",
                 c->checkpoint_dir);
    for (int m = 0; m < c->members; m++)
        if (finished[m]) e->order[e->finished++] = m;
    int n = e->finished;
    for (int m = 0; m < c->members; m++)
        if (!finished[m]) e->order[n++] = m;
    MND_TRY(begin_metrics(e, begun));
cleanup:
    mnd_free(finished);
    return status;
}

/* The folder, which no other run may use at the same time. Rank 0. */
static mnd_status take_folder(mnd_members *e, int *lock) {
    mnd_status status = MND_OK;
    const mnd_train_config *c = e->config;
    MND_TRY(mnd_folder_make(c->checkpoint_dir));
    MND_TRY(only_warn(e, mnd_checkpoint_lock(c->checkpoint_dir, lock_timeout(e), lock)));
    MND_TRY(set_aside(e));
    MND_TRY(put_in_order(e));
cleanup:
    return status;
}

/* The metrics file of a member. */
static mnd_status part_of(const mnd_members *e, int member, char path[4096]) {
    char dir[4000];
    const mnd_status status =
        mnd_checkpoint_member_dir(e->config->checkpoint_dir, member, dir, sizeof dir);
    if (status == MND_OK) snprintf(path, 4096, "%s/metrics.jsonl", dir);
    return status;
}

static mnd_status name_parts(mnd_members *e) {
    mnd_status status = MND_OK;
    char path[4096];
    if (e->rank != 0 || e->config->metrics == NULL) return MND_OK;
    MND_NEW(e->part, e->config->members, "the members");
    for (int m = 0; m < e->config->members; m++) {
        MND_TRY(part_of(e, m + 1, path));
        e->part[m] = strdup(path);
        if (e->part[m] == NULL) MND_FAIL(MND_NO_MEMORY, "no memory for the members");
        if (strcmp(path, e->config->metrics) == 0)
            MND_FAIL(MND_USAGE,
                     "--metrics %s: member %d has its own metrics there; give another file", path,
                     m + 1);
    }
cleanup:
    return status;
}

/* Whether the launch makes sense, the watchdog, and what rank 0 finds in the folder. Collective. */
static mnd_status prepare(mnd_members *e, int *lock) {
    mnd_status status = MND_OK;
    const mnd_train_config *c = e->config;
    char warning[1024];
    const mnd_doctor_request doctor = {.threads = c->threads, .plain = c->plain};
    MND_TRY(mnd_doctor_admit(e->comm, &doctor, warning, sizeof warning));
    if (warning[0] != '\0' && e->rank == 0) warn(e, warning);
    MND_TRY(mnd_watchdog_start(e->comm, c->stall_timeout, &e->dog));
    mnd_watchdog_phase(e->dog, MND_PHASE_DATA, 0);
    MND_NEW_AGREED(e->comm, e->order, c->members, "the members");
    MND_TRY(mnd_comm_agree(e->comm, name_parts(e), NULL));
    e->most = c->logical_ranks > 0 ? c->logical_ranks : MND_LOGICAL_RANKS;
    if (e->rank == 0) status = take_folder(e, lock);
    MND_TRY(mnd_comm_agree(e->comm, status, NULL));
    MND_TRY(mnd_comm_bcast(e->comm, e->order, (size_t)c->members * sizeof *e->order, 0));
    MND_TRY(mnd_comm_bcast(e->comm, &e->finished, sizeof e->finished, 0));
    MND_TRY(mnd_comm_bcast(e->comm, &e->most, sizeof e->most, 0));
    if (e->rank == 0 && e->size > e->most * c->members) {
        snprintf(warning, sizeof warning,
                 "%d members with %d logical ranks each use %d of the %d processes: to use more, "
                 "begin with a larger --logical-ranks",
                 c->members, e->most, e->most * c->members, e->size);
        warn(e, warning);
    }
    e->begun = true;
cleanup:
    return status;
}

/* --------------------------------------------------------------------------------- in one group */

static void on_setup(void *context, const mnd_train_setup *setup) {
    const mnd_members *e = context;
    if (e->observer->setup != NULL) e->observer->setup(e->observer->context, setup);
}

/* After each step. A member that fails or is stopped stops the others. */
static void on_progress(void *context, const mnd_train_progress *progress) {
    mnd_members *e = context;
    const double now = mnd_now();
    if (now - e->polled >= POLL) {
        int32_t number = 0;
        e->polled = now;
        /* An error here shows at the end of the round as well. */
        if (mnd_outcomes_largest(e->outcomes, &number) == MND_OK && number > 0)
            mnd_signals_note(number);
    }
    if (e->rank == 0 && e->observer->progress != NULL)
        e->observer->progress(e->observer->context, progress);
}

static void on_epoch(void *context, const mnd_train_epoch *epoch) {
    mnd_members *e = context;
    if (e->observer->epoch != NULL) e->observer->epoch(e->observer->context, epoch);
    /* If it fails, the copy after the round says so. */
    if (e->rank == 0 && mnd_now() - e->gathered >= GATHER) (void)!gather(e, NULL);
}

static void on_warning(void *context, const char *text) {
    const mnd_members *e = context;
    char line[1200];
    snprintf(line, sizeof line, "member %d: %s", e->member, text);
    warn(e, line);
}

/* The run of a member, counted from 1. Collective over its group. */
static mnd_status train_member(mnd_members *e, mnd_comm *group, int member) {
    mnd_status status = MND_OK;
    char dir[4000], metrics[4096];
    mnd_train_result result;
    mnd_train_config c = *e->config;
    const mnd_train_observer observer = {.context = e,
                                         .setup = on_setup,
                                         .progress = on_progress,
                                         .epoch = on_epoch,
                                         .warning = on_warning};
    e->member = member;
    MND_TRY(mnd_checkpoint_member_dir(c.checkpoint_dir, member, dir, sizeof dir));
    MND_TRY(part_of(e, member, metrics));
    c.seed += (uint64_t)member - 1;
    c.checkpoint_dir = dir;
    if (c.metrics != NULL) c.metrics = metrics;
    if (c.resume != NULL) c.resume = "auto"; /* a member may not have begun */
    c.member = member;
    c.keep_signals = true; /* they are those of the ensemble */
    status = mnd_train(&c, group, &observer, &result);
    if (status == MND_OK || status == MND_STOPPED) return status;
    char why[1000];
    snprintf(why, sizeof why, "%.*s", (int)sizeof why - 1, mnd_error());
    /* Of several statuses the worst is reported, and that is to be this one: see status.h. */
    status = mnd_fail(status == MND_NOT_FOUND ? MND_IO : status, "member %d: %s", member, why);
cleanup:
    return status;
}

/* --------------------------------------------------------------------------------------- rounds */

/* The group of this process of `groups`, or `groups` itself if it is idle. *first: is its first. */
static int group_of(const mnd_members *e, int groups, bool *first) {
    int g = 0, begin = 0;
    /* Group g has ranks [size g / groups, size (g + 1) / groups). */
    while ((int64_t)e->size * (g + 1) / groups <= e->rank) g++;
    begin = (int)((int64_t)e->size * g / groups);
    *first = e->rank == begin;
    return e->rank - begin < e->most ? g : groups;
}

/* What a group tells the others: 0, or the signal that is to stop them. */
static int32_t outcome(mnd_status status) {
    if (status == MND_OK) return 0;
    return mnd_signals_pending() != 0 ? mnd_signals_pending() : SIGTERM;
}

/* Trains the next `groups` members, of which e->order[next] is the first. Collective. */
static mnd_status train_round(mnd_members *e, int next, int groups) {
    mnd_status status = MND_OK;
    mnd_comm *group = NULL, *firsts = NULL;
    bool first;
    const int mine = group_of(e, groups, &first);
    MND_TRY(mnd_comm_split(e->comm, mine, &group));
    MND_TRY(mnd_comm_split(e->comm, first, &firsts));
    status = first ? mnd_outcomes_open(firsts, &e->outcomes) : MND_OK;
    MND_TRY(mnd_comm_agree(e->comm, status, NULL));
    mnd_watchdog_phase(e->dog, MND_PHASE_APART, next);
    if (mine < groups) status = train_member(e, group, e->order[next + mine] + 1);
    if (status == MND_COMM) { /* what is to follow needs communication */
        mnd_log(MND_LOG_ERROR, "%s", mnd_error());
        mnd_comm_abort(e->comm, 1);
    }
    if (e->outcomes != NULL) {
        const mnd_status told = mnd_outcomes_tell(e->outcomes, outcome(status));
        if (status == MND_OK) status = told;
    }
    /* The error line survives, since nothing fails here that does not end the run anyway. */
    const mnd_status rested = mnd_comm_rest(e->comm);
    if (status == MND_OK) status = rested;
    if (e->rank == 0) {
        const mnd_status copied = status == MND_OK ? gather(e, NULL) : MND_OK;
        if (status == MND_OK) status = copied;
    }
    status = mnd_comm_agree(e->comm, status, NULL);
cleanup:
    mnd_outcomes_close(&e->outcomes);
    mnd_comm_finish(&firsts);
    mnd_comm_finish(&group);
    return status;
}

/* Whether a process got a signal; the same on every process. Collective. */
static mnd_status ask_signal(mnd_members *e, int *number) {
    double most = mnd_signals_pending();
    const mnd_status status = mnd_comm_max_f64(e->comm, &most, 1);
    *number = (int)most;
    return status;
}

/* MND_STOPPED, for the whole ensemble. */
static mnd_status stopped(const mnd_members *e, int number) {
    char name[16];
    mnd_signals_name(number, name);
    return mnd_fail(MND_STOPPED,
                    "stopped by %s; every member that has begun is saved in %s: start again with "
                    "--resume auto to go on",
                    name, e->config->checkpoint_dir);
}

/* Trains all members. Collective. */
static mnd_status train_all(mnd_members *e) {
    mnd_status status = MND_OK;
    const int members = e->config->members;
    for (int next = 0, groups, signal; next < members; next += groups) {
        /* Finished members on their own: who trains would make them wait. */
        const int end = next < e->finished ? e->finished : members;
        groups = mnd_members_groups(e->size, end - next, e->most);
        status = train_round(e, next, groups);
        if (status != MND_OK && status != MND_STOPPED) goto cleanup;
        const bool was_stopped = status == MND_STOPPED;
        MND_TRY(ask_signal(e, &signal));
        if (was_stopped || (signal != 0 && next + groups < members)) return stopped(e, signal);
    }
cleanup:
    return status;
}

/* ------------------------------------------------------------------------------------ afterwards
 */

static void free_members(mnd_members *e, int lock) {
    for (int m = 0; e->part != NULL && m < e->config->members; m++) free(e->part[m]);
    mnd_free(e->part);
    mnd_free(e->order);
    if (lock >= 0) close(lock);
    if (e->metrics_lock >= 0) close(e->metrics_lock);
}

/* The last copy of the metrics, with the line of the ensemble. Rank 0. */
static mnd_status report(mnd_members *e, const mnd_ensemble_result *r) {
    const double figure[] = {r->test_accuracy, r->test_loss, r->val_accuracy, r->val_loss};
    char line[512], text[4][MND_METRICS_NUMBER];
    for (int i = 0; i < 4; i++) mnd_metrics_number(figure[i], text[i]);
    snprintf(line, sizeof line,
             "{\"event\":\"ensemble\",\"members\":%d,\"test_accuracy\":%s,\"test_loss\":%s,"
             "\"val_accuracy\":%s,\"val_loss\":%s,\"test_images\":%lld,\"misread_by_all\":%lld,"
             "\"seconds\":%.6g}",
             e->config->members, text[0], text[1], text[2], text[3], (long long)r->images,
             (long long)r->misread, r->seconds);
    return gather(e, line);
}

mnd_status mnd_train_members(const mnd_train_config *config, mnd_comm *comm,
                             const mnd_train_observer *observer, mnd_member_result *member,
                             mnd_ensemble_result *result) {
    mnd_status status = MND_OK;
    int lock = -1;
    const double begin = mnd_now();
    mnd_members e = {.config = config,
                     .observer = observer,
                     .comm = comm,
                     .metrics_lock = -1,
                     .rank = mnd_comm_rank(comm),
                     .size = mnd_comm_size(comm)};
    mnd_signals_catch();
    MND_TRY(check(config));
    MND_TRY(prepare(&e, &lock));
    MND_TRY(train_all(&e));
    MND_TRY(mnd_members_test(&e, member, result));
    result->seconds = mnd_now() - begin;
    if (e.rank == 0) status = report(&e, result);
    MND_TRY(mnd_comm_agree(comm, status, NULL));
cleanup:
    mnd_watchdog_stop(&e.dog);
    if (e.rank == 0 && status != MND_OK && e.begun) {
        char why[1024];
        snprintf(why, sizeof why, "%s", mnd_error());
        if (gather(&e, NULL) != MND_OK) warn(&e, mnd_error());
        status = mnd_fail(status, "%s", why);
    }
    if (!config->keep_signals || (status != MND_OK && status != MND_STOPPED)) mnd_signals_release();
    free_members(&e, lock);
    return status;
}
