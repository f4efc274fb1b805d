/*
 * status.h - how all functions of the libraries report errors.
 *
 * A function that can fail returns mnd_status and stores one line of explanation, which the caller
 * reads with mnd_error(). The libraries never print and never exit; the program does.
 */
#ifndef MNIST_DIST_STATUS_H
#define MNIST_DIST_STATUS_H

/* Name and meaning, in the order of severity: mnd_comm_agree() returns the most severe one. */
#define MND_STATUS_TABLE(X)                                                                        \
    X(OK, "success")                                                                               \
    X(NOT_FOUND, "no such file or entry")                                                          \
    X(STOPPED, "stopped by a signal")                                                              \
    X(USAGE, "wrong usage")                                                                        \
    X(RANGE, "value out of range")                                                                 \
    X(FORMAT, "malformed or damaged data")                                                         \
    X(IO, "input or output failed")                                                                \
    X(NUMERIC, "the computation produced NaN or infinity")                                         \
    X(MISMATCH, "values that must be equal differ")                                                \
    X(UNSUPPORTED, "not supported")                                                                \
    X(NO_MEMORY, "out of memory")                                                                  \
    X(COMM, "communication failed")                                                                \
    X(INTERNAL, "internal error")

typedef enum mnd_status {
#define MND_STATUS_ENUM(name, text) MND_##name,
    MND_STATUS_TABLE(MND_STATUS_ENUM)
#undef MND_STATUS_ENUM
} mnd_status;

#define MND_CHECKED __attribute__((warn_unused_result))
#define MND_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Evaluates expr into `status`; on failure jumps to the function's cleanup label. */
#define MND_TRY(expr)                                                                              \
    do {                                                                                           \
        status = (expr);                                                                           \
        if (status != MND_OK) goto cleanup;                                                        \
    } while (0)

/* Stores an error line, sets `status` to code and jumps to cleanup. */
#define MND_FAIL(code, ...)                                                                        \
    do {                                                                                           \
        status = mnd_fail((code), __VA_ARGS__);                                                    \
        goto cleanup;                                                                              \
    } while (0)

/* "FORMAT" for MND_FORMAT; never NULL. */
const char *mnd_status_name(mnd_status status);
/* "malformed or damaged data" for MND_FORMAT; never NULL. */
const char *mnd_status_text(mnd_status status);

/*
 * Stores one line (without a newline, cut at 1023 bytes) as this thread's last error and returns
 * `status`, so that a function can end with `return mnd_fail(MND_IO, "cannot open %s: %s", ...)`.
 * The line says what is wrong and, if possible, what the user can do.
 */
mnd_status mnd_fail(mnd_status status, const char *format, ...) MND_PRINTF(2, 3);
#ifdef __clang_analyzer__
/* The analyzer does not see the definition: this tells it that the argument is returned. */
#define mnd_fail(status, ...) ((void)(mnd_fail)((status), __VA_ARGS__), (status))
#endif

/* This thread's last error line; "" when there was none. Valid until the next mnd_fail(). */
const char *mnd_error(void);

#endif
