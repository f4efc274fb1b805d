#include "signals.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t pending, interrupts;

static const int caught[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
enum { N_CAUGHT = sizeof caught / sizeof caught[0] };
static struct sigaction before[N_CAUGHT];

static void note(int signal) {
    if (signal == SIGINT && interrupts++ > 0) _exit(130);
    if (pending == 0) pending = signal;
}

/* Their default is to end the process without a word; ignored, the write fails and is explained. */
static const int ignored[] = {SIGPIPE, SIGXFSZ};
enum { N_IGNORED = sizeof ignored / sizeof ignored[0] };
static struct sigaction before_ignored[N_IGNORED];

void mnd_signals_catch(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = note;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    pending = 0;
    interrupts = 0;
    for (int i = 0; i < N_CAUGHT; i++) sigaction(caught[i], &action, &before[i]);
    action.sa_handler = SIG_IGN;
    for (int i = 0; i < N_IGNORED; i++) sigaction(ignored[i], &action, &before_ignored[i]);
}

void mnd_signals_release(void) {
    for (int i = 0; i < N_CAUGHT; i++) sigaction(caught[i], &before[i], NULL);
    for (int i = 0; i < N_IGNORED; i++) sigaction(ignored[i], &before_ignored[i], NULL);
}

int mnd_signals_pending(void) { return pending; }
