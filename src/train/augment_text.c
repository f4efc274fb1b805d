/* augment_text.c - augmentation as text: the value of --augment, and what checkpoints hold. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mnist_dist/augment.h"

enum { N_PART = 6 };

static const struct {
    const char *name;
    size_t offset;
    double largest;
    const char *unit;
} part[N_PART] = {
    {"rotate", offsetof(mnd_augment, rotate), 180.0, " degrees"},
    {"scale", offsetof(mnd_augment, scale), 0.9, ""},
    {"shear", offsetof(mnd_augment, shear), 2.0, ""},
    {"shift", offsetof(mnd_augment, shift), 1000.0, " pixels"},
    {"elastic", offsetof(mnd_augment, elastic), 100.0, " pixels"},
    {"erase", offsetof(mnd_augment, erase), 1000.0, " pixels"},
};

static double *value_of(mnd_augment *how, int i) {
    return (double *)(void *)((char *)how + part[i].offset);
}

static int find_part(const char *name, size_t length) {
    for (int i = 0; i < N_PART; i++)
        if (strlen(part[i].name) == length && strncmp(part[i].name, name, length) == 0) return i;
    return -1;
}

/* One "name:value" of `length` characters; *seen has a bit per part. */
static mnd_status parse_part(const char *text, size_t length, unsigned *seen, mnd_augment *out) {
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)(length < sizeof word ? length : sizeof word - 1),
             text);
    const size_t name = strcspn(word, ":");
    const int i = find_part(word, name);
    if (i < 0)
        return mnd_fail(MND_USAGE,
                        "--augment: '%.*s' is not one of rotate, scale, shear, shift, elastic and "
                        "erase",
                        (int)name, word);
    if (*seen & 1U << i) return mnd_fail(MND_USAGE, "--augment: %s is given twice", part[i].name);
    *seen |= 1U << i;
    const char *digits = word + name + (word[name] == ':');
    char *end;
    const double value = strtod(digits, &end);
    if (length >= sizeof word || end == digits || *end != '\0' ||
        strchr("+- \t\n", *digits) != NULL || !(value >= 0.0 && value <= part[i].largest))
        return mnd_fail(MND_USAGE, "--augment: '%s': give %s:N with N from 0 to %g%s", word,
                        part[i].name, part[i].largest, part[i].unit);
    if (strcmp(part[i].name, "erase") == 0 && value != (double)(int)value)
        return mnd_fail(MND_USAGE, "--augment: '%s': give a whole number of pixels", word);
    *value_of(out, i) = value;
    return MND_OK;
}

mnd_status mnd_augment_parse(const char *text, mnd_augment *out) {
    unsigned seen = 0;
    *out = (mnd_augment){0};
    if (strcmp(text, "none") == 0) return MND_OK;
    for (const char *at = text;; at++) {
        const size_t length = strcspn(at, ",");
        const mnd_status status = parse_part(at, length, &seen, out);
        if (status != MND_OK) return status;
        at += length;
        if (*at == '\0') return MND_OK;
    }
}

void mnd_augment_text(const mnd_augment *how, char out[MND_AUGMENT_TEXT]) {
    mnd_augment copy = *how;
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < N_PART && used < MND_AUGMENT_TEXT; i++)
        if (*value_of(&copy, i) > 0.0)
            used += (size_t)snprintf(out + used, MND_AUGMENT_TEXT - used, "%s%s:%.15g",
                                     used > 0 ? "," : "", part[i].name, *value_of(&copy, i));
}

bool mnd_augment_any(const mnd_augment *how) {
    mnd_augment copy = *how;
    bool any = false;
    for (int i = 0; i < N_PART; i++) any = any || *value_of(&copy, i) > 0.0;
    return any;
}
