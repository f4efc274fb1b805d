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

void mnd_signals_catch(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = note;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    pending = 0;
    interrupts = 0;
    for (int i = 0; i < N_CAUGHT; i++) sigaction(caught[i], &action, &before[i]);
}

void mnd_signals_release(void) {
    for (int i = 0; i < N_CAUGHT; i++) sigaction(caught[i], &before[i], NULL);
}

int mnd_signals_pending(void) { return pending; }
