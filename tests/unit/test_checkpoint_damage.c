/*
 * src/io/checkpoint*.c: damage to a checkpoint is always found, and content behind a checksum that
 * was made to fit is never taken for another content.
 */
#include "test.h"

#include <signal.h>
#include <sys/wait.h>

#include "checkpoint_sample.h"
#include "mnist_dist/rng.h"

static int64_t mutations(int64_t normal, int64_t long_form) {
    const char *count = getenv("MND_MUTATIONS"), *is_long = getenv("MND_LONG");
    if (getenv("MND_VALGRIND") != NULL) normal /= 10;
    if (count != NULL && atoll(count) > 0) return atoll(count);
    return is_long != NULL && strcmp(is_long, "1") == 0 ? long_form : normal;
}

/* True if the file is refused as it should be, or holds exactly the sample's content. */
static bool harmless(const char *path, const sample *original, int64_t *accepted) {
    mnd_checkpoint back;
    const mnd_status status = mnd_checkpoint_read(path, &back);
    if (status != MND_OK) return status == MND_FORMAT && strstr(mnd_error(), path) != NULL;
    const bool same = same_content(&original->ckpt, &back);
    mnd_checkpoint_free(&back);
    ++*accepted;
    return same;
}

static size_t below(mnd_rng *rng, size_t n) { return mnd_rng_below(rng, (uint32_t)n); }

/* Damages the file in one of several ways. Returns the new size, at most 2 * size. */
static size_t mutate(mnd_rng *rng, unsigned char *bytes, size_t size) {
    const size_t at = below(rng, size);
    size_t n;
    switch (below(rng, 8)) {
    case 0: /* one bit */ bytes[at] ^= (unsigned char)(1u << below(rng, 8)); break;
    case 1: /* one bit of the block or of HDF5's first structures */
        bytes[below(rng, 2048)] ^= (unsigned char)(1u << below(rng, 8));
        break;
    case 2: /* some bytes */
        for (n = 1 + below(rng, 16); n > 0; n--)
            bytes[below(rng, size)] = (unsigned char)below(rng, 256);
        break;
    case 3: /* a sector that was never written */
        n = at / 512 * 512;
        memset(bytes + n, 0, size - n < 512 ? size - n : 512);
        break;
    case 4: /* the content of another sector */
        n = below(rng, size) / 512 * 512;
        if (size - at >= 512 && size - n >= 512) memmove(bytes + n, bytes + at, 512);
        break;
    case 5: /* the end is missing */ return at;
    case 6: /* something follows */
        n = 1 + below(rng, 1024);
        memset(bytes + size, 0, n);
        return size + n;
    default: /* a size or address field with extreme values */
        memset(bytes + (at & ~(size_t)7), below(rng, 2) ? 0xff : 0x7f,
               size - (at & ~(size_t)7) < 8 ? 1 : 8);
        break;
    }
    return size;
}

static void damage_is_found(void **state) {
    (void)state;
    static sample s;
    size_t size;
    int64_t accepted = 0;
    make_sample(&s, 1);
    write_step(1, 0);
    unsigned char *original = slurp(in_folder("ckpt-00000001.h5"), &size);
    unsigned char *mutant = malloc(2 * size);
    assert_non_null(mutant);
    const char *path = in_folder("mutant");
    mnd_rng rng;
    mnd_rng_start(&rng, 2026, MND_RNG_TEST, 0, 0);
    const int64_t n = mutations(500, 100000);
    for (int64_t i = 0; i < n; i++) {
        memcpy(mutant, original, size);
        const size_t now = mutate(&rng, mutant, size);
        const bool changed = now != size || memcmp(mutant, original, size) != 0;
        const int64_t before = accepted;
        spill(path, mutant, now);
        if (!harmless(path, &s, &accepted)) fail_msg("mutant %" PRId64 ": %s", i, mnd_error());
        if (changed && accepted != before) fail_msg("mutant %" PRId64 " was accepted", i);
    }
    /* Truncated to every length in the block and in HDF5's first structures, then to multiples of
     * eight bytes, at which structures begin: all of them in the long form of the test. */
    const size_t stride = mutations(0, 1) == 0 ? 8 * 13 : 8;
    for (size_t now = 0; now < size; now += now < 1100 ? 1 : stride) {
        spill(path, original, now);
        if (!harmless(path, &s, &accepted)) fail_msg("%zu bytes: %s", now, mnd_error());
    }
    /* Every bit of the block. */
    for (size_t bit = 0; bit < 8 * 512; bit++) {
        memcpy(mutant, original, size);
        mutant[bit / 8] ^= (unsigned char)(1u << bit % 8);
        spill(path, mutant, size);
        const int64_t before = accepted;
        if (!harmless(path, &s, &accepted) || accepted != before) fail_msg("bit %zu", bit);
    }
    spill(path, original, size);
    accepted = 0;
    assert_true(harmless(path, &s, &accepted));
    assert_int_equal(accepted, 1);
    free(original);
    free(mutant);
}

