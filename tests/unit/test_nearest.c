/* nearest.c: which word a mistyped one was meant to be. */
#include "test.h"

#include <string.h>

#include "nearest.h"

static const char *const words[] = {"batch-size", "epochs", "exchange",   "lr",
                                    "optimizer",  "seed",   "step-epochs"};

static const char *find(const char *word) {
    nearest n = {.word = word};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) nearest_offer(&n, words[i]);
    return n.best;
}

static void test_edits(void **state) {
    (void)state;
    assert_string_equal(find("epoch"), "epochs");        /* one missing */
    assert_string_equal(find("epocchs"), "epochs");      /* one too many */
    assert_string_equal(find("optimiser"), "optimizer"); /* another letter */
    assert_string_equal(find("sede"), "seed");           /* exchanged letters are one edit */
    assert_string_equal(find("rl"), "lr");
    assert_string_equal(find("step-epoch"), "step-epochs"); /* the nearest, not the first */
}

static void test_spelling(void **state) {
    (void)state;
    assert_string_equal(find("BATCH_SIZE"), "batch-size");
    assert_string_equal(find("Batchsize"), "batch-size");
    assert_string_equal(find("opt"), "optimizer"); /* the beginning */
    assert_string_equal(find("batch"), "batch-size");
}

static void test_nothing_near(void **state) {
    (void)state;
    assert_null(find("telepathy"));
    assert_null(find(""));
    assert_null(find("x"));
    char word[200];
    memset(word, 'a', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    assert_null(find(word));
    nearest n = {.word = "seed"};
    nearest_offer(&n, "");
    nearest_offer(&n, word);
    assert_null(n.best);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edits),
        cmocka_unit_test(test_spelling),
        cmocka_unit_test(test_nothing_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
