/* sha256.h - SHA-256 (FIPS 180-4), from OpenSSL's libcrypto. */
#ifndef MNIST_DIST_SHA256_H
#define MNIST_DIST_SHA256_H

#include <stddef.h>

#include "mnist_dist/status.h"

#define MND_SHA256_HEX 65 /* 64 lower-case hexadecimal digits and the terminating zero */

typedef struct mnd_sha256 mnd_sha256; /* opaque */

MND_CHECKED mnd_status mnd_sha256_create(mnd_sha256 **out);
/* Returns no status: an error inside OpenSSL is reported by mnd_sha256_finish. */
void mnd_sha256_update(mnd_sha256 *hash, const void *data, size_t bytes);
/* Writes the digest and resets the object for the next message. */
MND_CHECKED mnd_status mnd_sha256_finish(mnd_sha256 *hash, char hex[MND_SHA256_HEX]);
void mnd_sha256_destroy(mnd_sha256 **hash);

/* The digest of a buffer, and of a file, which is read in blocks. */
MND_CHECKED mnd_status mnd_sha256_buffer(const void *data, size_t bytes, char hex[MND_SHA256_HEX]);
MND_CHECKED mnd_status mnd_sha256_file(const char *path, char hex[MND_SHA256_HEX]);

#endif
