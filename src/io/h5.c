#include "h5.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LONGEST_STRING = 1 << 12 };

/*
 * Stops HDF5 from printing its error stack, whose reason goes into the error line of this program
 * instead, and from cleaning up at exit: if a file could not be closed (full disk), the clean-up of
 * HDF5 1.10 crashes. Must be called before any other HDF5 function.
 */
static void silence(void) {
    (void)H5dont_atexit();
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* For H5Ewalk2: copies the description of the innermost error, which comes first. */
static herr_t keep_first(unsigned n, const H5E_error2_t *entry, void *context) {
    if (n == 0 && entry->desc != NULL) snprintf(context, 512, "%s", entry->desc);
    return 0;
}

/*
 * The description of the last error by the innermost function of HDF5; for errors of the operating
 * system only the text of errno. Returns whether it was such an error.
 */
static bool reason(char out[512]) {
    out[0] = '\0';
    (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, out);
    const char *code = strstr(out, "errno = ");
    const bool by_system = code != NULL && atoi(code + 8) > 0;
    if (by_system) snprintf(out, 512, "%s", strerror(atoi(code + 8)));
    if (out[0] == '\0') snprintf(out, 512, "HDF5 gives no reason");
    return by_system;
}

mnd_status mnd_h5_fail(const char *path, const char *what) {
    char why[512];
    (void)reason(why);
    return mnd_fail(MND_IO, "%s: cannot %s: %s", path, what, why);
}

/*
 * Without file locking, which network file systems often lack and which is not needed: a file is
 * complete before any process reads it.
 */
static hid_t access_list(void) {
    const hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    if (fapl < 0) return fapl;
    int bad = H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) < 0;
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0))
    bad |= H5Pset_file_locking(fapl, false, true) < 0;
#else
    bad |= setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0) != 0;
#endif
    if (!bad) return fapl;
    (void)H5Pclose(fapl);
    return -1;
}

/* What a file is that HDF5 cannot open, judged by its first bytes; NULL if it is an HDF5 file. */
static const char *guess(const unsigned char *head, size_t n) {
    if (n == 0) return "is empty";
    if (n >= 2 && head[0] == 0x1f && head[1] == 0x8b)
        return "is a gzip file, not HDF5; 'mnist_dist convert' makes HDF5 from IDX and CSV files";
    if (n >= 4 && head[0] == 0 && head[1] == 0 && head[2] == 0x08)
        return "is an IDX file, not HDF5; 'mnist_dist convert' makes HDF5 of its folder";
    if (n >= 4 && memcmp(head, "PK\3\4", 4) == 0)
        return "is a zip or npz file, not HDF5; 'mnist_dist convert' makes HDF5 from npz files";
    if (n >= 8 && memcmp(head, "\x89HDF\r\n\x1a\n", 8) == 0) return NULL;
    return "is not an HDF5 file";
}

