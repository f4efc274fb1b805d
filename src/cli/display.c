#include "display.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mnist_dist/kernels.h"
#include "mnist_dist/log.h"
#include "mnist_dist/timer.h"

static void shape_text(const mnd_shape *shape, char *out, size_t size) {
    if (shape->ndim == 1)
        snprintf(out, size, "(None, %d)", shape->dim[0]);
    else
        snprintf(out, size, "(None, %d, %d, %d)", shape->dim[0], shape->dim[1], shape->dim[2]);
}

/* "669,706" */
static const char *grouped(size_t n, char out[32]) {
    char digits[32];
    const int length = snprintf(digits, sizeof digits, "%zu", n);
    char *to = out;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return out;
}

void display_summary(const mnd_model *model) {
    char text[64], number[32];
    printf("%-24s %-24s %12s\n", "Layer", "Output shape", "Parameters");
    printf("--------------------------------------------------------------\n");
    for (int i = 0; i < mnd_model_n_layer(model); i++) {
        const mnd_layer_info l = mnd_model_layer(model, i);
        shape_text(&l.out, text, sizeof text);
        const int indent = 2 * l.depth;
        printf("%*s%-*s %-24s %12s\n", indent, "", indent < 24 ? 24 - indent : 0, l.text, text,
               grouped(l.n_param, number));
    }
    printf("--------------------------------------------------------------\n");
    printf("Total parameters: %s (%.2f MB)\n", grouped(mnd_model_n_param(model), number),
           (double)mnd_model_n_param(model) * 4.0 / 1e6);
    size_t untrained = 0;
    for (int i = 0; i < mnd_model_n_array(model); i++)
        if (!mnd_model_array(model, i).trained) untrained += mnd_model_array(model, i).count;
    if (untrained > 0) printf("Of these not trained: %s\n", grouped(untrained, number));
}

/* Whether the user sees stderr on a terminal. mpirun connects the stderr of its ranks to a pipe, so
 * there the stderr of mpirun itself, the parent process, is tested. */
static bool watched(void) {
    if (isatty(STDERR_FILENO)) return true;
    if (getenv("OMPI_COMM_WORLD_SIZE") == NULL) return false;
    char link[64], target[256];
    snprintf(link, sizeof link, "/proc/%ld/fd/2", (long)getppid());
    const ssize_t n = readlink(link, target, sizeof target - 1);
    if (n <= 0) return false;
    target[n] = '\0';
    return strncmp(target, "/dev/pts/", 9) == 0 || strncmp(target, "/dev/tty", 8) == 0;
}

void display_start(display *d, const char *progress) {
    *d = (display){.live = strcmp(progress, "always") == 0 ||
                           (strcmp(progress, "auto") == 0 && watched())};
}

static void wipe(display *d) {
    if (d->width > 0) fprintf(stderr, "\r%*s\r", d->width, "");
    /* The progress line may be another process'. */
    if (d->live && d->member > 0) fputs("\r\033[K", stderr);
    d->width = 0;
}

/* "member 3  ", or nothing for a single run. */
static const char *prefix(const display *d, char text[32]) {
    text[0] = '\0';
    if (d->member > 0) snprintf(text, 32, "member %d  ", d->member);
    return text;
}

static void show_data(const mnd_train_setup *s) {
    const mnd_train_config *c = s->config;
    display_summary(s->model);
    char validation[64] = "";
    if (s->validation > 0)
        snprintf(validation, sizeof validation, ", %lld validation", (long long)s->validation);
    printf("\nData: %s, %lld training%s and %lld test images of %d x %d", c->data,
           (long long)s->data->count[MND_TRAIN], validation, (long long)s->data->count[MND_TEST],
           s->data->height, s->data->width);
    if (s->data->channels > 1) printf(" x %d", s->data->channels);
    printf(", %d classes\n", s->data->classes);
}

/* What most runs do without. */
static void show_extras(const mnd_train_config *c) {
    if (c->ema > 0.0)
        printf("Averaged weights: decay %g; they are what is evaluated and saved as the model\n",
               c->ema);
    if (c->label_smoothing > 0.0) printf("Label smoothing: %g\n", c->label_smoothing);
    char augment[MND_AUGMENT_TEXT];
    mnd_augment_text(&c->augment, augment);
    if (augment[0] != '\0') printf("Augmentation: %s\n", augment);
}

/* What all members of an ensemble have in common, once; and a line for this one. */
static void show_member(display *d, const mnd_train_setup *s) {
    const mnd_train_config *c = s->config;
    const int processes = mnd_comm_size(s->comm), all = mnd_comm_world_size(s->comm);
    char text[32];
    d->member = c->member;
    wipe(d);
    if (!d->told && mnd_comm_world_rank(s->comm) == 0) {
        show_data(s);
        printf("Ensemble: %d members, trained by %d process%s\n", c->members, all,
               all == 1 ? "" : "es");
        printf("Optimizer: %s, learning rate %g; batch %lld of each member, %lld steps per "
               "epoch\n",
               c->optimizer.ops->name, c->optimizer.lr, (long long)c->batch_size,
               (long long)s->steps_per_epoch);
        show_extras(c);
        printf("\n");
    }
    d->told = true;
    printf("%sseed %llu, %d process%s, %d logical rank%s, exchange %s, %s", prefix(d, text),
           (unsigned long long)c->seed, processes, processes == 1 ? "" : "es", s->logical_ranks,
           s->logical_ranks == 1 ? "" : "s", s->exchange, mnd_products_name(c->plain));
    if (s->resumed_from != NULL)
        printf("; resumed from %s: epoch %lld, step %lld", s->resumed_from,
               (long long)s->resumed_epoch, (long long)s->resumed_step);
    printf("\n");
    fflush(stdout);
}

