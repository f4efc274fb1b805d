/* src/base: known answers of the generator and the hash, and what the headers promise. */
#include "test.h"

#include <stdint.h>
#include <string.h>

#include "mnist_dist/memory.h"
#include "mnist_dist/rng.h"
#include "mnist_dist/sha256.h"
#include "mnist_dist/status.h"
#include "mnist_dist/timer.h"

static void philox_known_answers(void **state) {
    (void)state;
    /* From the file kat_vectors of Random123, philox4x32 with 10 rounds. */
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint32_t out[4];
        mnd_philox(known[i].counter, known[i].key, out);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

static void streams_differ_and_repeat(void **state) {
    (void)state;
    mnd_rng a, b, c;
    mnd_rng_start(&a, 7, MND_RNG_TEST, 1, 2);
    mnd_rng_start(&b, 7, MND_RNG_TEST, 1, 2);
    mnd_rng_start(&c, 7, MND_RNG_TEST, 1, 3);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        const uint32_t x = mnd_rng_u32(&a);
        assert_int_equal(x, mnd_rng_u32(&b));
        same += x == mnd_rng_u32(&c);
    }
    assert_true(same < 3);
}

static void distributions(void **state) {
    (void)state;
    enum { N = 200000 };
    mnd_rng rng;
    mnd_rng_start(&rng, 1, MND_RNG_TEST, 0, 0);
    double mean = 0, square = 0, normal = 0, normal2 = 0;
    int bucket[7] = {0};
    for (int i = 0; i < N; i++) {
        const double u = (double)mnd_rng_uniform(&rng);
        assert_true(u >= 0.0 && u < 1.0);
        mean += u / N;
        square += u * u / N;
        const double z = (double)mnd_rng_normal(&rng);
        normal += z / N;
        normal2 += z * z / N;
        bucket[mnd_rng_below(&rng, 7)]++;
    }
    assert_true(mean > 0.497 && mean < 0.503 && square > 0.330 && square < 0.337);
    assert_true(normal > -0.01 && normal < 0.01 && normal2 > 0.98 && normal2 < 1.02);
    for (int i = 0; i < 7; i++) assert_in_range(bucket[i], N / 7 - 700, N / 7 + 700);
}

static void permutation_is_one(void **state) {
    (void)state;
    enum { N = 1000 };
    uint32_t order[N];
    unsigned char seen[N] = {0};
    mnd_rng rng;
    mnd_rng_start(&rng, 3, MND_RNG_TEST, 0, 0);
    mnd_rng_permutation(&rng, N, order);
    int fixed = 0;
    for (uint32_t i = 0; i < N; i++) {
        assert_true(order[i] < N && !seen[order[i]]);
        seen[order[i]] = 1;
        fixed += order[i] == i;
    }
    assert_true(fixed < 10);
}

static void sha256_known_answers(void **state) {
    (void)state;
    char hex[MND_SHA256_HEX];
    assert_int_equal(mnd_sha256_buffer("", 0, hex), MND_OK);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_int_equal(mnd_sha256_buffer("abc", 3, hex), MND_OK);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(mnd_sha256_file("/nonexistent/file", hex), MND_NOT_FOUND);
    assert_non_null(strstr(mnd_error(), "/nonexistent/file"));
}

static void errors_are_kept(void **state) {
    (void)state;
    assert_int_equal(mnd_fail(MND_RANGE, "first %d\nline", 1), MND_RANGE);
    assert_string_equal(mnd_error(), "first 1 line");
    assert_int_equal(mnd_fail(MND_IO, "outer: %s", mnd_error()), MND_IO);
    assert_string_equal(mnd_error(), "outer: first 1 line");
    assert_string_equal(mnd_status_name(MND_FORMAT), "FORMAT");
}

static void memory_is_aligned_zeroed_and_checked(void **state) {
    (void)state;
    void *p;
    assert_int_equal(mnd_alloc(&p, SIZE_MAX / 2, 4, "huge"), MND_NO_MEMORY);
    assert_null(p);
    assert_int_equal(mnd_alloc(&p, 3, 5, "small"), MND_OK);
    assert_int_equal((uintptr_t)p % MND_ALIGN, 0);
    for (int i = 0; i < 15; i++) assert_int_equal(((unsigned char *)p)[i], 0);
    mnd_free(p);
    mnd_arena arena;
    assert_int_equal(mnd_arena_create(&arena, 200, "arena"), MND_OK);
    assert_non_null(mnd_arena_take(&arena, 100));
    unsigned char *second = mnd_arena_take(&arena, 100);
    assert_non_null(second);
    assert_int_equal((uintptr_t)second % MND_ALIGN, 0);
    assert_null(mnd_arena_take(&arena, 1));
    mnd_arena_destroy(&arena);
}

static void time_goes_on(void **state) {
    (void)state;
    const double a = mnd_now();
    assert_true(mnd_now() >= a);
    const double age = mnd_process_age();
    assert_true(age >= 0.0 && age < 600.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(streams_differ_and_repeat),
        cmocka_unit_test(distributions),
        cmocka_unit_test(permutation_is_one),
        cmocka_unit_test(sha256_known_answers),
        cmocka_unit_test(errors_are_kept),
        cmocka_unit_test(memory_is_aligned_zeroed_and_checked),
        cmocka_unit_test(time_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
