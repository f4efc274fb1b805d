#include "answer.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

int answer_top(const float *part, int classes, int top, int *out) {
    bool taken[MND_MAX_CLASSES] = {false};
    int n = 0;
    for (; n < top && n < classes; n++) {
        int best = -1;
        for (int i = 0; i < classes; i++)
            if (!taken[i] && (best < 0 || part[i] > part[best])) best = i;
        taken[best] = true;
        out[n] = best;
    }
    return n;
}

/* Prints the object as one line and frees it. A member that could not be added makes `good` false.
 */
static mnd_status print_line(cJSON *object, bool good) {
    char *text = good ? cJSON_PrintUnformatted(object) : NULL;
    cJSON_Delete(object);
    if (text == NULL) return mnd_fail(MND_NO_MEMORY, "no memory for a line of JSON");
    puts(text); /* main finds out whether stdout could be written */
    cJSON_free(text);
    return MND_OK;
}

/* Numbers that JSON cannot express (NaN, infinity) become null, as cJSON does. */
static bool add_number(cJSON *object, const char *name, double x) {
    return cJSON_AddNumberToObject(object, name, x) != NULL;
}

static bool add_text(cJSON *object, const char *name, const char *text) {
    return cJSON_AddStringToObject(object, name, text) != NULL;
}

/* A float32 probability with its own digits only: 0.1, not 0.10000000149011612. */
static double short_number(float x) {
    char text[32];
    snprintf(text, sizeof text, "%.9g", (double)x);
    return strtod(text, NULL);
}

static bool add_top(cJSON *object, const answer *a, const int *class, int n) {
    cJSON *list = cJSON_AddArrayToObject(object, "top");
    bool good = list != NULL;
    for (int i = 0; good && i < n; i++) {
        cJSON *item = cJSON_CreateObject();
        good = item != NULL && cJSON_AddItemToArray(list, item) &&
               add_number(item, "class", class[i]) &&
               add_text(item, "name", a->class_name(a->context, class[i])) &&
               add_number(item, "probability", short_number(a->part[class[i]]));
    }
    return good;
}

/* "checkpoint", or "checkpoints" of several. */
static bool add_checkpoints(cJSON *object, const checkpoint_names *names) {
    if (names->n == 1) return add_text(object, "checkpoint", names->path[0]);
    cJSON *list = cJSON_AddArrayToObject(object, "checkpoints");
    bool good = list != NULL;
    for (int i = 0; good && i < names->n; i++)
        good = cJSON_AddItemToArray(list, cJSON_CreateString(names->path[i]));
    return good;
}

mnd_status answer_predict(const answer *a) {
    int class[MND_MAX_CLASSES];
    cJSON *object = cJSON_CreateObject();
    bool good = object != NULL && add_checkpoints(object, a->checkpoints) &&
                add_text(object, "file", a->file);
    if (a->split != NULL)
        good = good && add_text(object, "split", a->split) &&
               add_number(object, "index", (double)a->index);
    if (a->done != NULL)
        good = good && add_text(object, "done", a->done) && add_number(object, "digits", a->digits);
    if (a->digit > 0) good = good && add_number(object, "digit", a->digit);
    if (a->error != NULL) return print_line(object, good && add_text(object, "error", a->error));
    const int n = answer_top(a->part, a->classes, a->top, class);
    good = good && add_text(object, "answer", a->class_name(a->context, class[0])) &&
           add_number(object, "class", class[0]) &&
           add_number(object, "probability", short_number(a->part[class[0]]));
    if (a->label >= 0)
        good = good && add_number(object, "label", a->label) &&
               cJSON_AddBoolToObject(object, "right", a->label == class[0]) != NULL;
    return print_line(object, good && add_top(object, a, class, n));
}

/* A quotient, or null for 0/0. */
static bool add_ratio(cJSON *object, const char *name, int64_t part, int64_t all) {
    if (all == 0) return cJSON_AddNullToObject(object, name) != NULL;
    return add_number(object, name, (double)part / (double)all);
}

static bool add_classes(cJSON *object, const mnd_dataset_info *info, const int64_t *confusion) {
    const int n = info->classes;
    cJSON *list = cJSON_AddArrayToObject(object, "classes");
    bool good = list != NULL;
    for (int i = 0; good && i < n; i++) {
        int64_t answered = 0, images = 0;
        for (int j = 0; j < n; j++) {
            answered += confusion[j * n + i];
            images += confusion[i * n + j];
        }
        const int64_t right = confusion[i * n + i];
        cJSON *item = cJSON_CreateObject();
        good = item != NULL && cJSON_AddItemToArray(list, item) && add_number(item, "class", i) &&
               add_text(item, "name", info->class_name[i]) &&
               add_number(item, "images", (double)images) &&
               add_ratio(item, "precision", right, answered) &&
               add_ratio(item, "recall", right, images);
    }
    return good;
}

static bool add_confusion(cJSON *object, int n, const int64_t *confusion) {
    cJSON *rows = cJSON_AddArrayToObject(object, "confusion");
    bool good = rows != NULL;
    for (int i = 0; good && i < n; i++) {
        cJSON *row = cJSON_CreateArray();
        good = row != NULL && cJSON_AddItemToArray(rows, row);
        for (int j = 0; good && j < n; j++)
            good = cJSON_AddItemToArray(row, cJSON_CreateNumber((double)confusion[i * n + j]));
    }
    return good;
}

static bool add_network(cJSON *object, const answer_network *k) {
    return add_text(object, "checkpoint", k->path) &&
           add_number(object, "epoch", (double)k->epoch) &&
           add_number(object, "step", (double)k->step) && add_text(object, "model", k->spec);
}

/* The network, or the list of networks with what each got. */
static bool add_networks(cJSON *object, const answer_evaluation *e) {
    if (e->n == 1) return add_network(object, e->network);
    cJSON *list = cJSON_AddArrayToObject(object, "checkpoints");
    bool good = list != NULL;
    for (int i = 0; good && i < e->n; i++) {
        const answer_network *k = &e->network[i];
        cJSON *item = cJSON_CreateObject();
        good = item != NULL && cJSON_AddItemToArray(list, item) && add_network(item, k) &&
               add_number(item, "correct", (double)k->correct) &&
               add_ratio(item, "accuracy", k->correct, e->result->count) &&
               add_number(item, "loss", k->loss);
    }
    return good;
}

static bool add_misread(cJSON *object, const answer_evaluation *e) {
    if (e->n > 1 && !add_number(object, "misread_by_all", (double)e->n_misread)) return false;
    if (!e->list_misread) return true;
    cJSON *list = cJSON_AddArrayToObject(object, "misread");
    bool good = list != NULL;
    for (int64_t i = 0; good && i < e->n_misread; i++)
        good = cJSON_AddItemToArray(list, cJSON_CreateNumber((double)e->misread[i]));
    return good;
}

mnd_status answer_evaluate(const answer_evaluation *e) {
    const mnd_evaluation *result = e->result;
    cJSON *object = cJSON_CreateObject();
    const bool good = object != NULL && add_networks(object, e) &&
                      add_text(object, "data", e->data) && add_text(object, "split", e->split) &&
                      add_number(object, "images", (double)result->count) &&
                      add_number(object, "correct", (double)result->correct) &&
                      add_ratio(object, "accuracy", result->correct, result->count) &&
                      add_number(object, "loss", result->loss) && add_misread(object, e) &&
                      add_classes(object, e->info, result->confusion) &&
                      add_confusion(object, e->info->classes, result->confusion);
    return print_line(object, good);
}