static void show_setup(void *context, const mnd_train_setup *s) {
    const mnd_train_config *c = s->config;
    if (c->member > 0) {
        show_member(context, s);
        return;
    }
    show_data(s);
    printf("Run: %d process%s on %d host%s, %d thread%s each, %d logical rank%s, exchange %s, %s\n",
           mnd_comm_size(s->comm), mnd_comm_size(s->comm) == 1 ? "" : "es", s->nodes,
           s->nodes == 1 ? "" : "s", s->threads, s->threads == 1 ? "" : "s", s->logical_ranks,
           s->logical_ranks == 1 ? "" : "s", s->exchange, mnd_products_name(c->plain));
    printf("Optimizer: %s, learning rate %g; batch %lld over all processes (%.4g per process), "
           "%lld steps per epoch, seed %llu\n",
           c->optimizer.ops->name, c->optimizer.lr, (long long)c->batch_size,
           (double)c->batch_size / mnd_comm_size(s->comm), (long long)s->steps_per_epoch,
           (unsigned long long)c->seed);
    show_extras(c);
    if (s->resumed_from != NULL)
        printf("Resumed from %s: epoch %lld, step %lld\n", s->resumed_from,
               (long long)s->resumed_epoch, (long long)s->resumed_step);
    else if (c->resume != NULL)
        printf("Nothing to resume in %s: a new run\n", c->checkpoint_dir);
    printf("\n");
    fflush(stdout);
}

static void show_progress(void *context, const mnd_train_progress *p) {
    display *d = context;
    const double now = mnd_now();
    if (!d->live || now - d->shown < 0.1) return;
    d->shown = now;
    enum { BAR = 20 };
    char bar[BAR + 1], line[288], text[32];
    const int full = (int)(p->step * BAR / p->steps);
    for (int i = 0; i < BAR; i++) bar[i] = i < full ? '=' : i == full ? '>' : '.';
    bar[BAR] = '\0';
    const double rate = p->seconds / (double)(p->step > 0 ? p->step : 1);
    const double left = rate * (double)(p->steps - p->step);
    const int n = snprintf(line, sizeof line,
                           "%sEpoch %lld/%lld  %lld/%lld [%s]  loss %.4f  accuracy %.4f  %.0f "
                           "images/s  %d:%02d left",
                           prefix(d, text), (long long)p->epoch, (long long)p->epochs,
                           (long long)p->step, (long long)p->steps, bar, p->loss, p->accuracy,
                           p->images_per_second, (int)left / 60, (int)left % 60);
    fprintf(stderr, "\r%-*s", d->width, line);
    if (n > d->width) d->width = n;
    fflush(stderr);
}

static void show_epoch(void *context, const mnd_train_epoch *e) {
    display *d = context;
    char text[32];
    wipe(d);
    printf("%sEpoch %lld/%lld  loss %.4f  accuracy %.4f  val_loss %.4f  val_accuracy %.4f  %.2f s  "
           "%.0f images/s%s\n",
           prefix(d, text), (long long)e->record.epoch, (long long)e->epochs, e->record.loss,
           e->record.accuracy, e->record.val_loss, e->record.val_accuracy, e->record.seconds,
           e->images_per_second, e->best ? "  best" : "");
    fflush(stdout);
}

static void show_warning(void *context, const char *text) {
    wipe(context);
    mnd_log(MND_LOG_WARNING, "%s", text);
}

mnd_train_observer display_observer(display *d) {
    return (mnd_train_observer){.context = d,
                                .setup = show_setup,
                                .progress = show_progress,
                                .epoch = show_epoch,
                                .warning = show_warning};
}

void display_confusion(const int64_t *confusion, const mnd_dataset_info *info) {
    const int n = info->classes;
    printf("\nConfusion matrix (rows: right, columns: answered)\n%12s", "");
    for (int j = 0; j < n; j++) printf(" %5.5s", info->class_name[j]);
    printf("\n");
    for (int i = 0; i < n; i++) {
        printf("%12.12s", info->class_name[i]);
        for (int j = 0; j < n; j++) printf(" %5lld", (long long)confusion[i * n + j]);
        printf("\n");
    }
    printf("\n%12s %9s %9s %9s\n", "Class", "Precision", "Recall", "Images");
    for (int i = 0; i < n; i++) {
        int64_t answered = 0, images = 0;
        for (int j = 0; j < n; j++) {
            answered += confusion[j * n + i];
            images += confusion[i * n + j];
        }
        const double right = (double)confusion[i * n + i];
        char precision[16] = "-", recall[16] = "-";
        if (answered > 0) snprintf(precision, sizeof precision, "%.4f", right / (double)answered);
        if (images > 0) snprintf(recall, sizeof recall, "%.4f", right / (double)images);
        printf("%12.12s %9s %9s %9lld\n", info->class_name[i], precision, recall,
               (long long)images);
    }
}
