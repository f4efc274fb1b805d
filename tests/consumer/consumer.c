/* consumer.c - what another project does with the installed library. */
#include <stdio.h>

#include <mnist_dist/sha256.h>

int main(void) {
    char hex[MND_SHA256_HEX];
    if (mnd_sha256_buffer("abc", 3, hex) != MND_OK) {
        fprintf(stderr, "%s\n", mnd_error());
        return 1;
    }
    printf("%s\n", hex);
    return 0;
}
