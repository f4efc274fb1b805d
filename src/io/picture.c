/* picture.c - pictures as characters on a terminal. */
#include "mnist_dist/picture.h"

#include "mnist_dist/memory.h"

void mnd_picture_free(mnd_picture *picture) {
    mnd_free(picture->pixel);
    *picture = (mnd_picture){0};
}

void mnd_picture_draw(FILE *stream, const uint8_t *pixel, int height, int width, int colour) {
    if (!colour) {
        static const char shade[] = " .:-=+*#%@";
        enum { LAST = sizeof shade - 2 };
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                const char c = shade[(pixel[y * width + x] * LAST + 127) / 255];
                fputc(c, stream);
                fputc(c, stream);
            }
            fputc('\n', stream);
        }
        return;
    }
    for (int y = 0; y < height; y += 2) {
        int upper = -1, lower = -1; /* the colours that the terminal uses now */
        for (int x = 0; x < width; x++) {
            if (upper != pixel[y * width + x]) {
                upper = pixel[y * width + x];
                fprintf(stream, "\x1b[38;2;%d;%d;%dm", upper, upper, upper);
            }
            if (y + 1 < height && lower != pixel[(y + 1) * width + x]) {
                lower = pixel[(y + 1) * width + x];
                fprintf(stream, "\x1b[48;2;%d;%d;%dm", lower, lower, lower);
            }
            fputs("\u2580", stream);
        }
        fputs("\x1b[0m\n", stream);
    }
}

void mnd_picture_numbers(FILE *stream, const uint8_t *pixel, int height, int width) {
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            fprintf(stream, "%3d%c", pixel[y * width + x], x + 1 < width ? ' ' : '\n');
}
