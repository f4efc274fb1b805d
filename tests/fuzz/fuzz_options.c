/* Command lines: any words give values within the table's limits, or one line of explanation. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

enum { MAX_WORDS = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    static FILE *null;
    if (null == NULL) {
        null = freopen("/dev/null", "w", stdout); /* --help */
        if (null == NULL) abort();
    }
    bool flag = false;
    int64_t whole = 3;
    double real = 0.5;
    const char *text = "default", *choice = "auto";
    const option_row row[] = {
        {"o,output", OPTION_TEXT, &text, "FILE", 0, 0, "a file"},
        {"v,verbose", OPTION_FLAG, &flag, NULL, 0, 0, "a flag"},
        {"batch-size", OPTION_INT, &whole, "N", 1, 1000, "a whole number"},
        {"lr", OPTION_REAL, &real, "X", 0, 1, "a real number"},
        {"exchange", OPTION_CHOICE, &choice, "auto|shared|local", 0, 0, "one of three"},
    };
    const command_usage usage = {"fuzz", "[A [B]]", "Takes what comes.", 0, 2};
    /* Lines are words; every one of its own size, so that a sanitizer sees a step beyond it. */
    char *word[MAX_WORDS + 1] = {NULL}, *argv[MAX_WORDS + 1];
    int words = 0;
    word[words++] = strdup("fuzz");
    while (n > 0 && words < MAX_WORDS) {
        const uint8_t *end = memchr(bytes, '\n', n);
        const size_t length = end == NULL ? n : (size_t)(end - bytes);
        /* Not strndup: clang 14's sanitizer has it look at the byte behind the last. */
        char *copy = malloc(length + 1);
        if (copy == NULL) abort();
        memcpy(copy, bytes, length);
        copy[length] = '\0';
        word[words++] = copy;
        bytes += length + (end != NULL);
        n -= length + (end != NULL);
    }
    memcpy(argv, word, sizeof word);
    command_line line;
    const mnd_status status = options_parse(&usage, row, OPTION_COUNT(row), words, argv, &line);
    if (status == MND_OK && !line.helped) {
        if (whole < 1 || whole > 1000 || !(real >= 0 && real <= 1)) abort();
        if (text[0] == '\0' || line.n_argument < 0 || line.n_argument > 2) abort();
        if (strcmp(choice, "auto") != 0 && strcmp(choice, "shared") != 0 &&
            strcmp(choice, "local") != 0)
            abort();
        for (int i = 0; i < line.n_argument; i++)
            if (line.argument[i] == NULL) abort();
    } else if (status != MND_OK && (status != MND_USAGE || strlen(mnd_error()) == 0)) {
        abort();
    }
    for (int i = 0; i < words; i++) free(word[i]);
    return 0;
}
