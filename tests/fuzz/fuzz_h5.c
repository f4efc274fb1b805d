/*
 * The look at an HDF5 file's oldest structures (src/io/h5_check.c): whatever the bytes, it ends,
 * and says either nothing or one line. HDF5 itself is not called: it is not built for a fuzzer, and
 * tests/unit/test_dataset.c mutates whole files.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "h5.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    static int fd = -1;
    if (fd < 0) fd = memfd_create("h5", 0);
    if (fd < 0 || ftruncate(fd, (off_t)n) != 0 || pwrite(fd, bytes, n, 0) != (ssize_t)n) abort();
    const mnd_status status = mnd_h5_check("file", fd, (int64_t)n);
    if (status != MND_OK && status != MND_FORMAT) abort();
    if (status != MND_OK && (strncmp(mnd_error(), "file: ", 6) != 0)) abort();
    return 0;
}
