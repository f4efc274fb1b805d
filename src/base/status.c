#include "mnist_dist/status.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char last_error[1024];

const char *mnd_status_name(mnd_status status) {
    switch (status) {
#define MND_STATUS_NAME(name, text)                                                                \
    case MND_##name: return #name;
        MND_STATUS_TABLE(MND_STATUS_NAME)
#undef MND_STATUS_NAME
    }
    return "UNKNOWN";
}

const char *mnd_status_text(mnd_status status) {
    switch (status) {
#define MND_STATUS_TEXT(name, text)                                                                \
    case MND_##name: return text;
        MND_STATUS_TABLE(MND_STATUS_TEXT)
#undef MND_STATUS_TEXT
    }
    return "unknown status";
}

mnd_status(mnd_fail)(mnd_status status, const char *format, ...) {
    /* Formatted into a second buffer first, because an argument may be mnd_error() itself. */
    char line[sizeof last_error];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    size_t n = 0;
    for (; line[n] != '\0'; n++) last_error[n] = line[n] == '\n' ? ' ' : line[n];
    last_error[n] = '\0';
    return status;
}

const char *mnd_error(void) { return last_error; }
