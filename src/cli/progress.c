#include "progress.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "mnist_dist/dataset.h"
#include "mnist_dist/timer.h"

static void remove_and_end(int number) {
    mnd_dataset_writer_unlink();
    /* SA_RESETHAND has restored the default action: the parent sees that this signal ended us. */
    (void)raise(number);
}

void progress_start(progress *p, const char *verb) {
    static const int end[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof end / sizeof end[0]; i++) {
        struct sigaction action = {.sa_handler = remove_and_end, .sa_flags = (int)SA_RESETHAND};
        struct sigaction before;
        sigemptyset(&action.sa_mask);
        /* A signal that is ignored, by nohup for instance, stays ignored. */
        if (sigaction(end[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            (void)sigaction(end[i], &action, NULL);
    }
    (void)signal(SIGXFSZ, SIG_IGN);
    *p = (progress){.verb = verb, .start = mnd_now(), .terminal = isatty(STDERR_FILENO) == 1};
}

void progress_show(void *context, int64_t done, int64_t total) {
    progress *p = context;
    const double now = mnd_now();
    if (!p->terminal || (now - p->shown < 0.1 && done < total)) return;
    p->shown = now;
    const double seconds = now - p->start;
    const double left = done > 0 ? seconds * (double)(total - done) / (double)done : 0;
    fprintf(stderr, "\r%s %lld of %lld images, %3.0f %%, %.0f s left \033[K", p->verb,
            (long long)done, (long long)total, 100.0 * (double)done / (double)total, left);
    fflush(stderr);
}

double progress_end(progress *p) {
    if (p->terminal) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    return mnd_now() - p->start;
}