/* Gives a damaged file a valid block, as an attacker could. */
static void seal(unsigned char *bytes, size_t size) {
    char digest[MND_SHA256_HEX];
    assert_int_equal(mnd_sha256_buffer(bytes + 512, size - 512, digest), MND_OK);
    memset(bytes, 0, 512);
    snprintf((char *)bytes, 512, "mnist_dist checkpoint 1\nbytes %zu\nsha256 %s\n", size, digest);
}

/*
 * The checksums inside the HDF5 file: when the block's checksum was made to fit the damage, the
 * file is refused or gives the original content, but never another content. HDF5 may crash or hang
 * on such input, which the block's checksum normally keeps from it. Each file is therefore read by
 * a child process with a time limit, and only wrong content is a failure.
 */
static void forged_content_is_not_taken(void **state) {
    (void)state;
    if (getenv("MND_VALGRIND") != NULL) skip(); /* valgrind would report errors inside HDF5 */
    enum { REFUSED = 20, SAME, WRONG };         /* exit codes that no sanitizer uses */
    static sample s;
    size_t size;
    make_sample(&s, 1);
    write_step(1, 0);
    unsigned char *original = slurp(in_folder("ckpt-00000001.h5"), &size);
    unsigned char *mutant = malloc(2 * size);
    assert_non_null(mutant);
    const char *path = in_folder("mutant");
    const int64_t n = mutations(300, 20000);
    int64_t refused = 0, accepted = 0, died = 0;
    for (int64_t i = 0; i < n; i++) {
        mnd_rng rng;
        mnd_rng_start(&rng, 2027, MND_RNG_TEST, (uint32_t)i, 0);
        memcpy(mutant, original, size);
        size_t now = mutate(&rng, mutant, size);
        if (now <= 512) now = 513;
        seal(mutant, now);
        spill(path, mutant, now);
        fflush(NULL);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            signal(SIGSEGV, SIG_DFL); /* cmocka's handlers would continue with the next test */
            signal(SIGABRT, SIG_DFL);
            signal(SIGFPE, SIG_DFL);
            signal(SIGBUS, SIG_DFL);
            if (freopen("/dev/null", "w", stderr) == NULL)
                _exit(1); /* hides the sanitizers' reports */
            alarm(10);
            int64_t taken = 0;
            const bool good = harmless(path, &s, &taken);
            _exit(!good ? WRONG : taken > 0 ? SAME : REFUSED);
        }
        int code = -1;
        assert_int_equal(waitpid(child, &code, 0), child);
        code = WIFEXITED(code) ? WEXITSTATUS(code) : -1;
        if (code == WRONG) fail_msg("forged mutant %" PRId64 " was taken for another content", i);
        refused += code == REFUSED;
        accepted += code == SAME;
        died += code != REFUSED && code != SAME;
    }
    print_message("forged: %" PRId64 " refused, %" PRId64 " with the same content, %" PRId64
                  " killed HDF5\n",
                  refused, accepted, died);
    assert_true(refused > n / 2);
    free(original);
    free(mutant);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(damage_is_found),
        IN_FOLDER(forged_content_is_not_taken),
    };
    return cmocka_run_group_tests_name("checkpoint_damage", tests, NULL, NULL);
}
