/* signals.h - a signal only sets a flag; the loop polls it at a step's end. */
#ifndef MNIST_DIST_TRAIN_SIGNALS_H
#define MNIST_DIST_TRAIN_SIGNALS_H

/*
 * Catches SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, each unless it was ignored when the program
 * started (nohup; a shell's background job ignores SIGINT); a second SIGINT ends the process at
 * once, code 130.
 * Ignores SIGPIPE (no process reads the output) and SIGXFSZ (ulimit -f): a run is worth more.
 * Does nothing if they are caught already: what came since stays pending.
 */
void mnd_signals_catch(void);
/* Restores what was before. */
void mnd_signals_release(void);
/* As if this signal had come. */
void mnd_signals_note(int signal);
/* The signal that came first, or 0. */
int mnd_signals_pending(void);
/* "SIGTERM"; "a signal" for 0. */
void mnd_signals_name(int signal, char name[16]);

#endif
