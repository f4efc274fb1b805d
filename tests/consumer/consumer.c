/* consumer.c - what another project does with the installed library. */
#include <stdio.h>

#include <mnist_dist/dataset.h>
#include <mnist_dist/model.h>

int main(void) {
    const mnd_shape input = {.ndim = 3, .dim = {28, 28, 1}};
    const mnd_model_options options = {.threads = 1};
    char spec[256];
    mnd_model *model = NULL;
    if (mnd_model_spec("mlp512", 10, spec, sizeof spec) != MND_OK ||
        mnd_model_create(spec, &input, 10, &options, &model) != MND_OK) {
        fprintf(stderr, "%s\n", mnd_error());
        return 1;
    }
    printf("%s: %zu parameters\n", spec, mnd_model_n_param(model));
    mnd_model_destroy(&model);

    mnd_dataset *data = NULL;
    if (mnd_dataset_open("/nowhere.h5", &data) != MND_NOT_FOUND) return 1;
    printf("%s\n", mnd_error());
    return 0;
}
