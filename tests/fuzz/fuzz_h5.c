/*
 * mnd_h5_check (src/io/h5_check.c) on any bytes: it ends, and gives MND_OK or one error line. HDF5
 * itself is not called, because it may crash on such input; tests/unit/test_dataset_damage.c passes
 * damaged files through HDF5.
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
