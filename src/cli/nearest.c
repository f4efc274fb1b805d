#include "nearest.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

enum { LONGEST = 63 }; /* longer words are not compared */

static int fold(char c) { return c == '_' ? '-' : tolower((unsigned char)c); }

static int least(int a, int b) { return a < b ? a : b; }

/* Damerau's distance, in the form that edits no letter twice ("optimal string alignment"). */
static int edits(const char *a, int n, const char *b, int m) {
    int row[LONGEST + 1][LONGEST + 1];
    for (int i = 0; i <= n; i++) row[i][0] = i;
    for (int j = 0; j <= m; j++) row[0][j] = j;
    for (int i = 1; i <= n; i++)
        for (int j = 1; j <= m; j++) {
            const int x = fold(a[i - 1]), y = fold(b[j - 1]);
            int d = row[i - 1][j - 1] + (x != y);
            d = least(d, least(row[i - 1][j], row[i][j - 1]) + 1);
            if (i > 1 && j > 1 && x == fold(b[j - 2]) && y == fold(a[i - 2]))
                d = least(d, row[i - 2][j - 2] + 1);
            row[i][j] = d;
        }
    return row[n][m];
}

void nearest_offer(nearest *n, const char *candidate) {
    const size_t typed = strlen(n->word), length = strlen(candidate);
    if (typed == 0 || length == 0 || typed > LONGEST || length > LONGEST) return;
    int distance = edits(n->word, (int)typed, candidate, (int)length);
    const int limit = (int)(typed > length ? typed : length) / 3;
    bool near = distance <= (limit > 0 ? limit : 1);
    if (typed >= 3 && length > typed && edits(n->word, (int)typed, candidate, (int)typed) == 0) {
        distance = 1;
        near = true;
    }
    if (!near || (n->best != NULL && distance >= n->distance)) return;
    n->best = candidate;
    n->distance = distance;
}