mnd_status mnd_h5_open(const char *path, const char *hint, hid_t *file) {
    mnd_status status = MND_OK;
    hid_t fapl = -1;
    unsigned char head[8];
    ssize_t n_head = 0;
    *file = -1;
    silence();
    /* Opened here first: HDF5 would block on a FIFO, and errno explains more than HDF5 does. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return mnd_fail(errno == ENOENT ? MND_NOT_FOUND : MND_IO, "%s: %s%s%s", path,
                        strerror(errno), errno == ENOENT && hint[0] != '\0' ? "; " : "",
                        errno == ENOENT ? hint : "");
    struct stat st;
    if (fstat(fd, &st) != 0) MND_FAIL(MND_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        MND_FAIL(MND_FORMAT, "%s: is %s, not an HDF5 file", path,
                 S_ISDIR(st.st_mode) ? "a folder" : "not a regular file");
    n_head = pread(fd, head, sizeof head, 0);
    if (n_head < 0) MND_FAIL(MND_IO, "%s: cannot read: %s", path, strerror(errno));
    MND_TRY(mnd_h5_check(path, fd, (int64_t)st.st_size));
    fapl = access_list();
    if (fapl < 0) MND_FAIL(MND_INTERNAL, "%s: HDF5 has no access properties", path);
    *file = H5Fopen(path, H5F_ACC_RDONLY, fapl);
    if (*file < 0) {
        char why[512];
        if (reason(why)) MND_FAIL(MND_IO, "%s: cannot open: %s", path, why);
        const char *other = guess(head, (size_t)n_head);
        if (other != NULL) MND_FAIL(MND_FORMAT, "%s: %s", path, other);
        MND_FAIL(MND_FORMAT, "%s: damaged or truncated (HDF5: %s); make or fetch it again", path,
                 why);
    }
cleanup:
    if (fapl >= 0) (void)H5Pclose(fapl);
    close(fd);
    return status;
}

mnd_status mnd_h5_create(const char *path, hid_t *file) {
    mnd_status status = MND_OK;
    hid_t fapl = -1, fcpl = -1;
    *file = -1;
    silence();
    /* Opened here first: errno explains more than the error stack of HDF5. */
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return mnd_fail(MND_IO, "%s: cannot create: %s", path, strerror(errno));
    close(fd);
    fapl = access_list();
    if (fapl < 0) MND_FAIL(MND_INTERNAL, "%s: HDF5 has no access properties", path);
    fcpl = H5Pcreate(H5P_FILE_CREATE);
    if (fcpl < 0 || H5Pset_obj_track_times(fcpl, false) < 0 ||
        H5Pset_libver_bounds(fapl, H5F_LIBVER_V18, H5F_LIBVER_V18) < 0)
        MND_FAIL(MND_INTERNAL, "%s: HDF5 does not know its file format 1.8", path);
    *file = H5Fcreate(path, H5F_ACC_TRUNC, fcpl, fapl);
    if (*file < 0) status = mnd_h5_fail(path, "create");
cleanup:
    if (fcpl >= 0) (void)H5Pclose(fcpl);
    if (fapl >= 0) (void)H5Pclose(fapl);
    if (status != MND_OK) unlink(path);
    return status;
}

mnd_status mnd_h5_close(const char *path, hid_t *file) {
    const hid_t id = *file;
    *file = -1;
    if (id < 0 || H5Fclose(id) >= 0) return MND_OK;
    return mnd_h5_fail(path, "write");
}

void mnd_h5_drop(hid_t *file) {
    if (*file >= 0) (void)H5Fclose(*file);
    *file = -1;
}

static int descriptor(hid_t file) {
    void *handle = NULL;
    if (H5Fget_vfd_handle(file, H5P_DEFAULT, &handle) < 0 || handle == NULL) return -1;
    return *(int *)handle; /* the default (POSIX) driver returns a pointer to its descriptor */
}

int64_t mnd_h5_size(hid_t file) {
    struct stat st;
    const int fd = descriptor(file);
    return fd >= 0 && fstat(fd, &st) == 0 ? (int64_t)st.st_size : -1;
}

mnd_status mnd_h5_reserve(const char *path, hid_t file, int64_t bytes) {
    const int fd = descriptor(file);
    if (fd < 0) return mnd_h5_fail(path, "reach the file");
    int bad;
    do bad = fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) != 0 ? errno : 0;
    while (bad == EINTR);
    if (bad == 0 || bad == EOPNOTSUPP || bad == ENOSYS) return MND_OK;
    return mnd_fail(MND_IO, "%s: cannot reserve %.1f MB on its disk: %s", path, (double)bytes / 1e6,
                    strerror(bad));
}

hid_t mnd_h5_plain_dcpl(void) {
    const hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    if (dcpl < 0) return dcpl;
    if (H5Pset_layout(dcpl, H5D_CONTIGUOUS) >= 0 &&
        H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY) >= 0 &&
        H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER) >= 0 &&
        H5Pset_obj_track_times(dcpl, false) >= 0)
        return dcpl;
    (void)H5Pclose(dcpl);
    return -1;
}

/* A new type for strings of a fixed length, or -1. */
static hid_t string_type(size_t size) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0) return type;
    if (H5Tset_size(type, size) >= 0 && H5Tset_strpad(type, H5T_STR_NULLTERM) >= 0 &&
        H5Tset_cset(type, H5T_CSET_UTF8) >= 0)
        return type;
    (void)H5Tclose(type);
    return -1;
}

