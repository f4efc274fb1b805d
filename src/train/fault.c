#include "fault.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

mnd_status mnd_fault_read(int rank, mnd_fault *out) {
    static const char *const names[] = {"", "nan", "flip", "hang", "stop", "kill"};
    *out = (mnd_fault){.kind = MND_FAULT_NONE};
    const char *text = getenv("MNIST_DIST_FAULT");
    if (text == NULL || text[0] == '\0') return MND_OK;
    char name[8];
    int who = 0, used = 0;
    long long step = 0;
    if (sscanf(text, "%7[a-z]:%d:%lld%n", name, &who, &step, &used) == 3 && text[used] == '\0')
        for (int kind = MND_FAULT_NAN; kind <= MND_FAULT_KILL; kind++) {
            if (strcmp(names[kind], name) != 0) continue;
            if (who == rank) *out = (mnd_fault){.kind = (mnd_fault_kind)kind, .step = step};
            return MND_OK;
        }
    return mnd_fail(MND_USAGE, "MNIST_DIST_FAULT: '%s' is not nan|flip|hang|stop|kill:RANK:STEP",
                    text);
}

void mnd_fault_strike(const mnd_fault *fault, int64_t step, float *grad, size_t n_param,
                      double *loss) {
    if (fault->kind == MND_FAULT_NONE || fault->step != step) return;
    switch (fault->kind) {
    case MND_FAULT_NONE:
    case MND_FAULT_FLIP: return;
    case MND_FAULT_NAN:
        for (size_t i = 0; i < n_param; i++) grad[i] = NAN;
        loss[0] = (double)NAN;
        return;
    case MND_FAULT_HANG:
        for (;;) pause();
    case MND_FAULT_STOP: (void)raise(SIGSTOP); return;
    case MND_FAULT_KILL: (void)raise(SIGKILL); return;
    }
}

void mnd_fault_flip(const mnd_fault *fault, int64_t step, float *param) {
    uint32_t bits;
    if (fault->kind != MND_FAULT_FLIP || fault->step != step) return;
    memcpy(&bits, param, sizeof bits);
    bits ^= 1U;
    memcpy(param, &bits, sizeof bits);
}
