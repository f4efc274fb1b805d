/* convert_lzf.c - HDF5's filter for data that h5py has compressed with "lzf". */
#include "convert_lzf.h"

#include <errno.h>
#include <hdf5.h>
#include <lzf.h>
#include <stdlib.h>

enum { LZF = 32000 /* registered with The HDF Group */, MAX_CHUNK = 1 << 30 };

/*
 * Uncompresses *buffer, of which `bytes` are used, into a new one. values[2] is the size of a
 * chunk, which h5py stores there. Returns the bytes of the result, 0 for damaged data.
 */
static size_t uncompress(unsigned flags, size_t n_value, const unsigned values[], size_t bytes,
                         size_t *capacity, void **buffer) {
    if ((flags & H5Z_FLAG_REVERSE) == 0) return 0; /* nothing is written */
    size_t size = n_value >= 3 && values[2] != 0 ? values[2] : *capacity;
    for (; size > 0 && size <= MAX_CHUNK; size *= 2) {
        void *out = malloc(size);
        if (out == NULL) return 0;
        const unsigned got = lzf_decompress(*buffer, (unsigned)bytes, out, (unsigned)size);
        if (got > 0) {
            free(*buffer);
            *buffer = out;
            *capacity = size;
            return got;
        }
        free(out);
        if (errno != E2BIG) return 0;
    }
    return 0;
}

void mnd_lzf_register(void) {
    static const H5Z_class2_t filter = {.version = H5Z_CLASS_T_VERS,
                                        .id = LZF,
                                        .encoder_present = 0,
                                        .decoder_present = 1,
                                        .name = "lzf",
                                        .filter = uncompress};
    (void)H5Zregister(&filter);
}
