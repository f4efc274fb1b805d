#include "mnist_dist/sha256.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mnd_sha256 {
    EVP_MD_CTX *context; /* owned */
    int good;            /* all OpenSSL calls so far have succeeded */
};

mnd_status mnd_sha256_create(mnd_sha256 **out) {
    *out = NULL;
    mnd_sha256 *hash = calloc(1, sizeof *hash);
    if (hash == NULL) return mnd_fail(MND_NO_MEMORY, "SHA-256: no memory");
    hash->context = EVP_MD_CTX_new();
    hash->good = hash->context != NULL && EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) == 1;
    if (!hash->good) {
        mnd_sha256_destroy(&hash);
        return mnd_fail(MND_INTERNAL, "SHA-256: OpenSSL does not provide it");
    }
    *out = hash;
    return MND_OK;
}

void mnd_sha256_update(mnd_sha256 *hash, const void *data, size_t bytes) {
    hash->good = hash->good && EVP_DigestUpdate(hash->context, data, bytes) == 1;
}

mnd_status mnd_sha256_finish(mnd_sha256 *hash, char hex[MND_SHA256_HEX]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    hash->good = hash->good && EVP_DigestFinal_ex(hash->context, digest, &n) == 1 && n == 32;
    if (!hash->good) return mnd_fail(MND_INTERNAL, "SHA-256: OpenSSL failed");
    for (unsigned int i = 0; i < n; i++) snprintf(hex + 2 * (size_t)i, 3, "%02x", digest[i]);
    hash->good = EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) == 1;
    return MND_OK;
}

void mnd_sha256_destroy(mnd_sha256 **hash) {
    if (*hash == NULL) return;
    EVP_MD_CTX_free((*hash)->context);
    free(*hash);
    *hash = NULL;
}

mnd_status mnd_sha256_buffer(const void *data, size_t bytes, char hex[MND_SHA256_HEX]) {
    mnd_sha256 *hash = NULL;
    mnd_status status = mnd_sha256_create(&hash);
    if (status != MND_OK) return status;
    mnd_sha256_update(hash, data, bytes);
    status = mnd_sha256_finish(hash, hex);
    mnd_sha256_destroy(&hash);
    return status;
}

mnd_status mnd_sha256_file(const char *path, char hex[MND_SHA256_HEX]) {
    mnd_status status = MND_OK;
    mnd_sha256 *hash = NULL;
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        MND_FAIL(errno == ENOENT ? MND_NOT_FOUND : MND_IO, "%s: %s", path, strerror(errno));
    MND_TRY(mnd_sha256_create(&hash));
    unsigned char buffer[1 << 16];
    size_t n;
    while ((n = fread(buffer, 1, sizeof buffer, f)) > 0) mnd_sha256_update(hash, buffer, n);
    if (ferror(f)) MND_FAIL(MND_IO, "%s: cannot read: %s", path, strerror(errno));
    MND_TRY(mnd_sha256_finish(hash, hex));
cleanup:
    if (f != NULL) fclose(f);
    mnd_sha256_destroy(&hash);
    return status;
}