mnd_status mnd_h5_write_strings(const char *path, hid_t object, const char *name, const char *text,
                                int n, size_t size) {
    mnd_status status = MND_OK;
    hid_t attribute = -1;
    const hsize_t dim = (hsize_t)(n < 0 ? 1 : n);
    const hid_t type = string_type(size);
    const hid_t space = n < 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &dim, NULL);
    if (type < 0 || space < 0) MND_FAIL(MND_INTERNAL, "%s: HDF5 has no strings", path);
    attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0 || H5Awrite(attribute, type, text) < 0) status = mnd_h5_fail(path, "write");
cleanup:
    if (attribute >= 0) (void)H5Aclose(attribute);
    if (space >= 0) (void)H5Sclose(space);
    if (type >= 0) (void)H5Tclose(type);
    return status;
}

/*
 * Copies a string of n_in bytes that need not be terminated: at most size - 1 bytes, without a
 * partial UTF-8 character at the end and with '?' for control characters.
 */
static void copy_string(char *out, size_t size, const char *in, size_t n_in) {
    size_t n = 0;
    while (n < n_in && n < size && in[n] != '\0') n++;
    if (n == size) {
        n--;
        while (n > 0 && ((unsigned char)in[n] & 0xc0) == 0x80) n--;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = (unsigned char)in[i] < 0x20 || in[i] == 0x7f ? '?' : in[i];
    out[n] = '\0';
}

mnd_status mnd_h5_read_strings(const char *path, hid_t object, const char *name, char *out, int max,
                               size_t size, int *n) {
    mnd_status status = MND_OK;
    hid_t attribute = -1, type = -1, space = -1;
    char *buffer = NULL;
    *n = 0;
    const htri_t exists = H5Aexists(object, name);
    if (exists < 0)
        MND_FAIL(MND_FORMAT, "%s: attribute '%s' is damaged; make or fetch the file again", path,
                 name);
    if (exists == 0) return MND_OK;
    attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0)
        MND_FAIL(MND_FORMAT, "%s: attribute '%s' is damaged; make or fetch the file again", path,
                 name);
    type = H5Aget_type(attribute);
    space = H5Aget_space(attribute);
    if (type < 0 || space < 0 || H5Tget_class(type) != H5T_STRING)
        MND_FAIL(MND_FORMAT, "%s: attribute '%s' holds no text", path, name);
    const bool variable = H5Tis_variable_str(type) != 0;
    const size_t length = variable ? 1 : H5Tget_size(type);
    const hssize_t count = H5Sget_simple_extent_npoints(space);
    if (count < 1 || count > max || length < 1 || length > LONGEST_STRING)
        MND_FAIL(MND_FORMAT, "%s: attribute '%s' holds %lld texts of %zu bytes", path, name,
                 (long long)count, length);
    if (variable) {
        /* More than `size` bytes of each, so that copy_string sees what it has to cut. */
        buffer = calloc((size_t)count, LONGEST_STRING);
        if (buffer == NULL)
            MND_FAIL(MND_NO_MEMORY, "%s: no memory to read attribute '%s'", path, name);
        const int found =
            mnd_h5_read_variable(descriptor(object), name, (int)count, buffer, LONGEST_STRING);
        if (found < 0)
            MND_FAIL(MND_FORMAT,
                     "%s: attribute '%s' is damaged; store it with dtype='S31', or remove it", path,
                     name);
        *n = found > 0 ? (int)count : 0;
    }
    for (int i = 0; variable && i < *n; i++)
        copy_string(out + (size_t)i * size, size, buffer + (size_t)i * LONGEST_STRING,
                    LONGEST_STRING);
    if (variable) goto cleanup;
    buffer = malloc((size_t)count * length);
    if (buffer == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory to read attribute '%s'", path, name);
    if (H5Aread(attribute, type, buffer) < 0)
        MND_FAIL(MND_FORMAT, "%s: attribute '%s' cannot be read; make or fetch the file again",
                 path, name);
    *n = (int)count;
    for (int i = 0; i < *n; i++)
        copy_string(out + (size_t)i * size, size, buffer + (size_t)i * length, length);
cleanup:
    free(buffer);
    if (space >= 0) (void)H5Sclose(space);
    if (type >= 0) (void)H5Tclose(type);
    if (attribute >= 0) (void)H5Aclose(attribute);
    return status;
}
