#include "terminal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool terminal_color(const char *choice) {
    if (strcmp(choice, "auto") != 0) return strcmp(choice, "always") == 0;
    const char *no = getenv("NO_COLOR"), *kind = getenv("TERM");
    return isatty(STDOUT_FILENO) == 1 && (no == NULL || no[0] == '\0') && kind != NULL &&
           strcmp(kind, "dumb") != 0;
}
