/* checkpoints.h - the checkpoints that a user names on the command line. */
#ifndef MNIST_DIST_CLI_CHECKPOINTS_H
#define MNIST_DIST_CLI_CHECKPOINTS_H

#include "mnist_dist/checkpoint.h"
#include "mnist_dist/dataset.h"

/* The names of checkpoint files; zero it. */
typedef struct checkpoint_names {
    char (*path)[4096]; /* (n), owned */
    int n;
} checkpoint_names;

/*
 * The files that the arguments mean, in their order: each is a file, a folder for its newest
 * checkpoint, or the folder of an ensemble for the newest checkpoint of each member. Warns of
 * damaged files that are passed over. On failure `out` is empty.
 */
MND_CHECKED mnd_status checkpoint_names_find(char *const *argument, int n, checkpoint_names *out);
void checkpoint_names_free(checkpoint_names *names);

/* MND_MISMATCH unless the network takes such images in at least as many classes. */
MND_CHECKED mnd_status checkpoint_fits_data(const mnd_checkpoint *ckpt, const char *path,
                                            const mnd_dataset_info *info, const char *data);
/* MND_MISMATCH unless both networks take the same images and tell the same classes apart. */
MND_CHECKED mnd_status checkpoint_fits_first(const mnd_checkpoint *ckpt, const char *path,
                                             const mnd_checkpoint *first, const char *first_path);

#endif
