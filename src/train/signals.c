#include "signals.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t pending, interrupts;
static bool caught;

static void note(int signal) {
    if (signal == SIGINT && interrupts++ > 0) _exit(130);
    if (pending == 0) pending = signal;
}

/*
 * HUP: the terminal or the connection is gone. PIPE and XFSZ would end the process without a word;
 * ignored, the write fails and is explained.
 */
static struct {
    int number;
    void (*handler)(int);
    struct sigaction before;
} action[] = {
    {.number = SIGTERM, .handler = note},    {.number = SIGINT, .handler = note},
    {.number = SIGHUP, .handler = note},     {.number = SIGUSR1, .handler = note},
    {.number = SIGUSR2, .handler = note},    {.number = SIGPIPE, .handler = SIG_IGN},
    {.number = SIGXFSZ, .handler = SIG_IGN},
};
enum { N_ACTIONS = sizeof action / sizeof action[0] };

void mnd_signals_catch(void) {
    if (caught) return;
    caught = true;
    pending = 0;
    interrupts = 0;
    for (int i = 0; i < N_ACTIONS; i++) {
        struct sigaction mine;
        memset(&mine, 0, sizeof mine);
        mine.sa_handler = action[i].handler;
        mine.sa_flags = SA_RESTART;
        sigemptyset(&mine.sa_mask);
        /* What nohup or the shell made this process ignore is not meant for it. */
        if (sigaction(action[i].number, NULL, &action[i].before) == 0 &&
            action[i].before.sa_handler != SIG_IGN)
            (void)sigaction(action[i].number, &mine, NULL);
    }
}

void mnd_signals_note(int signal) {
    if (pending == 0) pending = signal;
}

void mnd_signals_release(void) {
    if (!caught) return;
    caught = false;
    for (int i = 0; i < N_ACTIONS; i++)
        if (action[i].before.sa_handler != SIG_IGN)
            (void)sigaction(action[i].number, &action[i].before, NULL);
}

int mnd_signals_pending(void) { return pending; }

void mnd_signals_name(int signal, char name[16]) {
    if (signal == 0)
        snprintf(name, 16, "a signal");
    else
        snprintf(name, 16, "SIG%s", sigabbrev_np(signal));
}
