/* convert_lzf.h - HDF5's filter for data that h5py has compressed with "lzf". Private to src/io. */
#ifndef MNIST_DIST_IO_CONVERT_LZF_H
#define MNIST_DIST_IO_CONVERT_LZF_H

/* Makes HDF5 read such data. May be called again. */
void mnd_lzf_register(void);

#endif
